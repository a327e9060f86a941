#include "ops/cpu/team.h"

#include "ops/base/clock.h"
#include "ops/cpu/float_mode.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

// How an index is given out. A job's indices are cut into at most 65,535 blocks, and each worker is
// dealt a run of neighbouring blocks: its range, one 64-bit word of job number, first block and end.
// The owner takes from the front, others from the back, both by compare-and-swap of the whole word.
//
//   1. A word of job j that is not empty means that job j is not done, so what the team says about
//      the job (function, argument, count) is that of job j as long as a swap on j's word succeeds.
//   2. A worker that wakes late finds the words empty or of a later job, and takes nothing.
//   3. The caller leaves team_run when all blocks are done; it does not wait for sleeping workers.

#define BLOCKS_MOST INT64_C(65535)
// A pause between two operators of a step is far below this; a rank that waits for others is not.
#define SPIN_NS INT64_C(30000)

struct range {
    _Alignas(64) _Atomic uint64_t word;
};

struct team {
    int64_t workers;
    pthread_t *threads; // [workers - 1], owned
    int64_t started;
    struct member *members; // [workers], owned
    struct range *ranges;   // [workers], owned

    // The job. Written by the caller while no word is filled.
    _Atomic(team_function *) function;
    _Atomic(const void *) argument;
    _Atomic int64_t count, grain; // indices in all, and in a block
    uint32_t job;                 // the caller's

    _Alignas(64) _Atomic uint32_t published; // the last job given out
    _Alignas(64) _Atomic int64_t blocks_left;
    _Atomic bool stop, caller_sleeps;
    _Atomic int64_t sleepers;
    pthread_mutex_t lock; // for sleeping only
    pthread_cond_t work, done;
};

struct member {
    struct team *team;
    int64_t worker;
};

static uint64_t range_word(uint32_t job, int64_t first, int64_t end) {
    return (uint64_t)job << 32 | (uint64_t)first << 16 | (uint64_t)end;
}

// One block from the front or the back of a range; -1 when it has none of this job.
static int64_t take(struct range *range, uint32_t job, bool front) {
    uint64_t word = atomic_load_explicit(&range->word, memory_order_acquire);
    for (;;) {
        const int64_t first = (int64_t)(word >> 16 & 0xffff);
        const int64_t end = (int64_t)(word & 0xffff);
        if ((uint32_t)(word >> 32) != job || first >= end) return -1;
        const uint64_t less =
            front ? range_word(job, first + 1, end) : range_word(job, first, end - 1);
        if (atomic_compare_exchange_weak_explicit(&range->word, &word, less, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            return front ? first : end - 1;
        }
    }
}

static int64_t take_any(struct team *team, uint32_t job, int64_t worker) {
    int64_t block = take(&team->ranges[worker], job, true);
    for (int64_t i = 1; block < 0 && i < team->workers; i++) {
        block = take(&team->ranges[(worker + i) % team->workers], job, false);
    }
    return block;
}

// Works on job number `job` until nothing of it is left to take.
static void work(struct team *team, uint32_t job, int64_t worker) {
    team_function *function = atomic_load_explicit(&team->function, memory_order_relaxed);
    const void *argument = atomic_load_explicit(&team->argument, memory_order_relaxed);
    const int64_t count = atomic_load_explicit(&team->count, memory_order_relaxed);
    const int64_t grain = atomic_load_explicit(&team->grain, memory_order_relaxed);
    for (;;) {
        const int64_t block = take_any(team, job, worker);
        if (block < 0) return;
        const int64_t first = block * grain;
        const int64_t end = count - first < grain ? count : first + grain;
        for (int64_t i = first; i < end; i++) {
            function(i, worker, argument);
        }
        if (atomic_fetch_sub(&team->blocks_left, 1) == 1 && atomic_load(&team->caller_sleeps)) {
            pthread_mutex_lock(&team->lock);
            pthread_cond_signal(&team->done);
            pthread_mutex_unlock(&team->lock);
        }
    }
}

static void pause_briefly(void) {
    for (int i = 0; i < 32; i++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    }
}

// The number of a job later than `seen`, or `seen` when the team stops.
static uint32_t await_job(struct team *team, uint32_t seen) {
    const int64_t since = clock_ns();
    while (clock_ns() - since < SPIN_NS) {
        const uint32_t job = atomic_load_explicit(&team->published, memory_order_acquire);
        if (job != seen) return job;
        if (atomic_load_explicit(&team->stop, memory_order_relaxed)) return seen;
        pause_briefly();
    }
    // The caller publishes first and then looks for sleepers; a sleeper counts itself first and then
    // looks for a job. One of them sees the other.
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(&team->published) == seen && !atomic_load(&team->stop)) {
        pthread_cond_wait(&team->work, &team->lock);
    }
    atomic_fetch_sub(&team->sleepers, 1);
    pthread_mutex_unlock(&team->lock);
    return atomic_load(&team->published);
}

static void *worker_main(void *argument) {
    const struct member *member = argument;
    struct team *team = member->team;
    uint32_t seen = 0;
    float_mode_flush();
    while (!atomic_load(&team->stop)) {
        const uint32_t job = await_job(team, seen);
        if (job != seen) work(team, job, member->worker);
        seen = job;
    }
    return NULL;
}

static void wake_workers(struct team *team) {
    if (atomic_load(&team->sleepers) == 0) return;
    pthread_mutex_lock(&team->lock);
    pthread_cond_broadcast(&team->work);
    pthread_mutex_unlock(&team->lock);
}

static void await_done(struct team *team) {
    const int64_t since = clock_ns();
    while (clock_ns() - since < SPIN_NS) {
        if (atomic_load_explicit(&team->blocks_left, memory_order_acquire) == 0) return;
        pause_briefly();
    }
    pthread_mutex_lock(&team->lock);
    atomic_store(&team->caller_sleeps, true);
    while (atomic_load(&team->blocks_left) > 0) {
        pthread_cond_wait(&team->done, &team->lock);
    }
    atomic_store(&team->caller_sleeps, false);
    pthread_mutex_unlock(&team->lock);
}

// Publishes the job; words first, so that whoever sees the number sees the words.
static void publish(struct team *team, int64_t count, team_function *function,
                    const void *argument) {
    const int64_t grain = (count + BLOCKS_MOST - 1) / BLOCKS_MOST;
    const int64_t blocks = (count + grain - 1) / grain;
    team->job = team->job + 1 == 0 ? 1 : team->job + 1;
    atomic_store_explicit(&team->function, function, memory_order_relaxed);
    atomic_store_explicit(&team->argument, argument, memory_order_relaxed);
    atomic_store_explicit(&team->count, count, memory_order_relaxed);
    atomic_store_explicit(&team->grain, grain, memory_order_relaxed);
    atomic_store_explicit(&team->blocks_left, blocks, memory_order_relaxed);
    for (int64_t w = 0; w < team->workers; w++) {
        const int64_t first = blocks * w / team->workers;
        const int64_t end = blocks * (w + 1) / team->workers;
        atomic_store_explicit(&team->ranges[w].word, range_word(team->job, first, end),
                              memory_order_release);
    }
    atomic_store(&team->published, team->job);
    wake_workers(team);
}

void team_run(struct team *team, int64_t count, team_function *function, const void *argument) {
    const uint64_t mode = float_mode_flush();
    if (team->workers == 1 || count <= 1) {
        for (int64_t i = 0; i < count; i++) {
            function(i, 0, argument);
        }
    } else {
        publish(team, count, function, argument);
        work(team, team->job, 0);
        await_done(team);
    }
    float_mode_write(mode);
}

int64_t team_workers(const struct team *team) {
    return team->workers;
}

// Signals are for the program's other threads: one that came here would interrupt nothing.
static enum status start_threads(struct team *team) {
    enum status status = STATUS_OK;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (team->started < team->workers - 1) {
        struct member *member = &team->members[team->started + 1];
        const int failed = pthread_create(&team->threads[team->started], NULL, worker_main, member);
        if (failed != 0) {
            status = FAIL(UNEXPECTED,
                          "cannot start worker thread %lld of %lld (error %d): lower "
                          "--threads, or raise the limit of processes",
                          (long long)team->started + 1, (long long)team->workers - 1, failed);
            break;
        }
        team->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

enum status team_open(int64_t workers, struct team **opened) {
    enum status status = STATUS_OK;
    struct team *team = aligned_alloc(64, (sizeof *team + 63) / 64 * 64);
    if (team == NULL) return FAIL(NO_MEMORY, "team of %lld threads", (long long)workers);
    *team = (struct team){.workers = workers};
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->work, NULL);
    pthread_cond_init(&team->done, NULL);
    team->threads = calloc((size_t)workers, sizeof *team->threads);
    team->members = calloc((size_t)workers, sizeof *team->members);
    team->ranges = aligned_alloc(64, (size_t)workers * sizeof *team->ranges);
    if (team->threads == NULL || team->members == NULL || team->ranges == NULL) {
        status = FAIL(NO_MEMORY, "team of %lld threads", (long long)workers);
        goto out;
    }
    for (int64_t w = 0; w < workers; w++) {
        team->members[w] = (struct member){team, w};
        atomic_init(&team->ranges[w].word, 0);
    }
    TRY_OUT(status, start_threads(team));
    *opened = team;
    team = NULL; // the caller's now
out:
    team_close(team);
    return status;
}

void team_close(struct team *team) {
    if (team == NULL) return;
    pthread_mutex_lock(&team->lock);
    atomic_store(&team->stop, true);
    pthread_cond_broadcast(&team->work);
    pthread_mutex_unlock(&team->lock);
    for (int64_t i = 0; i < team->started; i++) {
        pthread_join(team->threads[i], NULL);
    }
    pthread_cond_destroy(&team->done);
    pthread_cond_destroy(&team->work);
    pthread_mutex_destroy(&team->lock);
    free(team->ranges);
    free(team->members);
    free(team->threads);
    free(team);
}
