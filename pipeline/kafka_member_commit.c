// Committing what is answered: one commit in flight, the next one sent when it is back.

#include "ops/base/clock.h"
#include "pipeline/kafka_member_inner.h"

#include <inttypes.h>

#define RETRY_MS 200
#define BACK_MS  10000

static void add_answered(struct kafka_member *member, int32_t index,
                         rd_kafka_topic_partition_list_t *list) {
    struct member_partition *partition = &member->partition[index];
    if (!partition->mine) return;
    const int64_t done = outstanding_done(&partition->outstanding);
    if (done <= partition->sent) return;
    partition->sent = done;
    rd_kafka_topic_partition_list_add(list, member->client.topic, index)->offset = done;
}

rd_kafka_topic_partition_list_t *kafka_member_answered(struct kafka_member *member,
                                                       const rd_kafka_topic_partition_list_t *of) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
    if (of == NULL) {
        for (int32_t i = 0; i < member->partitions; i++) {
            add_answered(member, i, list);
        }
    }
    for (int i = 0; of != NULL && i < of->cnt; i++) {
        const int32_t index = of->elems[i].partition;
        if (index < 0 || index >= member->partitions) continue;
        member->partition[index].sent = member->partition[index].kept; // in flight or not
        add_answered(member, index, list);
    }
    return list;
}

// Refused for a reason that trying again does not mend, and that is none of the group's changes.
static bool is_final(rd_kafka_resp_err_t error) {
    switch ((int)error) {
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE:
    case RD_KAFKA_RESP_ERR_INVALID_GROUP_ID: return true;
    default: return false;
    }
}

// Under lock. A partition that went elsewhere meanwhile is no concern of ours; one that is ours is
// committed again.
static enum status take_result(struct kafka_member *member, const rd_kafka_topic_partition_t *entry,
                               rd_kafka_resp_err_t error) {
    if (entry->partition < 0 || entry->partition >= member->partitions) return STATUS_OK;
    struct member_partition *partition = &member->partition[entry->partition];
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) error = entry->err;
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
        if (partition->mine && entry->offset > partition->kept) partition->kept = entry->offset;
        member->failing_ms = 0;
        return STATUS_OK;
    }
    LOG(DEBUG, "commit of %s [%" PRId32 "]: %s", member->client.topic, entry->partition,
        rd_kafka_err2str(error));
    if (is_final(error)) {
        return FAIL(BROKER,
                    "kafka %s: offset %" PRId64 " of topic %s [%" PRId32 "] is not "
                    "committed in group %s: %s",
                    member->client.brokers, entry->offset, member->client.topic, entry->partition,
                    member->group_id, rd_kafka_err2str(error));
    }
    if (!partition->mine) return STATUS_OK;
    partition->sent = partition->kept;
    // a pause between tries does not count against the time-out
    const bool paused = clock_ms() - member->sent_ms >= member->client.timeout_ms / 2;
    if (member->failing_ms == 0 || paused) member->failing_ms = clock_ms();
    return STATUS_OK;
}

static enum status take_results(struct kafka_member *member, int timeout_ms) {
    enum status status = STATUS_OK;
    rd_kafka_event_t *event = NULL;
    while ((event = rd_kafka_queue_poll(member->results, timeout_ms)) != NULL) {
        const rd_kafka_topic_partition_list_t *list =
            rd_kafka_event_type(event) == RD_KAFKA_EVENT_OFFSET_COMMIT
                ? rd_kafka_event_topic_partition_list(event)
                : NULL;
        pthread_mutex_lock(&member->lock);
        for (int i = 0; list != NULL && i < list->cnt; i++) {
            const enum status one =
                take_result(member, &list->elems[i], rd_kafka_event_error(event));
            if (status == STATUS_OK) status = one;
        }
        pthread_mutex_unlock(&member->lock);
        rd_kafka_event_destroy(event);
        member->in_flight = false;
        timeout_ms = 0;
    }
    return status;
}

// *waiting: something is not kept.
static enum status push(struct kafka_member *member, bool *waiting) {
    const int64_t now = clock_ms(), timeout = member->client.timeout_ms;
    enum status status = STATUS_OK;
    *waiting = member->in_flight;
    pthread_mutex_lock(&member->lock);
    const bool overdue = (member->in_flight && now - member->sent_ms >= timeout) ||
                         (member->failing_ms > 0 && now - member->failing_ms >= timeout);
    const bool rests = member->failing_ms > 0 && now - member->sent_ms < RETRY_MS;
    if (member->failed != STATUS_OK) status = member->failed;
    if (!member->in_flight && !overdue && status == STATUS_OK) {
        rd_kafka_topic_partition_list_t *list = rests ? NULL : kafka_member_answered(member, NULL);
        *waiting = rests || list->cnt > 0;
        if (list != NULL && list->cnt > 0) {
            const rd_kafka_resp_err_t error =
                rd_kafka_commit_queue(member->client.handle, list, member->results, NULL, NULL);
            member->in_flight = error == RD_KAFKA_RESP_ERR_NO_ERROR;
            member->sent_ms = now;
            if (!member->in_flight) {
                status =
                    FAIL(BROKER, "kafka %s: cannot commit offsets of %s: %s",
                         member->client.brokers, member->client.topic, rd_kafka_err2str(error));
            }
        }
        if (list != NULL) rd_kafka_topic_partition_list_destroy(list);
    }
    pthread_mutex_unlock(&member->lock);
    if (!overdue) return status;
    return kafka_client_unreachable(&member->client, "commit offsets", "no broker took them");
}

enum status kafka_member_commit(struct kafka_member *member) {
    bool waiting;
    TRY(take_results(member, 0));
    return push(member, &waiting);
}

// The group has taken our partitions back to give them out anew. Most likely they, or some, are ours again
// in a moment, and then what was answered meanwhile can be committed.
static bool comes_back(struct kafka_member *member, int64_t start_ms) {
    bool unkept = false;
    pthread_mutex_lock(&member->lock);
    for (int32_t i = 0; i < member->partitions; i++) {
        const struct member_partition *partition = &member->partition[i];
        if (!partition->mine && outstanding_done(&partition->outstanding) > partition->kept) {
            unkept = true;
        }
    }
    const bool rejoining = member->rejoining;
    pthread_mutex_unlock(&member->lock);
    const int64_t timeout = member->client.timeout_ms;
    return unkept && rejoining && clock_ms() - start_ms < (timeout < BACK_MS ? timeout : BACK_MS);
}

enum status kafka_member_commit_wait(struct kafka_member *member) {
    const int64_t start_ms = clock_ms();
    bool waiting = true;
    for (;;) {
        TRY(take_results(member, 0));
        TRY(push(member, &waiting));
        if (!waiting && !comes_back(member, start_ms)) return STATUS_OK;
        TRY(take_results(member, 50));
    }
}
