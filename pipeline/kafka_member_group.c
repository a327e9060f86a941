// What the group decides: partitions that come and go, and leaving it. All in the member's thread.

#include "ops/base/clock.h"
#include "pipeline/kafka_member_inner.h"

#include <inttypes.h>
#include <string.h>

#define SLICE_MS  1000
#define COMMIT_MS 2000 // for a last commit of partitions that go
#define LEAVE_MS  4000

static rd_kafka_resp_err_t first_error(const rd_kafka_topic_partition_list_t *list) {
    for (int i = 0; i < list->cnt; i++) {
        if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR) return list->elems[i].err;
    }
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

enum status kafka_member_committed(struct kafka_member *member, struct kafka_client *client,
                                   rd_kafka_topic_partition_list_t *list) {
    const int64_t start = clock_ms(), timeout = member->client.timeout_ms;
    enum status status;
    for (;;) {
        rd_kafka_resp_err_t error =
            rd_kafka_committed(client->handle, list, timeout < SLICE_MS ? (int)timeout : SLICE_MS);
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR) error = first_error(list);
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return STATUS_OK;
        if (atomic_load(&member->leaving)) return STATUS_STOPPED;
        if (!kafka_client_wait(client, start, "read the committed offsets", rd_kafka_err2str(error),
                               &status)) {
            return status;
        }
        kafka_client_pause();
    }
}

static enum status begin(struct kafka_member *member, rd_kafka_topic_partition_t *entry) {
    struct member_partition *partition = kafka_member_partition(member, entry->partition);
    if (partition == NULL) return STATUS_NO_MEMORY;
    const int64_t committed = entry->offset < 0 ? 0 : entry->offset;
    // What this member read of it before is in its hands still, unless somebody went back on purpose.
    if (partition->term > 0 && committed >= partition->kept) {
        outstanding_skip(&partition->outstanding, committed);
    } else {
        outstanding_begin(&partition->outstanding, committed);
        partition->term = ++member->terms;
    }
    partition->sent = partition->kept = committed;
    if (!member->follow && committed >= partition->end) partition->finished = true;
    const int64_t reached = partition->outstanding.reached;
    partition->ended = !member->follow && (partition->finished || reached >= partition->end);
    partition->mine = true;
    entry->offset = reached > 0 || entry->offset == 0 ? reached : RD_KAFKA_OFFSET_BEGINNING;
    LOG(DEBUG, "topic %s [%" PRId32 "]: this job's, committed to %" PRId64 ", read to %" PRId64,
        member->client.topic, entry->partition, committed, reached);
    return STATUS_OK;
}

static void end(struct kafka_member *member, int32_t index) {
    if (index < 0 || index >= member->partitions || !member->partition[index].mine) return;
    struct member_partition *partition = &member->partition[index];
    partition->mine = false;
    if (partition->queue != NULL) rd_kafka_queue_destroy(partition->queue);
    partition->queue = NULL;
    kafka_member_drop(member, index);
    LOG(DEBUG, "topic %s [%" PRId32 "]: another job's now", member->client.topic, index);
}

static enum status check(struct kafka_member *member, rd_kafka_resp_err_t error, const char *what) {
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return STATUS_OK;
    return FAIL(BROKER, "topic %s: cannot %s partitions: %s", member->client.topic, what,
                rd_kafka_err2str(error));
}

// librdkafka waits for an answer, whatever it is.
static enum status take_nothing(struct kafka_member *member, enum status why) {
    (void)rd_kafka_assign(member->client.handle, NULL);
    return why;
}

static enum status assign(struct kafka_member *member, rd_kafka_topic_partition_list_t *list) {
    rd_kafka_t *handle = member->client.handle;
    enum status status =
        list->cnt > 0 ? kafka_member_committed(member, &member->client, list) : STATUS_OK;
    if (status != STATUS_OK) return take_nothing(member, status);
    pthread_mutex_lock(&member->lock);
    for (int i = 0; status == STATUS_OK && i < list->cnt; i++) {
        status = begin(member, &list->elems[i]);
    }
    pthread_mutex_unlock(&member->lock);
    if (status != STATUS_OK) return take_nothing(member, status);
    TRY(check(member, rd_kafka_assign(handle, list), "take"));
    pthread_mutex_lock(&member->lock);
    for (int i = 0; i < list->cnt; i++) {
        // Each partition has its own queue, so that what we do not take yet holds back nothing else.
        rd_kafka_queue_t *queue =
            rd_kafka_queue_get_partition(handle, member->client.topic, list->elems[i].partition);
        if (queue != NULL) rd_kafka_queue_forward(queue, NULL);
        member->partition[list->elems[i].partition].queue = queue;
    }
    member->joined = true;
    member->rejoining = false;
    member->quiet_ms = clock_ms();
    pthread_cond_broadcast(&member->changed);
    pthread_mutex_unlock(&member->lock);
    return STATUS_OK;
}

// The last word on what is answered. If it is not heard, some is answered once more elsewhere.
static void commit_last(struct kafka_member *member, const rd_kafka_topic_partition_list_t *of) {
    pthread_mutex_lock(&member->lock);
    rd_kafka_topic_partition_list_t *list = kafka_member_answered(member, of);
    pthread_mutex_unlock(&member->lock);
    rd_kafka_queue_t *results = rd_kafka_queue_new(member->client.handle);
    if (list->cnt > 0 && rd_kafka_commit_queue(member->client.handle, list, results, NULL, NULL) ==
                             RD_KAFKA_RESP_ERR_NO_ERROR) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(results, COMMIT_MS);
        if (event != NULL) rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(results);
    rd_kafka_topic_partition_list_destroy(list);
}

static enum status revoke(struct kafka_member *member, rd_kafka_topic_partition_list_t *list) {
    rd_kafka_t *handle = member->client.handle;
    const bool lost = rd_kafka_assignment_lost(handle) != 0;
    if (!lost && member->failed == STATUS_OK) commit_last(member, list);
    pthread_mutex_lock(&member->lock);
    for (int i = 0; i < list->cnt; i++) {
        end(member, list->elems[i].partition);
    }
    member->failing_ms = 0;
    member->rejoining = !atomic_load(&member->leaving);
    member->asked_in_ms = clock_ms();
    pthread_mutex_unlock(&member->lock);
    if (lost && list->cnt > 0) {
        LOG(INFO, "topic %s: group %s gives its partitions out anew; this job had %d of them",
            member->client.topic, member->group_id, list->cnt);
    }
    return check(member, rd_kafka_assign(handle, NULL), "give back");
}

static void change(struct kafka_member *member, rd_kafka_resp_err_t error,
                   rd_kafka_topic_partition_list_t *list) {
    enum status status = STATUS_OK;
    if (error == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        status = assign(member, list);
    } else if (error == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS) {
        status = revoke(member, list);
    } else {
        LOG(DEBUG, "topic %s: rebalance: %s", member->client.topic, rd_kafka_err2str(error));
        (void)rd_kafka_assign(member->client.handle, NULL);
    }
    if (status == STATUS_OK || status == STATUS_STOPPED) return;
    pthread_mutex_lock(&member->lock);
    kafka_member_fail(member, status);
    pthread_mutex_unlock(&member->lock);
}

void kafka_member_rebalance(rd_kafka_t *handle, rd_kafka_resp_err_t error,
                            rd_kafka_topic_partition_list_t *list, void *opaque) {
    struct kafka_client *client = opaque;
    (void)handle;
    change(client->owner, error, list);
}

void kafka_member_leave(struct kafka_member *member) {
    rd_kafka_t *handle = member->client.handle;
    const int64_t until_ms = clock_ms() + LEAVE_MS;
    if (member->failed == STATUS_BROKER) return; // nobody would hear a farewell
    rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(handle, queue);
    while (error == NULL && !rd_kafka_consumer_closed(handle) && clock_ms() < until_ms) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 50);
        if (event == NULL) continue;
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE) {
            change(member, rd_kafka_event_error(event), rd_kafka_event_topic_partition_list(event));
        }
        rd_kafka_event_destroy(event);
    }
    rd_kafka_error_destroy(error);
    rd_kafka_queue_destroy(queue);
}
