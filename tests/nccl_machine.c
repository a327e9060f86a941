#include "tests/nccl_machine.h"

#include "ops/base/check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RANKS_MOST = 8, MEETINGS_MOST = 32, STREAMS_MOST = 64, BUFFERED_MOST = 16 };
enum { OWN_ERROR = 3 };
enum item_kind { ITEM_RECORD, ITEM_WAIT, ITEM_GROUP, ITEM_KERNEL };

struct op {
    struct op *next; // in its item
    struct op *pair; // in its pair's queue
    struct nccl_comm *comm;
    bool sending, done;
    int peer;
    const char *out;
    char *in;
    size_t bytes;
};

struct event {
    uint64_t recorded, reached;
    struct event *all;
};

struct item {
    struct item *next;
    enum item_kind kind;
    struct event *event;
    uint64_t generation;
    struct op *ops; // of a group
    bool at_front;
    void (*function)(void *);
    void *argument;
};

struct stream {
    struct item *first, *last;
    int32_t rank;
};

struct queue {
    struct op *first, *last;
};

struct pair { // from one rank of a communicator to another
    struct queue sends, receives;
    char *buffer[BUFFERED_MOST]; // oldest first
    size_t buffer_bytes[BUFFERED_MOST];
    int buffered;
};

struct meeting { // a communicator, seen from all its ranks
    struct nccl_unique_id id;
    int ranks, joined;
    struct pair pair[RANKS_MOST][RANKS_MOST];
};

struct nccl_comm {
    struct machine *machine;
    struct meeting *meeting;
    int rank;
    int32_t device;
    bool aborted;
    struct nccl_comm *all;
};

struct machine {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool closing;
    int most_buffered;
    uint64_t random;
    struct stream *streams[STREAMS_MOST];
    int stream_count;
    struct stream *compute[RANKS_MOST];
    struct meeting *meetings[MEETINGS_MOST];
    int meeting_count;
    struct nccl_comm *comms;
    struct event *events;
    int64_t receives[RANKS_MOST];
    int64_t calls_left[RANKS_MOST];
    int64_t aborts;
};

struct device {
    struct machine *machine;
    int32_t rank;
};

static struct machine *the;               // one at a time: NCCL's calls name none
static _Thread_local int32_t caller = -1; // the device that this thread has entered
static _Thread_local int group_depth;
static _Thread_local struct op *group_first, *group_last;
static _Thread_local struct stream *group_stream;
static _Thread_local bool group_failed;

static uint64_t draw(struct machine *m) {
    uint64_t z = m->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return z ^ (z >> 31);
}

static void push(struct stream *stream, struct item *item) {
    pthread_mutex_lock(&the->lock);
    if (item->kind == ITEM_RECORD) item->generation = ++item->event->recorded;
    if (item->kind == ITEM_WAIT) item->generation = item->event->recorded;
    if (stream->last != NULL) {
        stream->last->next = item;
    } else {
        stream->first = item;
    }
    stream->last = item;
    pthread_cond_broadcast(&the->changed);
    pthread_mutex_unlock(&the->lock);
}

static void free_ops(struct op *op) {
    while (op != NULL) {
        struct op *next = op->next;
        free(op);
        op = next;
    }
}

static struct item *item_make(enum item_kind kind) {
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
    free_ops(item->ops);
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
    caller = ((struct device *)device)->rank;
    return STATUS_OK;
}

static enum status stream_open(void *device, void **stream) {
    struct stream *made = calloc(1, sizeof *made);
    CHECK(made != NULL);
    made->rank = ((struct device *)device)->rank;
    pthread_mutex_lock(&the->lock);
    CHECK(the->stream_count < STREAMS_MOST);
    the->streams[the->stream_count++] = made;
    pthread_mutex_unlock(&the->lock);
    *stream = made;
    return STATUS_OK;
}

static void stream_close(void *stream) {
    (void)stream; // with the machine
}

static enum status event_open(void **event) {
    struct event *made = calloc(1, sizeof *made);
    CHECK(made != NULL);
    pthread_mutex_lock(&the->lock);
    made->all = the->events;
    the->events = made;
    pthread_mutex_unlock(&the->lock);
    *event = made;
    return STATUS_OK;
}

static void event_close(void *event) {
    (void)event; // with the machine: as with CUDA, what is queued may still use it
}

static enum status record(void *event, void *stream) {
    struct item *item = item_make(ITEM_RECORD);
    item->event = event;
    push(stream, item);
    return STATUS_OK;
}

static enum status wait(void *stream, void *event) {
    struct item *item = item_make(ITEM_WAIT);
    item->event = event;
    push(stream, item);
    return STATUS_OK;
}

static enum status query(void *event, bool *done) {
    const struct event *asked = event;
    pthread_mutex_lock(&the->lock);
    *done = asked->reached == asked->recorded;
    pthread_mutex_unlock(&the->lock);
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

// NCCL's

static int api_version(int *version) {
    *version = NCCL_OLDEST;
    return NCCL_SUCCESS;
}

static int api_unique_id(struct nccl_unique_id *id) {
    memset(id, 0, sizeof *id);
    return NCCL_SUCCESS;
}

static struct meeting *meeting_of(const struct nccl_unique_id *id, int ranks) {
    for (int i = 0; i < the->meeting_count; i++) {
        if (memcmp(&the->meetings[i]->id, id, sizeof *id) == 0) return the->meetings[i];
    }
    struct meeting *made = calloc(1, sizeof *made);
    CHECK(made != NULL && the->meeting_count < MEETINGS_MOST);
    made->id = *id;
    made->ranks = ranks;
    the->meetings[the->meeting_count++] = made;
    return made;
}

static int api_init(struct nccl_comm **comm, int ranks, struct nccl_unique_id id, int rank,
                    struct nccl_config *config) {
    CHECK(config->size == sizeof *config && config->magic == NCCL_MAGIC);
    struct nccl_comm *made = calloc(1, sizeof *made);
    CHECK(made != NULL);
    pthread_mutex_lock(&the->lock);
    struct meeting *meeting = meeting_of(&id, ranks);
    CHECK(meeting->ranks == ranks);
    *made = (struct nccl_comm){
        .machine = the, .meeting = meeting, .rank = rank, .device = caller, .all = the->comms};
    the->comms = made;
    meeting->joined++;
    pthread_cond_broadcast(&the->changed);
    while (meeting->joined < ranks && !the->closing)
        pthread_cond_wait(&the->changed, &the->lock);
    pthread_mutex_unlock(&the->lock);
    *comm = made;
    return NCCL_SUCCESS;
}

static int api_finalize(struct nccl_comm *comm) {
    (void)comm;
    return NCCL_SUCCESS;
}

static int api_abort(struct nccl_comm *comm) {
    pthread_mutex_lock(&the->lock);
    comm->aborted = true;
    the->aborts++;
    pthread_cond_broadcast(&the->changed);
    pthread_mutex_unlock(&the->lock);
    return NCCL_SUCCESS;
}

static int api_async_error(struct nccl_comm *comm, int *error) {
    (void)comm;
    *error = NCCL_SUCCESS;
    return NCCL_SUCCESS;
}

static int api_group_start(void) {
    group_depth++;
    return NCCL_SUCCESS;
}

static int drop_group(void) {
    free_ops(group_first);
    group_first = group_last = NULL;
    group_stream = NULL;
    group_failed = false;
    return OWN_ERROR;
}

static int api_group_end(void) {
    CHECK(group_depth > 0);
    if (--group_depth > 0) return NCCL_SUCCESS;
    if (group_failed) return drop_group();
    if (group_first == NULL) return NCCL_SUCCESS;
    struct item *item = item_make(ITEM_GROUP);
    item->ops = group_first;
    push(group_stream, item);
    group_first = group_last = NULL;
    group_stream = NULL;
    return NCCL_SUCCESS;
}

static int add_op(const struct op *wanted, struct stream *stream) {
    pthread_mutex_lock(&the->lock);
    const int32_t device = wanted->comm->device;
    const bool fails = the->calls_left[device] == 0;
    if (the->calls_left[device] > 0) the->calls_left[device]--;
    CHECK(!wanted->comm->aborted); // nobody may call any more
    pthread_mutex_unlock(&the->lock);
    group_failed = group_failed || (fails && group_depth > 0);
    if (fails) return OWN_ERROR;
    struct op *op = malloc(sizeof *op);
    CHECK(op != NULL);
    *op = *wanted;
    CHECK(group_stream == NULL || group_stream == stream);
    group_stream = stream;
    if (group_last != NULL) {
        group_last->next = op;
    } else {
        group_first = op;
    }
    group_last = op;
    if (group_depth == 0) {
        group_depth = 1;
        return api_group_end();
    }
    return NCCL_SUCCESS;
}

static int api_send(const void *data, size_t count, int type, int peer, struct nccl_comm *comm,
                    void *stream) {
    CHECK(type == NCCL_INT8 && peer != comm->rank && peer >= 0 && peer < comm->meeting->ranks);
    const struct op op = {.comm = comm, .sending = true, .peer = peer, .out = data, .bytes = count};
    return add_op(&op, stream);
}

static int api_receive(void *data, size_t count, int type, int peer, struct nccl_comm *comm,
                       void *stream) {
    CHECK(type == NCCL_INT8 && peer != comm->rank && peer >= 0 && peer < comm->meeting->ranks);
    const struct op op = {.comm = comm, .peer = peer, .in = data, .bytes = count};
    return add_op(&op, stream);
}

static const char *api_error_text(int result) {
    return result == OWN_ERROR ? "the test's own error" : "no error";
}

static const struct nccl_api nccl_table = {.version = api_version,
                                           .unique_id = api_unique_id,
                                           .init = api_init,
                                           .finalize = api_finalize,
                                           .destroy = api_finalize,
                                           .abort = api_abort,
                                           .async_error = api_async_error,
                                           .group_start = api_group_start,
                                           .group_end = api_group_end,
                                           .send = api_send,
                                           .receive = api_receive,
                                           .error_text = api_error_text};

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
    the = m;
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
            free_ops(item->ops);
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
    the = NULL;
}

struct nccl_place machine_place(struct machine *m, int32_t rank) {
    static char scratch[RANKS_MOST][NCCL_SCRATCH * RANKS_MOST];
    struct device *device = malloc(sizeof *device);
    void *compute = NULL;
    CHECK(device != NULL);
    *device = (struct device){.machine = m, .rank = rank};
    CHECK(stream_open(device, &compute) == STATUS_OK);
    m->compute[rank] = compute;
    return (struct nccl_place){.nccl = &nccl_table,
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
    struct item *item = item_make(ITEM_KERNEL);
    item->function = function;
    item->argument = argument;
    push(m->compute[rank], item);
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
