// Committing offsets with their blobs: one commit of a partition in flight, the latest wanted one
// sent when it is back. A failure is tried again until the time-out, then ends the job. The thread
// that reads looks after both, for no further commit may come.
// (Transactions and offsets_store drop the blob in librdkafka 2.0.2; a plain commit keeps it.)

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "pipeline/kafka_consumer_inner.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 200

static bool is_blob(const char *blob) {
    size_t bytes = 0;
    for (; blob[bytes] != '\0'; bytes++) {
        if (blob[bytes] < 0x20 || blob[bytes] > 0x7E) return false;
    }
    return bytes <= KAFKA_BLOB_MOST;
}

// Somebody must read or commit for a failed one to be tried again: a pause in that does not count
// against the time-out.
static bool paused(const struct kafka_consumer *consumer, const struct kafka_commit *commit) {
    return commit->failing && clock_ms() - commit->tried_ms >= consumer->client.timeout_ms / 2;
}

static enum status send_commit(struct kafka_consumer *consumer, struct kafka_partition *partition) {
    struct kafka_commit *commit = &partition->commit;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *entry =
        rd_kafka_topic_partition_list_add(list, consumer->client.topic, partition->index);
    const size_t blob_bytes = strlen(commit->wanted_blob);
    entry->offset = commit->wanted;
    if (blob_bytes > 0) {
        entry->metadata = strdup(commit->wanted_blob); // the list's, which frees it
        entry->metadata_size = entry->metadata == NULL ? 0 : blob_bytes;
        if (entry->metadata == NULL) {
            rd_kafka_topic_partition_list_destroy(list);
            return FAIL(NO_MEMORY, "commit of %s", consumer->client.topic);
        }
    }
    const rd_kafka_resp_err_t error =
        rd_kafka_commit_queue(consumer->client.handle, list, consumer->results, NULL, NULL);
    rd_kafka_topic_partition_list_destroy(list);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return FAIL(BROKER, "kafka %s: cannot commit offset %" PRId64 " of %s [%" PRId32 "]: %s",
                    consumer->client.brokers, commit->wanted, consumer->client.topic,
                    partition->index, rd_kafka_err2str(error));
    }
    if (!commit->failing || paused(consumer, commit)) commit->since_ms = clock_ms();
    commit->tried_ms = clock_ms();
    commit->sent = commit->wanted;
    commit->in_flight = true;
    return STATUS_OK;
}

// Whether trying again may help.
static bool is_passing(rd_kafka_resp_err_t error) {
    switch ((int)error) {
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
    case RD_KAFKA_RESP_ERR__WAIT_COORD:
    case RD_KAFKA_RESP_ERR__WAIT_CACHE:
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
    case RD_KAFKA_RESP_ERR__RETRY:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
    case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
    case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
    case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART: return true;
    default: return false;
    }
}

static enum status refused(struct kafka_consumer *consumer, const struct kafka_partition *partition,
                           const char *why) {
    return FAIL(BROKER,
                "kafka %s: offset %" PRId64 " of topic %s [%" PRId32 "] is not committed: %s; is "
                "another consumer using this --job as its group.id, or is a right missing?",
                consumer->client.brokers, partition->commit.sent, consumer->client.topic,
                partition->index, why);
}

static enum status take_result(struct kafka_consumer *consumer,
                               const rd_kafka_topic_partition_t *entry, rd_kafka_resp_err_t error) {
    struct kafka_partition *partition = kafka_consumer_find(consumer, entry->partition);
    if (partition == NULL) return STATUS_OK;
    struct kafka_commit *commit = &partition->commit;
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) error = entry->err;
    commit->in_flight = false;
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
        commit->kept = entry->offset;
        commit->failing = false;
        return STATUS_OK;
    }
    if (!is_passing(error)) return refused(consumer, partition, rd_kafka_err2str(error));
    LOG(DEBUG, "commit of %s [%" PRId32 "]: %s", consumer->client.topic, partition->index,
        rd_kafka_err2str(error));
    commit->failing = true;
    return STATUS_OK;
}

static enum status take_results(struct kafka_consumer *consumer, int timeout_ms) {
    enum status status = STATUS_OK;
    for (;;) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(consumer->results, timeout_ms);
        if (event == NULL) return status;
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_OFFSET_COMMIT) {
            const rd_kafka_resp_err_t error = rd_kafka_event_error(event);
            const rd_kafka_topic_partition_list_t *list =
                rd_kafka_event_topic_partition_list(event);
            for (int i = 0; list != NULL && i < list->cnt; i++) {
                const enum status one = take_result(consumer, &list->elems[i], error);
                if (status == STATUS_OK) status = one;
            }
        }
        rd_kafka_event_destroy(event);
        timeout_ms = 0; // what else is there already
    }
}

// Send what is wanted and not on its way; fail what is overdue. *waiting: something is not kept.
static enum status push(struct kafka_consumer *consumer, bool *waiting) {
    *waiting = false;
    for (int32_t i = 0; i < consumer->partitions; i++) {
        struct kafka_partition *partition = &consumer->partition[i];
        struct kafka_commit *commit = &partition->commit;
        if ((commit->in_flight || (commit->failing && !paused(consumer, commit))) &&
            clock_ms() - commit->since_ms >= consumer->client.timeout_ms) {
            return kafka_client_unreachable(&consumer->client, "commit offsets",
                                            "no broker took them");
        }
        const bool again = commit->failing && clock_ms() - commit->tried_ms >= RETRY_MS;
        const bool newer = !commit->failing && commit->wanted != commit->sent;
        if (!commit->in_flight && (again || newer)) TRY(send_commit(consumer, partition));
        if (commit->in_flight || commit->failing) *waiting = true;
    }
    return STATUS_OK;
}

static enum status commit(struct kafka_consumer *consumer, struct kafka_partition *found,
                          int64_t offset, const char *blob) {
    bool waiting;
    TRY(take_results(consumer, 0));
    // The same offset with another blob (another snapshot) is another commit.
    if (found->commit.wanted == offset && strcmp(found->commit.wanted_blob, blob) != 0) {
        found->commit.sent = -1;
    }
    found->commit.wanted = offset;
    memcpy(found->commit.wanted_blob, blob, strlen(blob) + 1); // it fits: is_blob
    return push(consumer, &waiting);
}

enum status kafka_consumer_commit(struct kafka_consumer *consumer, int32_t partition,
                                  int64_t offset, const char *blob) {
    struct kafka_partition *found = kafka_consumer_find(consumer, partition);
    CHECK(consumer->commits && found != NULL && offset >= 0 && is_blob(blob));
    pthread_mutex_lock(&consumer->commit_lock);
    const enum status status = commit(consumer, found, offset, blob);
    pthread_mutex_unlock(&consumer->commit_lock);
    return status;
}

enum status kafka_consumer_tend_commits(struct kafka_consumer *consumer, int64_t now_ms) {
    bool waiting;
    if (!consumer->commits || now_ms - consumer->commits_seen_ms < RETRY_MS) return STATUS_OK;
    consumer->commits_seen_ms = now_ms;
    pthread_mutex_lock(&consumer->commit_lock);
    enum status status = take_results(consumer, 0);
    if (status == STATUS_OK) status = push(consumer, &waiting);
    if (status != STATUS_OK) consumer->failed = status; // for whoever waits for the last commit
    pthread_mutex_unlock(&consumer->commit_lock);
    return status;
}

enum status kafka_consumer_commit_wait(struct kafka_consumer *consumer) {
    bool waiting = true;
    if (consumer->failed != STATUS_OK) return consumer->failed;
    for (;;) {
        TRY(take_results(consumer, 0));
        TRY(push(consumer, &waiting));
        if (!waiting) return STATUS_OK;
        TRY(take_results(consumer, 50));
    }
}
