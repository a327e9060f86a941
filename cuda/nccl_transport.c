// The compute thread's calls. All of them queue and come back.
//
// A posted receive of NCCL occupies multiprocessors until its peer sends, so receives of the line are
// not launched when they are posted but LOOK_AHEAD transfers before they are needed: when order() of
// one is called, the next but one is launched, gated by an event of the compute stream.

#include "cuda/nccl_inner.h"
#include "ops/base/check.h"

#include <stdlib.h>
#include <time.h>

#define LOOK_AHEAD 2 // transfers: both parts of a layer
#define NAP_NS     20000

static struct nccl_transport *nccl_of(struct transport *transport) {
    return (struct nccl_transport *)transport;
}

static enum status launch_take(struct nccl_transport *self, struct launch **taken) {
    struct launch *launch = self->spare_launch;
    if (launch != NULL) {
        self->spare_launch = launch->next;
    } else {
        launch = calloc(1, sizeof *launch);
        if (launch == NULL) return FAIL(NO_MEMORY, "a transfer");
        enum status status = self->place.streams->event_open(&launch->gate);
        if (status == STATUS_OK) status = self->place.streams->event_open(&launch->done);
        if (status != STATUS_OK) {
            self->place.streams->event_close(launch->gate);
            free(launch);
            return status;
        }
        launch->all = self->all_launches;
        self->all_launches = launch;
    }
    launch->next = NULL;
    launch->holders = 0;
    launch->due_ns = 0;
    *taken = launch;
    return STATUS_OK;
}

// The lane's stream waits until the compute stream comes to where it is now. That of the moves waits for
// what flush() says, and no more.
static enum status open_gate(struct nccl_transport *self, struct lane *lane,
                             struct launch **opened) {
    const struct stream_api *streams = self->place.streams;
    const bool moves = lane == &self->lane[LANE_MOVES];
    struct launch *launch = NULL;
    TRY(launch_take(self, &launch));
    enum status status = streams->record(launch->gate, moves ? lane->stream : self->place.compute);
    if (status == STATUS_OK && !moves) status = streams->wait(lane->stream, launch->gate);
    if (status != STATUS_OK) {
        launch->next = self->spare_launch;
        self->spare_launch = launch;
        return status;
    }
    *opened = launch;
    return STATUS_OK;
}

static enum status close_launch(struct nccl_transport *self, struct lane *lane,
                                struct launch *launch) {
    pthread_mutex_lock(&self->lock);
    if (lane->last != NULL) {
        lane->last->next = launch;
    } else {
        lane->first = launch;
    }
    lane->last = launch;
    pthread_mutex_unlock(&self->lock);
    return self->place.streams->record(launch->done, lane->stream);
}

static enum status call_nccl(struct nccl_transport *self, const struct transfer *t) {
    const struct nccl_api *nccl = self->place.nccl;
    const struct lane *lane = t->lane;
    const int peer = t->peer - lane->peer_base;
    const int result =
        t->sending ? nccl->send(t->out, t->bytes, NCCL_INT8, peer, lane->comm, lane->stream)
                   : nccl->receive(t->in, t->bytes, NCCL_INT8, peer, lane->comm, lane->stream);
    return nccl_check(self, result, t->sending ? "a send" : "a receive");
}

// All transfers from `first` on as one launch. Sends and receives in it do not wait for each other.
static enum status launch(struct nccl_transport *self, struct lane *lane, struct transfer *first) {
    const struct nccl_api *nccl = self->place.nccl;
    bool grouped = false;
    enum status status = STATUS_OK;
    struct launch *launch = NULL;
    TRY(open_gate(self, lane, &launch));
    pthread_mutex_lock(&self->calls);
    atomic_store(&self->calling, (int)(lane - self->lane));
    // after a failure the communicators are gone, or about to go
    if (atomic_load(&self->failed)) status = STATUS_PEER;
    if (status == STATUS_OK && first->next != NULL) {
        status = nccl_check(self, nccl->group_start(), "a group");
        grouped = status == STATUS_OK;
    }
    for (struct transfer *t = first; t != NULL; t = t->next) {
        if (status == STATUS_OK) status = call_nccl(self, t);
        t->launch = launch;
        launch->holders++;
    }
    if (grouped) {
        const enum status ended = nccl_check(self, nccl->group_end(), "a group");
        if (status == STATUS_OK) status = ended;
    }
    atomic_store(&self->calling, LANES);
    pthread_mutex_unlock(&self->calls);
    const enum status closed = close_launch(self, lane, launch);
    return status == STATUS_OK ? closed : status;
}

static enum status launch_posted(struct nccl_transport *self, struct lane *lane) {
    while (lane->posted != NULL && lane->ahead < LOOK_AHEAD) {
        struct transfer *t = lane->posted;
        lane->posted = t->next;
        t->next = NULL;
        lane->ahead++;
        TRY(launch(self, lane, t));
    }
    return STATUS_OK;
}

static enum status transfer_make(struct nccl_transport *self, const struct transfer *wanted,
                                 struct transfer **made) {
    struct transfer *t = self->spare, *all = NULL;
    if (atomic_load(&self->failed)) return STATUS_PEER;
    // not its communicator, which the watch may take away at any time
    CHECK(wanted->lane->stream != NULL);
    if (t != NULL) {
        self->spare = t->next;
        all = t->all;
    } else {
        t = malloc(sizeof *t);
        if (t == NULL) return FAIL(NO_MEMORY, "a transfer");
        all = self->all;
        self->all = t;
    }
    *t = *wanted;
    t->all = all;
    *made = t;
    return STATUS_OK;
}

static void post(struct transfer *t) {
    struct lane *lane = t->lane;
    if (lane->posted != NULL) {
        lane->posted_last->next = t;
    } else {
        lane->posted = t;
    }
    lane->posted_last = t;
}

static enum status nccl_send(struct transport *transport, enum channel channel, int32_t peer,
                             uint32_t tag, const void *data, size_t bytes,
                             struct transfer **transfer) {
    struct nccl_transport *self = nccl_of(transport);
    const bool line = channel == CHANNEL_LINE;
    (void)tag; // the order of calls is what matches
    const struct transfer wanted = {.lane = &self->lane[line ? LANE_RIGHT : LANE_MOVES],
                                    .sending = true,
                                    .peer = peer,
                                    .out = data,
                                    .bytes = bytes};
    TRY(transfer_make(self, &wanted, transfer));
    if (line) return launch(self, (*transfer)->lane, *transfer);
    post(*transfer);
    return STATUS_OK;
}

static enum status nccl_receive(struct transport *transport, enum channel channel, int32_t peer,
                                uint32_t tag, void *data, size_t bytes,
                                struct transfer **transfer) {
    struct nccl_transport *self = nccl_of(transport);
    const bool line = channel == CHANNEL_LINE;
    (void)tag;
    const struct transfer wanted = {.lane = &self->lane[line ? LANE_LEFT : LANE_MOVES],
                                    .peer = peer,
                                    .in = data,
                                    .bytes = bytes};
    TRY(transfer_make(self, &wanted, transfer));
    post(*transfer);
    return line ? launch_posted(self, (*transfer)->lane) : STATUS_OK;
}

static enum status nccl_passed(struct transport *transport, int32_t batch) {
    struct nccl_transport *self = nccl_of(transport);
    return self->place.streams->record(self->passed[batch], self->place.compute);
}

// As soon as the step before has written the batch: rank 0 waits for what the last rank sends in every
// step of a document that fills all ranks. Receives wait for as much here, or they would occupy the
// device for a step; their slots nothing queued uses.
static enum status nccl_flush(struct transport *transport, int32_t batch) {
    struct nccl_transport *self = nccl_of(transport);
    struct lane *lane = &self->lane[LANE_MOVES];
    struct transfer *first = lane->posted;
    if (first == NULL) return STATUS_OK;
    TRY(self->place.streams->wait(lane->stream, self->passed[batch]));
    lane->posted = NULL;
    return launch(self, lane, first);
}

static enum status nccl_order(struct transport *transport, struct transfer *transfer) {
    struct nccl_transport *self = nccl_of(transport);
    if (atomic_load(&self->failed)) return STATUS_PEER;
    CHECK(transfer->launch != NULL); // flushed, and in the order posted
    if (transfer->lane == &self->lane[LANE_LEFT]) {
        transfer->lane->ahead--;
        TRY(launch_posted(self, transfer->lane));
    }
    return self->place.streams->wait(self->place.compute, transfer->launch->done);
}

static enum status await(struct nccl_transport *self, const struct launch *launch) {
    bool done = false;
    for (;;) {
        if (atomic_load(&self->failed)) return STATUS_PEER;
        TRY(self->place.streams->query(launch->done, &done));
        if (done) return STATUS_OK;
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
}

static void unlist(struct lane *lane, struct launch *launch) {
    struct launch *before = NULL;
    for (struct launch *at = lane->first; at != launch; at = at->next) {
        before = at;
    }
    if (before != NULL) {
        before->next = launch->next;
    } else {
        lane->first = launch->next;
    }
    if (lane->last == launch) lane->last = before;
}

static enum status nccl_finish(struct transport *transport, struct transfer **transfer) {
    struct nccl_transport *self = nccl_of(transport);
    struct transfer *t = *transfer;
    struct launch *launch = t->launch;
    *transfer = NULL;
    if (launch == NULL) return STATUS_PEER; // only posted, as after a failure
    const enum status status = await(self, launch);
    if (--launch->holders == 0) {
        pthread_mutex_lock(&self->lock);
        unlist(t->lane, launch);
        pthread_mutex_unlock(&self->lock);
        launch->next = self->spare_launch;
        self->spare_launch = launch;
    }
    t->next = self->spare;
    self->spare = t;
    return status;
}

static enum status nccl_health(struct transport *transport) {
    return atomic_load(&nccl_of(transport)->failed) ? STATUS_PEER : STATUS_OK;
}

const struct transport_table nccl_table = {
    .name = "nccl",
    .send = nccl_send,
    .receive = nccl_receive,
    .passed = nccl_passed,
    .flush = nccl_flush,
    .order = nccl_order,
    .finish = nccl_finish,
    .health = nccl_health,
    .close = nccl_close,
};
