#define _GNU_SOURCE // MAP_ANONYMOUS; before any header of the system

// A thread, a list of jobs with copies of their arguments, and a delay before each.

#include "tests/queue_backend.h"

#include "ops/base/check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define ARENA_BYTES ((size_t)1 << 30) // of address space

#define OPERATORS(X)               \
    X(embedding, embedding_args)   \
    X(rms_norm, rms_norm_args)     \
    X(linear, linear_args)         \
    X(conv_tail, conv_args)        \
    X(causal_conv, conv_args)      \
    X(dt, dt_args)                 \
    X(chunk_cumsum, scan_args)     \
    X(chunk_cb, scan_args)         \
    X(chunk_state, scan_args)      \
    X(state_passing, scan_args)    \
    X(chunk_scan, scan_args)       \
    X(gated_norm, gated_norm_args) \
    X(head, head_args)             \
    X(best, best_args)

#define KIND(name, type)  JOB_##name,
#define FIELD(name, type) struct type name;
#define SLOT(name, type)  .name = queue_##name,

enum job_kind { OPERATORS(KIND) JOB_UPLOAD, JOB_DOWNLOAD, JOB_CALL, JOB_MARK };

struct copy_args {
    void *to;
    const void *from;
    size_t bytes;
};

struct call_args {
    void (*function)(void *);
    void *argument;
};

struct job {
    struct job *next;
    enum job_kind kind;
    union {
        OPERATORS(FIELD)
        struct copy_args copy;
        struct call_args call;
        int32_t mark;
    };
};

struct queue_backend {
    struct backend base; // first, so that &queue->base is the handle
    struct backend *inner;
    uint64_t random;
    int32_t most_delay_us, rank;
    char *arena; // [ARENA_BYTES] of memory that only the queue's thread may touch; or NULL
    size_t arena_used;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    // under the lock
    struct job *first, *last;
    int64_t pending;              // queued and not yet done
    int32_t marks[BACKEND_MARKS]; // queued and not yet reached
    enum status status;
    bool closing;
};

static struct queue_backend *queue_of(struct backend *backend) {
    return (struct queue_backend *)(void *)backend;
}

static uint64_t next_random(struct queue_backend *queue) {
    uint64_t mixed = (queue->random += 0x9e3779b97f4a7c15u);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

static void be_late(struct queue_backend *queue) {
    const uint64_t drawn = next_random(queue);
    if (queue->most_delay_us <= 0 || (drawn & 1) != 0) return;
    const int64_t delay_us = (int64_t)((drawn >> 1) % ((uint64_t)queue->most_delay_us + 1));
    const struct timespec delay = {delay_us / 1000000, delay_us % 1000000 * 1000};
    nanosleep(&delay, NULL);
}

#define RUN(name, type) \
    case JOB_##name: return table->name(inner, &job->name);

static enum status run_inner(struct backend *inner, const struct job *job) {
    const struct backend_table *table = inner->table;
    switch (job->kind) {
        OPERATORS(RUN)
    case JOB_UPLOAD: return table->upload(inner, job->copy.to, job->copy.from, job->copy.bytes);
    case JOB_DOWNLOAD: return table->download(inner, job->copy.to, job->copy.from, job->copy.bytes);
    case JOB_CALL: return table->call(inner, job->call.function, job->call.argument);
    case JOB_MARK: return STATUS_OK;
    }
    return STATUS_UNEXPECTED;
}

static enum status run_job(const struct queue_backend *queue, const struct job *job) {
    if (queue->inner != NULL) return run_inner(queue->inner, job);
    if (job->kind == JOB_CALL) {
        job->call.function(job->call.argument);
    } else if (job->kind == JOB_UPLOAD || job->kind == JOB_DOWNLOAD) {
        memcpy(job->copy.to, job->copy.from, job->copy.bytes);
    } else if (job->kind != JOB_MARK) {
        return FAIL(UNEXPECTED, "this queue has no operators: open it over a backend that does");
    }
    return STATUS_OK;
}

static void arena_open(const struct queue_backend *queue, bool open) {
    if (queue->arena == NULL) return;
    CHECK(mprotect(queue->arena, ARENA_BYTES, open ? PROT_READ | PROT_WRITE : PROT_NONE) == 0);
}

static void *run_queue(void *argument) {
    struct queue_backend *queue = argument;
    log_set_rank(queue->rank);
    pthread_mutex_lock(&queue->lock);
    for (;;) {
        while (queue->first == NULL && !queue->closing) {
            pthread_cond_wait(&queue->changed, &queue->lock);
        }
        struct job *job = queue->first;
        if (job == NULL) break;
        queue->first = job->next;
        if (queue->first == NULL) queue->last = NULL;
        pthread_mutex_unlock(&queue->lock);
        be_late(queue);
        arena_open(queue, true);
        const enum status status = run_job(queue, job);
        arena_open(queue, false);
        pthread_mutex_lock(&queue->lock);
        if (job->kind == JOB_MARK) queue->marks[job->mark]--;
        free(job);
        if (queue->status == STATUS_OK) queue->status = status;
        queue->pending--;
        pthread_cond_broadcast(&queue->changed);
    }
    pthread_mutex_unlock(&queue->lock);
    return NULL;
}

static enum status enqueue(struct backend *backend, const struct job *wanted) {
    struct queue_backend *queue = queue_of(backend);
    struct job *job = malloc(sizeof *job);
    if (job == NULL) return FAIL(NO_MEMORY, "a job of the queue");
    *job = *wanted;
    job->next = NULL;
    pthread_mutex_lock(&queue->lock);
    if (queue->last != NULL) {
        queue->last->next = job;
    } else {
        queue->first = job;
    }
    queue->last = job;
    queue->pending++;
    if (job->kind == JOB_MARK) queue->marks[job->mark]++;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    return STATUS_OK;
}

#define QUEUE(name, type)                                                               \
    static enum status queue_##name(struct backend *backend, const struct type *args) { \
        return enqueue(backend, &(struct job){.kind = JOB_##name, .name = *args});      \
    }
OPERATORS(QUEUE)

static enum status queue_upload(struct backend *backend, void *to, const void *host, size_t bytes) {
    return enqueue(backend, &(struct job){
                                .kind = JOB_UPLOAD, .copy = {to, host, bytes}
    });
}

static enum status queue_download(struct backend *backend, void *host, const void *from,
                                  size_t bytes) {
    return enqueue(backend, &(struct job){
                                .kind = JOB_DOWNLOAD, .copy = {host, from, bytes}
    });
}

static enum status queue_call(struct backend *backend, void (*function)(void *), void *argument) {
    return enqueue(backend, &(struct job){
                                .kind = JOB_CALL, .call = {function, argument}
    });
}

static enum status queue_wait(struct backend *backend) {
    struct queue_backend *queue = queue_of(backend);
    pthread_mutex_lock(&queue->lock);
    while (queue->pending > 0)
        pthread_cond_wait(&queue->changed, &queue->lock);
    const enum status status = queue->status;
    pthread_mutex_unlock(&queue->lock);
    TRY(status);
    return queue->inner != NULL ? queue->inner->table->wait(queue->inner) : STATUS_OK;
}

static enum status queue_mark(struct backend *backend, int32_t which) {
    CHECK(which >= 0 && which < BACKEND_MARKS);
    return enqueue(backend, &(struct job){.kind = JOB_MARK, .mark = which});
}

static enum status queue_reached(struct backend *backend, int32_t which, bool *reached) {
    struct queue_backend *queue = queue_of(backend);
    pthread_mutex_lock(&queue->lock);
    *reached = queue->marks[which] == 0;
    const enum status status = queue->status;
    pthread_mutex_unlock(&queue->lock);
    return *reached ? status : STATUS_OK;
}

static enum status queue_host_alloc(struct backend *backend, size_t bytes, void **memory) {
    struct backend *inner = queue_of(backend)->inner;
    if (inner != NULL) return inner->table->alloc(inner, bytes, memory);
    const size_t room = (bytes + 63) / 64 * 64;
    void *made = room >= bytes ? aligned_alloc(64, room == 0 ? 64 : room) : NULL;
    if (made == NULL) return FAIL(NO_MEMORY, "%zu bytes", bytes);
    memset(made, 0, room);
    *memory = made;
    return STATUS_OK;
}

static void queue_host_release(struct backend *backend, void *memory) {
    struct backend *inner = queue_of(backend)->inner;
    if (inner != NULL) {
        inner->table->release(inner, memory);
    } else {
        free(memory);
    }
}

// From an arena nothing is used twice.
static enum status queue_alloc(struct backend *backend, size_t bytes, void **memory) {
    struct queue_backend *queue = queue_of(backend);
    if (queue->arena == NULL) return queue_host_alloc(backend, bytes, memory);
    const size_t room = (bytes + 4095) / 4096 * 4096;
    if (room < bytes || room > ARENA_BYTES - queue->arena_used) {
        return FAIL(NO_MEMORY, "%zu bytes of a test's device", bytes);
    }
    *memory = queue->arena + queue->arena_used;
    queue->arena_used += room;
    return STATUS_OK;
}

static void queue_release(struct backend *backend, void *memory) {
    if (queue_of(backend)->arena == NULL) queue_host_release(backend, memory);
}

static enum status queue_pack(struct backend *backend, const float *weight, int64_t outputs,
                              int64_t inputs, struct packed_weight **packed) {
    struct backend *inner = queue_of(backend)->inner;
    if (inner == NULL) return FAIL(UNEXPECTED, "this queue has no operators, so no weights");
    return inner->table->pack(inner, weight, outputs, inputs, packed);
}

static void queue_release_packed(struct backend *backend, struct packed_weight *packed) {
    struct backend *inner = queue_of(backend)->inner;
    if (inner != NULL) inner->table->release_packed(inner, packed);
}

static void queue_close(struct backend *backend) {
    struct queue_backend *queue = queue_of(backend);
    pthread_mutex_lock(&queue->lock);
    queue->closing = true;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    pthread_join(queue->thread, NULL); // after all that is queued
    pthread_cond_destroy(&queue->changed);
    pthread_mutex_destroy(&queue->lock);
    if (queue->inner != NULL) queue->inner->table->close(queue->inner);
    if (queue->arena != NULL) (void)munmap(queue->arena, ARENA_BYTES);
    free(queue);
}

#define QUEUE_SLOTS                                                                         \
    .alloc = queue_alloc, .release = queue_release, .host_alloc = queue_host_alloc,         \
    .host_release = queue_host_release, .upload = queue_upload, .download = queue_download, \
    .call = queue_call, .wait = queue_wait, .mark = queue_mark, .reached = queue_reached,   \
    .close = queue_close, .pack = queue_pack, .release_packed = queue_release_packed,       \
    OPERATORS(SLOT)

static const struct backend_table queue_table = {.name = "queue", .host_memory = true, QUEUE_SLOTS};

static const struct backend_table device_table = {.name = "device", QUEUE_SLOTS};

enum status queue_backend_open(struct backend *inner, uint64_t seed, int32_t most_delay_us,
                               struct backend **opened) {
    struct queue_backend *queue = calloc(1, sizeof *queue);
    if (queue == NULL) return FAIL(NO_MEMORY, "queue backend");
    if (inner != NULL) {
        queue->base = *inner;
    } else {
        queue->base.tile_tokens = 64;
        queue->base.window_tokens = CHUNK_TOKENS;
        memcpy(queue->base.numerics, "queue", sizeof "queue");
    }
    queue->base.table = &queue_table;
    queue->inner = inner;
    queue->random = seed;
    queue->most_delay_us = most_delay_us;
    queue->rank = log_rank();
    CHECK(pthread_mutex_init(&queue->lock, NULL) == 0);
    CHECK(pthread_cond_init(&queue->changed, NULL) == 0);
    if (pthread_create(&queue->thread, NULL, run_queue, queue) != 0) {
        pthread_cond_destroy(&queue->changed);
        pthread_mutex_destroy(&queue->lock);
        free(queue);
        return FAIL(UNEXPECTED, "queue backend: no thread");
    }
    *opened = &queue->base;
    return STATUS_OK;
}

enum status device_backend_open(uint64_t seed, int32_t most_delay_us, struct backend **opened) {
    struct backend *backend = NULL;
    void *arena =
        mmap(NULL, ARENA_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED) return FAIL(NO_MEMORY, "a test's device");
    const enum status status = queue_backend_open(NULL, seed, most_delay_us, &backend);
    if (status != STATUS_OK) {
        (void)munmap(arena, ARENA_BYTES);
        return status;
    }
    queue_of(backend)->arena = arena; // before anything is queued
    backend->table = &device_table;
    *opened = backend;
    return STATUS_OK;
}
