// The communication thread. One turn: start what was posted, test what is under way, take the
// control messages that wait, give and watch for signs of life. Between turns without any progress
// it sleeps for a share of the time that nothing has happened, so that a hop in dense traffic costs
// no sleep and an idle rank next to no CPU.
//
// Farewell: once told to close and with nothing under way, the thread sends its last message to
// every peer and stays until it has everyone's. A peer's farewell is the last message on its control
// channel, so everything before it has arrived.

#include "ops/base/clock.h"
#include "pipeline/comm_inner.h"

#include <sched.h>
#ifdef __linux__
#    include <sys/prctl.h>
#endif

enum {
    BEAT_MS = 1000,  // a sign of life
    STOP_MS = 100,   // from one look for a stop to the next
    SPIN_NS = 50000, // turns without sleep after the last progress
    IDLE_SHARE = 16, // of the time without progress is slept at once: what a wait costs
    SLEEP_LEAST_NS = 20000,
    SLEEP_MOST_NS = 1000000,
    // With MPI data moves only while MPI is called: 48 MiB over TCP took 45 ms with naps of up to
    // 1 ms, 17 ms with these.
    SLEEP_MOST_ACTIVE_NS = 200000,
    GAP_MOST_MS = 100, // a turn that took longer was not spent listening
};

void comm_link_failed(struct comm *comm, const char *what) {
    pthread_mutex_lock(&comm->lock);
    comm->link_broken = true;
    const bool known = comm->failed;
    pthread_mutex_unlock(&comm->lock);
    if (!known) LOG(ERROR, "%s over %s failed", what, comm->link->table->name);
    comm_break(comm, COMM_LOST);
}

static bool start_transfers(struct comm *comm, struct transfer_list *posted) {
    struct link *link = comm->link;
    const bool any = posted->first != NULL;
    while (posted->first != NULL) {
        struct transfer *t = posted->first;
        const struct transfer_order *o = &t->order;
        const enum link_channel channel = o->channel == CHANNEL_LINE ? LINK_LINE : LINK_MOVES;
        posted->first = t->next;
        transfer_push(&comm->active, t);
        if (comm->link_broken) continue;
        const enum status status = o->sending ? link->table->send(link, channel, o->peer, o->tag,
                                                                  o->out, o->bytes, &t->request)
                                              : link->table->receive(link, channel, o->peer, o->tag,
                                                                     o->in, o->bytes, &t->request);
        if (status != STATUS_OK) comm_link_failed(comm, "starting a transfer");
    }
    posted->last = NULL;
    return any;
}

static bool start_posted(struct comm *comm) {
    pthread_mutex_lock(&comm->lock);
    struct parcel_list outbox = comm->outbox;
    struct transfer_list posted = comm->posted;
    comm->outbox = (struct parcel_list){0};
    comm->posted = (struct transfer_list){0};
    pthread_mutex_unlock(&comm->lock);
    const bool parcels = mail_start(comm, &outbox);
    return start_transfers(comm, &posted) || parcels;
}

// After a failure states are left alone: their owners do not wait any more.
static bool test_transfers(struct comm *comm) {
    struct link *link = comm->link;
    struct transfer_list under_way = {0}, done = {0};
    struct transfer *next = NULL;
    for (struct transfer *t = comm->active.first; t != NULL; t = next) {
        bool is_done = false;
        next = t->next;
        if (!comm->link_broken && link->table->test(link, &t->request, &is_done) != STATUS_OK) {
            is_done = false;
            comm_link_failed(comm, t->order.sending ? "sending a state" : "receiving a state");
        }
        transfer_push(is_done ? &done : &under_way, t);
    }
    comm->active = under_way;
    if (done.first == NULL) return false;
    pthread_mutex_lock(&comm->lock);
    for (struct transfer *t = done.first; t != NULL; t = next) {
        next = t->next;
        t->step = TRANSFER_DONE;
        transfer_drop_locked(t);
    }
    pthread_cond_broadcast(&comm->news);
    pthread_mutex_unlock(&comm->lock);
    return true;
}

static void advance_clock(struct comm *comm) {
    const int64_t now = clock_ns();
    int64_t gap_ms = (now - comm->listened_ns) / 1000000;
    comm->listened_ns += gap_ms * 1000000;
    if (gap_ms > GAP_MOST_MS) gap_ms = GAP_MOST_MS;
    comm->listened_ms += gap_ms;
}

static void beat(struct comm *comm) {
    int32_t every_ms = comm->settings.peer_timeout_ms / 4;
    if (every_ms > BEAT_MS) every_ms = BEAT_MS;
    if (comm->said_farewell || comm->listened_ms - comm->beat_ms < every_ms) return;
    comm->beat_ms = comm->listened_ms;
    mail_send_all(comm, WIRE_ALIVE);
}

// A signal may reach any one rank: the machine of a worker is told to end, not the leader's.
static void share_stop(struct comm *comm) {
    struct link *link = comm->link;
    bool asked = false;
    if (link->table->share_stop == NULL || comm->link_broken) return;
    if (comm->listened_ms - comm->stop_ms < STOP_MS) return;
    comm->stop_ms = comm->listened_ms;
    if (link->table->share_stop(link, &asked) != STATUS_OK) {
        comm_link_failed(comm, "passing on a stop");
        return;
    }
    pthread_mutex_lock(&comm->lock);
    comm->stop_asked = asked;
    pthread_mutex_unlock(&comm->lock);
}

static bool transfers_with(const struct comm *comm, int32_t peer) {
    const struct transfer *t = comm->active.first;
    while (t != NULL && t->order.peer != peer) {
        t = t->next;
    }
    return t != NULL;
}

static void watch_peers(struct comm *comm) {
    for (int32_t rank = 0; rank < comm->link->ranks; rank++) {
        struct peer *peer = &comm->peer[rank];
        const int64_t silent_ms = comm->listened_ms - peer->heard_ms;
        if (rank == comm->link->rank || peer->gone) continue;
        if (silent_ms <= comm->settings.peer_timeout_ms) continue;
        if (peer->farewell && !transfers_with(comm, rank)) continue;
        peer->gone = true;
        LOG(ERROR, "rank %d is lost: no sign of life for %lld ms (--peer-timeout %d ms)", rank,
            (long long)silent_ms, comm->settings.peer_timeout_ms);
        comm_break(comm, COMM_LOST);
    }
}

static bool everyone_left(const struct comm *comm) {
    for (int32_t rank = 0; rank < comm->link->ranks; rank++) {
        if (rank == comm->link->rank) continue;
        if (!comm->peer[rank].farewell && !comm->peer[rank].gone) return false;
    }
    return true;
}

// Is it time to go? Says farewell on the way.
static bool may_leave(struct comm *comm) {
    pthread_mutex_lock(&comm->lock);
    const bool leave = comm->leave || (comm->closing && comm->failed);
    const bool quiet = comm->closing && comm->outgoing == 0 && comm->posted.first == NULL;
    pthread_mutex_unlock(&comm->lock);
    if (leave) return true;
    if (!quiet || comm->active.first != NULL) return false;
    if (!comm->said_farewell) {
        comm->said_farewell = true;
        mail_send_all(comm, WIRE_FAREWELL);
        return false;
    }
    return everyone_left(comm);
}

static void sleep_until_work(struct comm *comm, int64_t idle_ns) {
    const bool idle = comm->active.first == NULL && comm->arriving.first == NULL;
    const int64_t most_ns = idle ? SLEEP_MOST_NS : SLEEP_MOST_ACTIVE_NS;
    int64_t sleep_ns = idle_ns / IDLE_SHARE;
    if (idle_ns < SPIN_NS) {
        sched_yield();
        return;
    }
    if (sleep_ns < SLEEP_LEAST_NS) sleep_ns = SLEEP_LEAST_NS;
    if (sleep_ns > most_ns) sleep_ns = most_ns;
    const int64_t until_ns = clock_ns() + sleep_ns;
    const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000),
                                   .tv_nsec = (long)(until_ns % 1000000000)};
    pthread_mutex_lock(&comm->lock);
    if (comm->outbox.first == NULL && comm->posted.first == NULL) {
        pthread_cond_timedwait(&comm->work, &comm->lock, &until);
    }
    pthread_mutex_unlock(&comm->lock);
}

static bool failed_already(struct comm *comm) {
    pthread_mutex_lock(&comm->lock);
    const bool failed = comm->failed;
    pthread_mutex_unlock(&comm->lock);
    return failed;
}

void *comm_thread_run(void *argument) {
    struct comm *comm = argument;
    int64_t progress_ns = clock_ns();
    log_set_rank(comm->log_rank);
#ifdef __linux__
    // Sleeps of 20 us would else be rounded up by the 50 us that the kernel lets timers slip.
    (void)prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);
#endif
    while (!may_leave(comm)) {
        bool progress = start_posted(comm);
        if (!failed_already(comm) && test_transfers(comm)) progress = true;
        if (mail_test(comm)) progress = true;
        if (mail_take(comm)) progress = true;
        if (mail_deliver(comm)) progress = true;
        advance_clock(comm);
        beat(comm);
        share_stop(comm);
        watch_peers(comm);
        const int64_t now = clock_ns();
        if (progress) {
            progress_ns = now;
        } else {
            sleep_until_work(comm, now - progress_ns);
        }
    }
    return NULL;
}
