// The gather of ranks that are threads: everyone copies its part in, the last one turns the page,
// everyone copies the whole out.

#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "pipeline/loopback_inner.h"

#include <errno.h>
#include <string.h>

static int32_t first_missing(const struct hub *hub) {
    int32_t rank = 0;
    while (rank < hub->ranks - 1 && hub->link[rank].arrived) {
        rank++;
    }
    return rank;
}

void loopback_fail(struct hub *hub) {
    hub->failed = true;
    pthread_cond_broadcast(&hub->turn);
}

// Under the lock. The last one to come completes the gather and turns the page.
static enum status gather_arrive(struct loopback_link *self, const void *mine, size_t bytes) {
    struct hub *hub = self->hub;
    if (hub->arrived == 0) {
        size_t all_bytes = 0;
        if (!size_multiply(bytes, (size_t)hub->ranks, &all_bytes)) return STATUS_NO_MEMORY;
        hub->gathering = malloc(all_bytes + 1);
        if (hub->gathering == NULL) return FAIL(NO_MEMORY, "gather of %zu bytes", all_bytes);
        hub->gather_bytes = bytes;
    } else if (bytes != hub->gather_bytes) {
        return FAIL(PEER, "gather: rank %d brings %zu bytes, others %zu", self->base.rank, bytes,
                    hub->gather_bytes);
    }
    if (bytes > 0) memcpy(hub->gathering + (size_t)self->base.rank * bytes, mine, bytes);
    self->arrived = true;
    if (++hub->arrived == hub->ranks) {
        free(hub->gathered);
        hub->gathered = hub->gathering;
        hub->gathering = NULL;
        hub->arrived = 0;
        hub->gathers++;
        for (int32_t r = 0; r < hub->ranks; r++) {
            hub->link[r].arrived = false;
        }
        pthread_cond_broadcast(&hub->turn);
    }
    return STATUS_OK;
}

enum status loopback_gather(struct link *link, const void *mine, size_t bytes, void *all,
                            int32_t timeout_ms) {
    struct loopback_link *self = (struct loopback_link *)link;
    struct hub *hub = self->hub;
    const int64_t deadline = clock_ns() + (int64_t)timeout_ms * 1000000;
    const struct timespec until = {.tv_sec = (time_t)(deadline / 1000000000),
                                   .tv_nsec = (long)(deadline % 1000000000)};
    pthread_mutex_lock(&hub->lock);
    const int64_t turn = hub->gathers;
    enum status status = hub->failed ? STATUS_PEER : gather_arrive(self, mine, bytes);
    if (status != STATUS_OK) loopback_fail(hub);
    while (hub->gathers == turn && !hub->failed) {
        if (pthread_cond_timedwait(&hub->turn, &hub->lock, &until) != ETIMEDOUT) continue;
        if (hub->gathers != turn || hub->failed) break;
        status =
            FAIL(PEER, "gather: rank %d did not come within %d ms", first_missing(hub), timeout_ms);
        loopback_fail(hub);
    }
    if (hub->gathers == turn && status == STATUS_OK) status = STATUS_PEER;
    // Nobody can complete the next gather, and so replace this result, before this rank joins it.
    if (status == STATUS_OK && bytes > 0) memcpy(all, hub->gathered, bytes * (size_t)hub->ranks);
    pthread_mutex_unlock(&hub->lock);
    return status;
}
