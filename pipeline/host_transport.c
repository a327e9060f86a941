// States over the communication thread. Where backend memory is the host's, the link reads from and
// writes to it, and nothing is copied. Else each state goes through a block of the backend's host
// memory: queued download, send; receive, queued upload. There order() waits on the host, not in the
// queue, since a backend may run the calls of all its queues one after the other, and a call that
// waits would keep those back that it waits for.

#include "pipeline/transfer.h"

#include <stdlib.h>

#define STAGING_LEAST ((size_t)4096)

struct staging {
    struct staging *next, *all;
    size_t room;
    void *memory; // [room], from host_alloc
};

struct host_transport {
    struct transport base;
    struct comm *comm;       // borrowed
    struct backend *backend; // borrowed
    // Thread: compute, which alone sends, receives and finishes
    struct staging *spare, *all;
};

static bool is_staged(const struct host_transport *self) {
    return !self->backend->table->host_memory;
}

// States have few sizes, so a block is used again for its own size and its neighbours.
static enum status staging_take(struct host_transport *self, size_t bytes, struct staging **taken) {
    size_t room = STAGING_LEAST;
    while (room < bytes) {
        room *= 2;
    }
    for (struct staging **at = &self->spare; *at != NULL; at = &(*at)->next) {
        if ((*at)->room != room) continue;
        *taken = *at;
        *at = (*at)->next;
        return STATUS_OK;
    }
    struct staging *made = calloc(1, sizeof *made);
    if (made == NULL) return FAIL(NO_MEMORY, "staging of %zu bytes", room);
    const enum status status = self->backend->table->host_alloc(self->backend, room, &made->memory);
    if (status != STATUS_OK) {
        free(made);
        return status;
    }
    made->room = room;
    made->all = self->all;
    self->all = made;
    *taken = made;
    return STATUS_OK;
}

static void staging_give(struct host_transport *self, struct staging *staging) {
    if (staging == NULL) return;
    staging->next = self->spare;
    self->spare = staging;
}

static void start_when_reached(void *argument) {
    struct transfer *transfer = argument;
    transfer_start(transfer);
    transfer_drop(transfer);
}

static void wait_when_reached(void *argument) {
    struct transfer *transfer = argument;
    // A failure cannot be told here: comm has noted it, and transport health tells.
    (void)transfer_wait(transfer);
    transfer_drop(transfer);
}

// The queued call holds the transfer until it has run.
static enum status call_later(struct host_transport *self, struct transfer *transfer,
                              void (*function)(void *)) {
    transfer_hold(transfer);
    const enum status status = self->backend->table->call(self->backend, function, transfer);
    if (status != STATUS_OK) transfer_drop(transfer);
    return status;
}

static enum status host_send(struct transport *transport, enum channel channel, int32_t peer,
                             uint32_t tag, const void *data, size_t bytes,
                             struct transfer **transfer) {
    struct host_transport *self = (struct host_transport *)transport;
    struct transfer *made = NULL;
    struct transfer_order order = {
        .sending = true, .channel = channel, .peer = peer, .tag = tag, .out = data, .bytes = bytes};
    if (is_staged(self)) {
        // after a failure the block stays with the transport until it is closed
        TRY(staging_take(self, bytes, &order.staging));
        order.out = order.staging->memory;
        TRY(self->backend->table->download(self->backend, order.staging->memory, data, bytes));
    }
    TRY(transfer_make(self->comm, &order, &made));
    const enum status status = call_later(self, made, start_when_reached);
    if (status != STATUS_OK) {
        transfer_drop(made);
        return status;
    }
    *transfer = made;
    return STATUS_OK;
}

static enum status host_receive(struct transport *transport, enum channel channel, int32_t peer,
                                uint32_t tag, void *data, size_t bytes,
                                struct transfer **transfer) {
    struct host_transport *self = (struct host_transport *)transport;
    struct transfer_order order = {
        .channel = channel, .peer = peer, .tag = tag, .in = data, .bytes = bytes, .place = data};
    if (is_staged(self)) {
        TRY(staging_take(self, bytes, &order.staging));
        order.in = order.staging->memory;
    }
    TRY(transfer_make(self->comm, &order, transfer));
    transfer_start(*transfer);
    return STATUS_OK;
}

// Nothing to do for either: all is started when it is posted, in the order of the queue.
static enum status host_batch(struct transport *transport, int32_t batch) {
    (void)transport;
    (void)batch;
    return STATUS_OK;
}

static enum status host_order(struct transport *transport, struct transfer *transfer) {
    struct host_transport *self = (struct host_transport *)transport;
    const struct transfer_order *order = transfer_order(transfer);
    if (!is_staged(self)) return call_later(self, transfer, wait_when_reached);
    TRY(transfer_wait(transfer));
    return self->backend->table->upload(self->backend, order->place, order->in, order->bytes);
}

static enum status host_finish(struct transport *transport, struct transfer **transfer) {
    struct host_transport *self = (struct host_transport *)transport;
    const enum status status = transfer_wait(*transfer);
    if (status == STATUS_OK) staging_give(self, transfer_order(*transfer)->staging);
    transfer_drop(*transfer);
    *transfer = NULL;
    return status;
}

static enum status host_health(struct transport *transport) {
    return comm_health(((struct host_transport *)transport)->comm);
}

static void host_close(struct transport *transport) {
    struct host_transport *self = (struct host_transport *)transport;
    while (self->all != NULL) {
        struct staging *staging = self->all;
        self->all = staging->all;
        self->backend->table->host_release(self->backend, staging->memory);
        free(staging);
    }
    free(self);
}

static const struct transport_table host_table = {
    .name = "host",
    .send = host_send,
    .receive = host_receive,
    .passed = host_batch,
    .flush = host_batch,
    .order = host_order,
    .finish = host_finish,
    .health = host_health,
    .close = host_close,
};

enum status host_transport_open(struct comm *comm, struct backend *backend,
                                struct transport **opened) {
    struct host_transport *self = calloc(1, sizeof *self);
    if (self == NULL) return FAIL(NO_MEMORY, "host transport");
    self->base.table = &host_table;
    self->comm = comm;
    self->backend = backend;
    *opened = &self->base;
    return STATUS_OK;
}
