// NCCL's calls, as nccl_transport makes them: groups become items of a stream.

#include "ops/base/check.h"
#include "tests/nccl_machine_inner.h"

#include <stdlib.h>
#include <string.h>

enum { OWN_ERROR = 3 };

static _Thread_local int group_depth;
static _Thread_local struct op *group_first, *group_last;
static _Thread_local struct stream *group_stream;
static _Thread_local bool group_failed;

static int api_version(int *version) {
    *version = NCCL_OLDEST;
    return NCCL_SUCCESS;
}

static int api_unique_id(struct nccl_unique_id *id) {
    memset(id, 0, sizeof *id);
    return NCCL_SUCCESS;
}

static struct meeting *meeting_of(const struct nccl_unique_id *id, int ranks) {
    for (int i = 0; i < machine_now->meeting_count; i++) {
        if (memcmp(&machine_now->meetings[i]->id, id, sizeof *id) == 0)
            return machine_now->meetings[i];
    }
    struct meeting *made = calloc(1, sizeof *made);
    CHECK(made != NULL && machine_now->meeting_count < MEETINGS_MOST);
    made->id = *id;
    made->ranks = ranks;
    machine_now->meetings[machine_now->meeting_count++] = made;
    return made;
}

static int api_init(struct nccl_comm **comm, int ranks, struct nccl_unique_id id, int rank,
                    struct nccl_config *config) {
    CHECK(config->size == sizeof *config && config->magic == NCCL_MAGIC);
    struct nccl_comm *made = calloc(1, sizeof *made);
    CHECK(made != NULL);
    pthread_mutex_lock(&machine_now->lock);
    struct meeting *meeting = meeting_of(&id, ranks);
    CHECK(meeting->ranks == ranks);
    *made = (struct nccl_comm){.machine = machine_now,
                               .meeting = meeting,
                               .rank = rank,
                               .device = machine_caller,
                               .all = machine_now->comms};
    machine_now->comms = made;
    meeting->joined++;
    pthread_cond_broadcast(&machine_now->changed);
    while (meeting->joined < ranks && !machine_now->closing)
        pthread_cond_wait(&machine_now->changed, &machine_now->lock);
    pthread_mutex_unlock(&machine_now->lock);
    *comm = made;
    return NCCL_SUCCESS;
}

static int api_finalize(struct nccl_comm *comm) {
    (void)comm;
    return NCCL_SUCCESS;
}

static int api_abort(struct nccl_comm *comm) {
    pthread_mutex_lock(&machine_now->lock);
    comm->aborted = true;
    machine_now->aborts++;
    pthread_cond_broadcast(&machine_now->changed);
    pthread_mutex_unlock(&machine_now->lock);
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
    machine_free_ops(group_first);
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
    struct item *item = machine_item(ITEM_GROUP);
    item->ops = group_first;
    machine_push(group_stream, item);
    group_first = group_last = NULL;
    group_stream = NULL;
    return NCCL_SUCCESS;
}

static int add_op(const struct op *wanted, struct stream *stream) {
    pthread_mutex_lock(&machine_now->lock);
    const int32_t device = wanted->comm->device;
    const bool fails = machine_now->calls_left[device] == 0;
    if (machine_now->calls_left[device] > 0) machine_now->calls_left[device]--;
    CHECK(!wanted->comm->aborted); // nobody may call any more
    pthread_mutex_unlock(&machine_now->lock);
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
    return result == OWN_ERROR ? "machine_now test's own error" : "no error";
}

const struct nccl_api machine_nccl = {.version = api_version,
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
