// A thread that looks at everything a few times in a tenth of a second, so that nobody else has to: the
// compute thread only asks whether the transport has failed.

#include "cuda/nccl_inner.h"
#include "ops/base/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 20, CALL_MS = 1000, END_MS = 15000, LOST_EXIT_CODE = 142 };

enum status nccl_fail(struct nccl_transport *self, const char *what) {
    if (!atomic_exchange(&self->failed, true)) {
        LOG(ERROR, "nccl: rank %d: %s; the states under way are void", self->settings.rank, what);
    }
    pthread_mutex_lock(&self->lock);
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    return STATUS_PEER;
}

enum status nccl_check(struct nccl_transport *self, int result, const char *what) {
    char text[256];
    if (result == NCCL_SUCCESS || result == NCCL_IN_PROGRESS) return STATUS_OK;
    snprintf(text, sizeof text, "%s failed: %s", what, self->place.nccl->error_text(result));
    return nccl_fail(self, text);
}

bool nccl_thread(pthread_t *thread, void *(*function)(void *), void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(thread, NULL, function, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == 0;
}

static struct timespec after_ms(int64_t timeout_ms) {
    const int64_t at = clock_ns() + timeout_ms * 1000000;
    return (struct timespec){.tv_sec = (time_t)(at / 1000000000),
                             .tv_nsec = (long)(at % 1000000000)};
}

// Under the lock. The oldest launch of a lane that may go on and has not ended.
static const char *find_standstill(const struct nccl_transport *self, const struct lane *lane) {
    struct launch *launch = lane->first;
    bool begun = false, done = true;
    // those that have ended wait to be finished
    while (launch != NULL && done) {
        if (self->place.streams->query(launch->done, &done) != STATUS_OK)
            return "the device failed";
        if (done) launch = launch->next;
    }
    if (launch == NULL) return NULL;
    if (self->place.streams->query(launch->gate, &begun) != STATUS_OK) return "the device failed";
    if (!begun) return NULL;
    const int64_t now_ns = clock_ns();
    if (launch->due_ns == 0) launch->due_ns = now_ns;
    const int64_t waited_ms = (now_ns - launch->due_ns) / 1000000;
    return waited_ms > self->settings.peer_timeout_ms ? lane->name : NULL;
}

static void look(struct nccl_transport *self) {
    const char *stands = NULL;
    char text[160];
    if (self->settings.lost != NULL && self->settings.lost(self->settings.context)) {
        (void)!nccl_fail(self, "a peer was lost");
        return;
    }
    for (int i = 0; i < LANES; i++) {
        int error = NCCL_SUCCESS;
        if (self->lane[i].comm == NULL) continue;
        const int result = self->place.nccl->async_error(self->lane[i].comm, &error);
        if (nccl_check(self, result, "asking for errors") != STATUS_OK) return;
        if (nccl_check(self, error, self->lane[i].name) != STATUS_OK) return;
    }
    pthread_mutex_lock(&self->lock);
    for (int i = 0; i < LANES && stands == NULL; i++) {
        stands = find_standstill(self, &self->lane[i]);
    }
    pthread_mutex_unlock(&self->lock);
    if (stands == NULL) return;
    snprintf(text, sizeof text, "%s: no progress for %d ms (--peer-timeout)", stands,
             self->settings.peer_timeout_ms);
    (void)!nccl_fail(self, text);
}

struct giving {
    struct nccl_transport *self;
    struct nccl_comm *comm;
    bool abort;
};

static void *give_back(void *argument) {
    struct giving *giving = argument;
    struct nccl_transport *self = giving->self;
    const struct nccl_api *nccl = self->place.nccl;
    if (self->place.streams->enter(self->place.device) == STATUS_OK) {
        if (giving->abort) {
            (void)nccl->abort(giving->comm);
        } else {
            (void)nccl->finalize(giving->comm);
            (void)nccl->destroy(giving->comm);
        }
    }
    free(giving);
    pthread_mutex_lock(&self->lock);
    self->leaving--;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

static void begin_to_leave(struct nccl_transport *self, struct lane *lane, bool abort) {
    struct giving *giving = malloc(sizeof *giving);
    pthread_t thread;
    if (giving == NULL) return;
    *giving = (struct giving){.self = self, .comm = lane->comm, .abort = abort};
    lane->comm = NULL;
    pthread_mutex_lock(&self->lock);
    self->leaving++;
    pthread_mutex_unlock(&self->lock);
    if (nccl_thread(&thread, give_back, giving)) {
        pthread_detach(thread);
        return;
    }
    give_back(giving); // without a thread it may take long, but nothing better is left
}

// An abort frees what a call under way is using, so it waits for the call; but that may wait for what
// the abort would end (a full queue on the device), and then all lanes but the call's go first.
bool nccl_leave(struct nccl_transport *self, bool abort) {
    const struct timespec until = after_ms(END_MS);
    struct timespec calls_until;
    pthread_mutex_lock(&self->lock);
    const bool meeting = self->meeting; // the lanes are still another thread's
    pthread_mutex_unlock(&self->lock);
    if (meeting) return false;
    (void)clock_gettime(CLOCK_REALTIME, &calls_until);
    calls_until.tv_sec += CALL_MS / 1000;
    const bool alone = pthread_mutex_timedlock(&self->calls, &calls_until) == 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < LANES; i++) {
            const bool later = !alone && atomic_load(&self->calling) == i;
            if (self->lane[i].comm == NULL || (pass == 0 && later)) continue;
            begin_to_leave(self, &self->lane[i], abort);
        }
        if (pass == 0 && !alone) {
            nanosleep(&(struct timespec){.tv_sec = CALL_MS / 1000}, NULL);
        }
    }
    if (alone) pthread_mutex_unlock(&self->calls);
    bool late = false;
    pthread_mutex_lock(&self->lock);
    while (self->leaving > 0 && !late) {
        late = pthread_cond_timedwait(&self->changed, &self->lock, &until) == ETIMEDOUT;
    }
    const bool all = self->leaving == 0;
    pthread_mutex_unlock(&self->lock);
    if (!all) LOG(WARN, "nccl: rank %d: a communicator does not end", self->settings.rank);
    return all;
}

// The last resort: what the compute thread waits for may be a device that does not come back.
static void wait_for_the_end(struct nccl_transport *self) {
    const struct timespec until = after_ms(END_MS + (int64_t)self->settings.peer_timeout_ms);
    bool late = false;
    pthread_mutex_lock(&self->lock);
    while (!self->closing && !late) {
        late = pthread_cond_timedwait(&self->changed, &self->lock, &until) == ETIMEDOUT;
    }
    pthread_mutex_unlock(&self->lock);
    if (!late) return;
    LOG(ERROR, "nccl: rank %d does not come back from its device; the process ends",
        self->settings.rank);
    _exit(LOST_EXIT_CODE);
}

static void *watch(void *argument) {
    struct nccl_transport *self = argument;
    bool closing = false;
    if (self->place.streams->enter(self->place.device) != STATUS_OK) {
        (void)!nccl_fail(self, "the device failed");
    }
    while (!closing && !atomic_load(&self->failed)) {
        const struct timespec until = after_ms(LOOK_MS);
        look(self);
        pthread_mutex_lock(&self->lock);
        if (!self->closing && !atomic_load(&self->failed)) {
            (void)pthread_cond_timedwait(&self->changed, &self->lock, &until);
        }
        closing = self->closing;
        pthread_mutex_unlock(&self->lock);
    }
    if (!atomic_load(&self->failed)) return NULL;
    (void)nccl_leave(self, true);
    wait_for_the_end(self);
    return NULL;
}

enum status nccl_watch_start(struct nccl_transport *self) {
    if (!nccl_thread(&self->watch, watch, self)) {
        return FAIL(UNEXPECTED, "nccl: no thread");
    }
    self->watching = true;
    return STATUS_OK;
}

void nccl_watch_stop(struct nccl_transport *self) {
    if (!self->watching) return;
    pthread_mutex_lock(&self->lock);
    self->closing = true;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->watch, NULL);
    self->watching = false;
}
