// States in host memory, over the communication thread. Nothing is copied here: the link reads from
// and writes to the memory given.

#include "pipeline/transfer.h"

#include <stdlib.h>

struct host_transport {
    struct transport base;
    struct comm *comm;       // borrowed
    struct backend *backend; // borrowed
};

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
    const struct transfer_order order = {
        .sending = true, .channel = channel, .peer = peer, .tag = tag, .out = data, .bytes = bytes};
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
    const struct transfer_order order = {
        .channel = channel, .peer = peer, .tag = tag, .in = data, .bytes = bytes};
    TRY(transfer_make(self->comm, &order, transfer));
    transfer_start(*transfer);
    return STATUS_OK;
}

static enum status host_order(struct transport *transport, struct transfer *transfer) {
    return call_later((struct host_transport *)transport, transfer, wait_when_reached);
}

static enum status host_finish(struct transport *transport, struct transfer **transfer) {
    (void)transport;
    const enum status status = transfer_wait(*transfer);
    transfer_drop(*transfer);
    *transfer = NULL;
    return status;
}

static enum status host_health(struct transport *transport) {
    return comm_health(((struct host_transport *)transport)->comm);
}

static void host_close(struct transport *transport) {
    free(transport);
}

static const struct transport_table host_table = {
    .name = "host",
    .send = host_send,
    .receive = host_receive,
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
