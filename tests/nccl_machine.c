#include "ops/base/check.h"
#include "tests/nccl_machine_inner.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct machine *machine_now;
_Thread_local int32_t machine_caller = -1;

static uint64_t draw(struct machine *m) {
    uint64_t z = m->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return z ^ (z >> 31);
}

void machine_push(struct stream *stream, struct item *item) {
    pthread_mutex_lock(&machine_now->lock);
    if (item->kind == ITEM_RECORD) item->generation = ++item->event->recorded;
    if (item->kind == ITEM_WAIT) item->generation = item->event->recorded;
    if (stream->last != NULL) {
        stream->last->next = item;
    } else {
        stream->first = item;
    }
    stream->last = item;
    pthread_cond_broadcast(&machine_now->changed);
    pthread_mutex_unlock(&machine_now->lock);
}

void machine_free_ops(struct op *op) {
    while (op != NULL) {
        struct op *next = op->next;
        free(op);
        op = next;
    }
}

struct item *machine_item(enum item_kind kind) {
    struct item *item = calloc(1, sizeof *item);
    CHECK(item != NULL);
    item->kind = kind;
    return item;
}

// The pairs, under the lock

static void enqueue(struct queue *queue, struct op *op) {
    op->pair = NULL;
    if (queue->last != NULL) {
        queue->last->pair = op;
    } else {
        queue->first = op;
    }
    queue->last = op;
}

static struct op *dequeue(struct queue *queue) {
    struct op *op = queue->first;
    queue->first = op->pair;
    if (queue->first == NULL) queue->last = NULL;
    op->done = true;
    return op;
}

static void meet(struct machine *m, struct pair *pair) {
    for (;;) {
        struct op *send = pair->sends.first, *receive = pair->receives.first;
        if (receive != NULL && pair->buffered > 0) {
            CHECK(receive->bytes == pair->buffer_bytes[0]);
            memcpy(receive->in, pair->buffer[0], receive->bytes);
            free(pair->buffer[0]);
            pair->buffered--;
            memmove(pair->buffer, pair->buffer + 1, sizeof pair->buffer - sizeof *pair->buffer);
            memmove(pair->buffer_bytes, pair->buffer_bytes + 1,
                    sizeof pair->buffer_bytes - sizeof *pair->buffer_bytes);
            dequeue(&pair->receives);
        } else if (send != NULL && receive != NULL) {
            CHECK(receive->bytes == send->bytes);
            memcpy(receive->in, send->out, send->bytes);
            dequeue(&pair->sends);
            dequeue(&pair->receives);
        } else if (send != NULL && pair->buffered < m->most_buffered) {
            char *copy = malloc(send->bytes);
            CHECK(copy != NULL);
            memcpy(copy, send->out, send->bytes);
            pair->buffer_bytes[pair->buffered] = send->bytes;
            pair->buffer[pair->buffered++] = copy;
            dequeue(&pair->sends);
        } else {
            return;
        }
    }
}

static struct pair *pair_of(const struct op *op) {
    const int rank = op->comm->rank;
    return op->sending ? &op->comm->meeting->pair[rank][op->peer]
                       : &op->comm->meeting->pair[op->peer][rank];
}

static void forget(struct queue *queue, const struct op *op) {
    struct op *before = NULL;
    for (struct op *at = queue->first; at != NULL; before = at, at = at->pair) {
        if (at != op) continue;
        if (before != NULL) {
            before->pair = at->pair;
        } else {
            queue->first = at->pair;
        }
        if (queue->last == at) queue->last = before;
        return;
    }
}

// A group at the front of its stream: true once all of it is done.
static bool run_group(struct machine *m, struct item *item) {
    bool all = true;
    for (struct op *op = item->ops; op != NULL && !item->at_front; op = op->next) {
        struct pair *pair = pair_of(op);
        const bool alone = item->ops->next == NULL && op->bytes >= 8;
        if (!op->sending && alone) m->receives[op->comm->device]++;
        enqueue(op->sending ? &pair->sends : &pair->receives, op);
    }
    item->at_front = true;
    for (struct op *op = item->ops; op != NULL; op = op->next) {
        struct pair *pair = pair_of(op);
        if (!op->done && op->comm->aborted) {
            forget(op->sending ? &pair->sends : &pair->receives, op);
            op->done = true;
        }
        if (!op->done) meet(m, pair);
        all = all && op->done;
    }
    return all;
}

static bool run_front(struct machine *m, struct stream *stream) {
    struct item *item = stream->first;
    if (item == NULL) return false;
    switch (item->kind) {
    case ITEM_RECORD:
        if (item->event->reached < item->generation) item->event->reached = item->generation;
        break;
    case ITEM_WAIT:
        if (item->event->reached < item->generation) return false;
        break;
    case ITEM_GROUP:
        if (!run_group(m, item)) return false;
        break;
    case ITEM_KERNEL: item->function(item->argument); break;
    }
    stream->first = item->next;
    if (stream->first == NULL) stream->last = NULL;
    machine_free_ops(item->ops);
    free(item);
    return true;
}

static void *run(void *argument) {
    struct machine *m = argument;
    pthread_mutex_lock(&m->lock);
    while (!m->closing) {
        bool any = false;
        const int first = m->stream_count > 0 ? (int)(draw(m) % (uint64_t)m->stream_count) : 0;
        for (int i = 0; i < m->stream_count; i++) {
            struct stream *stream = m->streams[(first + i) % m->stream_count];
            if (draw(m) % 4 == 0) {
                any = any || stream->first != NULL;
                continue;
            }
            int64_t items = (int64_t)(draw(m) % 8) + 1;
            while (items-- > 0 && run_front(m, stream))
                any = true;
        }
        if (any) {
            pthread_cond_broadcast(&m->changed);
            pthread_mutex_unlock(&m->lock); // let the hosts in
            pthread_mutex_lock(&m->lock);
        }
        const struct timespec soon = {.tv_nsec = 50000};
        bool waiting = false;
        for (int i = 0; i < m->stream_count; i++) {
            waiting = waiting || m->streams[i]->first != NULL;
        }
        if (any && waiting) continue;
        pthread_mutex_unlock(&m->lock);
        nanosleep(&soon, NULL);
        pthread_mutex_lock(&m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

// The streams' table

static enum status enter(void *device) {
    machine_caller = ((struct device *)device)->rank;
    return STATUS_OK;
}

static enum status stream_open(void *device, void **stream) {
    struct stream *made = calloc(1, sizeof *made);
    CHECK(made != NULL);
    made->rank = ((struct device *)device)->rank;
    pthread_mutex_lock(&machine_now->lock);
    CHECK(machine_now->stream_count < STREAMS_MOST);
    machine_now->streams[machine_now->stream_count++] = made;
    pthread_mutex_unlock(&machine_now->lock);
    *stream = made;
    return STATUS_OK;
}

static void stream_close(void *stream) {
    (void)stream; // with the machine
}

static enum status event_open(void **event) {
    struct event *made = calloc(1, sizeof *made);
    CHECK(made != NULL);
    pthread_mutex_lock(&machine_now->lock);
    made->all = machine_now->events;
    machine_now->events = made;
    pthread_mutex_unlock(&machine_now->lock);
    *event = made;
    return STATUS_OK;
}

static void event_close(void *event) {
    (void)event; // with the machine: as with CUDA, what is queued may still use it
}

static enum status record(void *event, void *stream) {
    struct item *item = machine_item(ITEM_RECORD);
    item->event = event;
    machine_push(stream, item);
    return STATUS_OK;
}

static enum status wait(void *stream, void *event) {
    struct item *item = machine_item(ITEM_WAIT);
    item->event = event;
    machine_push(stream, item);
    return STATUS_OK;
}

static enum status query(void *event, bool *done) {
    const struct event *asked = event;
    pthread_mutex_lock(&machine_now->lock);
    *done = asked->reached == asked->recorded;
    pthread_mutex_unlock(&machine_now->lock);
    return STATUS_OK;
}

static void place_close(void *device) {
    free(device);
}

static const struct stream_api stream_table = {.enter = enter,
                                               .stream_open = stream_open,
                                               .stream_close = stream_close,
                                               .event_open = event_open,
                                               .event_close = event_close,
                                               .record = record,
                                               .wait = wait,
                                               .query = query,
                                               .close = place_close};

// The machine itself

struct machine *machine_open(int buffered, uint64_t seed) {
    struct machine *m = calloc(1, sizeof *m);
    CHECK(m != NULL && buffered <= BUFFERED_MOST);
    m->most_buffered = buffered;
    m->random = seed;
    for (int i = 0; i < RANKS_MOST; i++) {
        m->calls_left[i] = -1;
    }
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    machine_now = m;
    CHECK(pthread_create(&m->thread, NULL, run, m) == 0);
    return m;
}

void machine_close(struct machine *m) {
    pthread_mutex_lock(&m->lock);
    m->closing = true;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->thread, NULL);
    for (int i = 0; i < m->stream_count; i++) {
        while (m->streams[i]->first != NULL) {
            struct item *item = m->streams[i]->first;
            m->streams[i]->first = item->next;
            machine_free_ops(item->ops);
            free(item);
        }
        free(m->streams[i]);
    }
    for (int i = 0; i < m->meeting_count; i++) {
        for (int a = 0; a < RANKS_MOST; a++) {
            for (int b = 0; b < RANKS_MOST; b++) {
                struct pair *pair = &m->meetings[i]->pair[a][b];
                while (pair->buffered > 0)
                    free(pair->buffer[--pair->buffered]);
            }
        }
        free(m->meetings[i]);
    }
    while (m->comms != NULL) {
        struct nccl_comm *next = m->comms->all;
        free(m->comms);
        m->comms = next;
    }
    while (m->events != NULL) {
        struct event *next = m->events->all;
        free(m->events);
        m->events = next;
    }
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    free(m);
    machine_now = NULL;
}

struct nccl_place machine_place(struct machine *m, int32_t rank) {
    static char scratch[RANKS_MOST][NCCL_SCRATCH * RANKS_MOST];
    struct device *device = malloc(sizeof *device);
    void *compute = NULL;
    CHECK(device != NULL);
    *device = (struct device){.machine = m, .rank = rank};
    CHECK(stream_open(device, &compute) == STATUS_OK);
    m->compute[rank] = compute;
    return (struct nccl_place){.nccl = &machine_nccl,
                               .streams = &stream_table,
                               .device = device,
                               .compute = compute,
                               .scratch = scratch[rank]};
}

void machine_id(struct transport_id *id, uint64_t number) {
    memset(id, 0, sizeof *id);
    for (uint64_t i = 0; i < 2; i++) {
        const uint64_t key = 2 * number + i + 1;
        memcpy(id->key[i], &key, sizeof key);
    }
}

void machine_kernel(struct machine *m, int32_t rank, void (*function)(void *), void *argument) {
    struct item *item = machine_item(ITEM_KERNEL);
    item->function = function;
    item->argument = argument;
    machine_push(m->compute[rank], item);
}

void machine_wait(struct machine *m, int32_t rank) {
    bool empty = false;
    while (!empty) {
        pthread_mutex_lock(&m->lock);
        empty = m->compute[rank]->first == NULL;
        pthread_mutex_unlock(&m->lock);
        if (!empty) nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    }
}

int64_t machine_receives(struct machine *m, int32_t rank) {
    return m->receives[rank]; // by kernels, which hold the lock
}

void machine_fail_after(struct machine *m, int32_t rank, int64_t calls) {
    pthread_mutex_lock(&m->lock);
    m->calls_left[rank] = calls;
    pthread_mutex_unlock(&m->lock);
}

int64_t machine_aborts(struct machine *m) {
    pthread_mutex_lock(&m->lock);
    const int64_t aborts = m->aborts;
    pthread_mutex_unlock(&m->lock);
    return aborts;
}
