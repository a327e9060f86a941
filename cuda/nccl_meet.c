// Start: communicators are made one after the other in an order that cannot hang, the edges from even
// ranks, those from odd ranks, the moves; then every connection is used once, since NCCL makes it with
// the first use, and that waits for the peer. From then on no call waits for anybody.

#include "cuda/nccl_inner.h"
#include "ops/base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MEET_MS = 60000, LOOK_MS = 20 };

// How much of the device a lane may take: measured, see cuda/README.md.
enum { LINE_CTAS = 2, MOVES_CTAS = 4 };

// No clusters: they need free multiprocessors side by side.
static struct nccl_config config(int ctas) {
    return (struct nccl_config){.size = sizeof(struct nccl_config),
                                .magic = NCCL_MAGIC,
                                .version = NCCL_CONFIG_VERSION,
                                .blocking = 1,
                                .cga_cluster_size = 0,
                                .min_ctas = 1,
                                .max_ctas = ctas,
                                .split_share = NCCL_UNSET_INT};
}

static enum status make_comm(struct nccl_transport *self, struct lane *lane, const char *name,
                             const unsigned char *key, int32_t first, int32_t ranks) {
    struct nccl_config settings = config(lane == &self->lane[LANE_MOVES] ? MOVES_CTAS : LINE_CTAS);
    struct nccl_unique_id id;
    struct nccl_comm *comm = NULL;
    memcpy(&id, key, sizeof id);
    lane->name = name;
    lane->peer_base = first;
    TRY(self->place.streams->stream_open(self->place.device, &lane->stream));
    TRY(nccl_check(self,
                   self->place.nccl->init(&comm, ranks, id, self->settings.rank - first, &settings),
                   name));
    lane->comm = comm;
    return STATUS_OK;
}

static enum status make_comms(struct nccl_transport *self) {
    const int32_t rank = self->settings.rank, ranks = self->settings.ranks;
    for (int32_t odd = 0; odd < 2; odd++) {
        if (rank > 0 && (rank - 1) % 2 == odd) {
            TRY(make_comm(self, &self->lane[LANE_LEFT], "states from the left",
                          self->ids[rank - 1].key[0], rank - 1, 2));
        }
        if (rank + 1 < ranks && rank % 2 == odd) {
            TRY(make_comm(self, &self->lane[LANE_RIGHT], "states to the right",
                          self->ids[rank].key[0], rank, 2));
        }
    }
    return make_comm(self, &self->lane[LANE_MOVES], "moves", self->ids[0].key[1], 0, ranks);
}

// A few bytes over one lane, to and from whom it is for.
static enum status use_lane(struct nccl_transport *self, enum lane_name name) {
    const struct nccl_api *nccl = self->place.nccl;
    struct lane *lane = &self->lane[name];
    const int32_t rank = self->settings.rank;
    enum status status = STATUS_OK;
    if (lane->comm == NULL) return STATUS_OK;
    TRY(nccl_check(self, nccl->group_start(), lane->name));
    for (int32_t peer = 0; peer < self->settings.ranks; peer++) {
        char *scratch = self->place.scratch + (size_t)peer * NCCL_SCRATCH;
        const int at = peer - lane->peer_base;
        const bool sends = name == LANE_MOVES || (name == LANE_RIGHT && peer == rank + 1);
        const bool receives = name == LANE_MOVES || (name == LANE_LEFT && peer == rank - 1);
        if (peer == rank || status != STATUS_OK) continue;
        if (sends) {
            status = nccl_check(
                self, nccl->send(scratch, 4, NCCL_INT8, at, lane->comm, lane->stream), lane->name);
        }
        if (receives && status == STATUS_OK) {
            status = nccl_check(
                self, nccl->receive(scratch + 4, 4, NCCL_INT8, at, lane->comm, lane->stream),
                lane->name);
        }
    }
    const enum status ended = nccl_check(self, nccl->group_end(), lane->name);
    return status == STATUS_OK ? ended : status;
}

static enum status await_lanes(struct nccl_transport *self) {
    const struct stream_api *streams = self->place.streams;
    enum status status = STATUS_OK;
    void *event = NULL;
    TRY(streams->event_open(&event));
    for (int i = 0; i < LANES && status == STATUS_OK; i++) {
        bool done = false;
        if (self->lane[i].comm == NULL) continue;
        status = streams->record(event, self->lane[i].stream);
        while (status == STATUS_OK && !done && !atomic_load(&self->failed)) {
            status = streams->query(event, &done);
            if (!done) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
    }
    streams->event_close(event);
    return status;
}

static enum status come_together(struct nccl_transport *self) {
    TRY(self->place.streams->enter(self->place.device));
    TRY(make_comms(self));
    // as with the communicators: even edges first, and the calls themselves wait for the peer
    const enum lane_name first = self->settings.rank % 2 == 0 ? LANE_RIGHT : LANE_LEFT;
    TRY(use_lane(self, first));
    TRY(use_lane(self, first == LANE_RIGHT ? LANE_LEFT : LANE_RIGHT));
    TRY(use_lane(self, LANE_MOVES));
    return await_lanes(self);
}

static void *meet(void *argument) {
    struct nccl_transport *self = argument;
    const enum status status = come_together(self);
    pthread_mutex_lock(&self->lock);
    self->meeting_status = status;
    self->meeting = false;
    self->met = true;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

static enum status await_meeting(struct nccl_transport *self) {
    const int64_t begin_ms = clock_ms();
    const char *why = NULL;
    bool met = false;
    while (!met && why == NULL) {
        const int64_t at = clock_ns() + (int64_t)LOOK_MS * 1000000;
        const struct timespec until = {.tv_sec = (time_t)(at / 1000000000),
                                       .tv_nsec = (long)(at % 1000000000)};
        pthread_mutex_lock(&self->lock);
        if (!self->met) (void)pthread_cond_timedwait(&self->changed, &self->lock, &until);
        met = self->met;
        pthread_mutex_unlock(&self->lock);
        if (met) break;
        if (self->settings.lost != NULL && self->settings.lost(self->settings.context)) {
            why = "a peer was lost while the ranks came together";
        } else if (clock_ms() - begin_ms > MEET_MS) {
            why = "the ranks did not come together within a minute";
        }
    }
    return why == NULL ? self->meeting_status : nccl_fail(self, why);
}

enum status nccl_meet(struct nccl_transport *self, const struct transport_id *ids) {
    const size_t ranks = (size_t)self->settings.ranks;
    pthread_t thread;
    self->ids = malloc(ranks * sizeof *ids);
    if (self->ids == NULL) return FAIL(NO_MEMORY, "nccl: ids of %zu ranks", ranks);
    memcpy(self->ids, ids, ranks * sizeof *ids);
    self->meeting = true;
    if (!nccl_thread(&thread, meet, self)) {
        self->meeting = false;
        free(self->ids);
        return FAIL(UNEXPECTED, "nccl: no thread");
    }
    pthread_detach(thread);
    const enum status status = await_meeting(self);
    pthread_mutex_lock(&self->lock);
    if (!self->meeting) { // else the thread still reads them
        free(self->ids);
        self->ids = NULL;
    }
    pthread_mutex_unlock(&self->lock);
    return status;
}
