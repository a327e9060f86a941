// Where a consumer begins: which partitions are its group's, what was committed of them, what they
// hold, and whether the two fit.

#include "ops/base/clock.h"
#include "pipeline/kafka_consumer_inner.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// Partitions p with p % groups == group, of `all`.
static enum status take_share(struct kafka_consumer *consumer, int32_t all) {
    const int32_t groups = consumer->groups, group = consumer->group;
    const int32_t mine = group < all ? (all - 1 - group) / groups + 1 : 0;
    if (consumer->commits && mine > KAFKA_PARTITIONS_MOST) {
        return FAIL(USAGE,
                    "topic %s has %" PRId32 " partitions, %" PRId32 " of them for group %" PRId32
                    " of %" PRId32 ": more than %d; run more groups (--group-size)",
                    consumer->client.topic, all, mine, group, groups, KAFKA_PARTITIONS_MOST);
    }
    if (mine == 0) {
        LOG(WARN, "topic %s has %" PRId32 " partitions: none for group %" PRId32 " of %" PRId32,
            consumer->client.topic, all, group, groups);
        return STATUS_OK;
    }
    consumer->partition = calloc((size_t)mine, sizeof *consumer->partition);
    if (consumer->partition == NULL) return FAIL(NO_MEMORY, "%" PRId32 " partitions", mine);
    for (int32_t i = 0; i < mine; i++) {
        struct kafka_partition *partition = &consumer->partition[i];
        partition->index = group + i * groups;
        partition->started = -1;
        partition->commit = (struct kafka_commit){.wanted = -1, .sent = -1, .kept = -1};
    }
    consumer->partitions = mine;
    return STATUS_OK;
}

static rd_kafka_topic_partition_list_t *list_of(const struct kafka_consumer *consumer) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(consumer->partitions);
    for (int32_t i = 0; i < consumer->partitions; i++) {
        rd_kafka_topic_partition_list_add(list, consumer->client.topic,
                                          consumer->partition[i].index)
            ->offset = consumer->partition[i].start;
    }
    return list;
}

static rd_kafka_resp_err_t first_error(const rd_kafka_topic_partition_list_t *list) {
    for (int i = 0; i < list->cnt; i++) {
        if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR) return list->elems[i].err;
    }
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

// Someone else's blob in our group (too long, or not plain text) is not ours to read.
static void keep_committed(const rd_kafka_topic_partition_t *found,
                           struct kafka_partition *partition) {
    if (found->offset < 0) return;
    partition->started = found->offset;
    if (found->metadata_size == 0 || found->metadata_size > KAFKA_BLOB_MOST) return;
    memcpy(partition->blob, found->metadata, found->metadata_size);
    for (size_t i = 0; i < found->metadata_size; i++) {
        if (partition->blob[i] < 0x20 || partition->blob[i] > 0x7E) {
            memset(partition->blob, 0, sizeof partition->blob);
            return;
        }
    }
}

static enum status read_committed(struct kafka_consumer *consumer) {
    const int64_t start = clock_ms();
    const int64_t timeout = consumer->client.timeout_ms;
    const int slice = timeout < 1000 ? (int)timeout : 1000;
    enum status status = STATUS_OK;
    rd_kafka_topic_partition_list_t *list = list_of(consumer);
    for (;;) {
        rd_kafka_resp_err_t error = rd_kafka_committed(consumer->client.handle, list, slice);
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR) error = first_error(list);
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR) break;
        if (!kafka_client_wait(&consumer->client, start, "read the committed offsets",
                               rd_kafka_err2str(error), &status)) {
            break;
        }
        kafka_client_pause();
    }
    for (int32_t i = 0; status == STATUS_OK && i < consumer->partitions; i++) {
        keep_committed(&list->elems[i], &consumer->partition[i]);
    }
    rd_kafka_topic_partition_list_destroy(list);
    return status;
}

static enum status place(struct kafka_consumer *consumer, struct kafka_partition *partition) {
    int64_t low, high;
    TRY(kafka_client_watermarks(&consumer->client, partition->index, &low, &high));
    partition->start = partition->started >= 0 ? partition->started : low;
    if (partition->start < low || partition->start > high) {
        return FAIL(MISMATCH,
                    "topic %s [%" PRId32 "]: this job committed offset %" PRId64
                    ", but the topic holds %" PRId64 " to %" PRId64 ": %s; start under another "
                    "--job to read what is left",
                    consumer->client.topic, partition->index, partition->start, low, high,
                    partition->start < low ? "records were deleted before they were read"
                                           : "it was made anew or lost its end");
    }
    partition->end = high;
    partition->low = low;
    partition->high = high;
    partition->ended = !consumer->follow && partition->start >= high;
    atomic_store(&partition->next, partition->start);
    partition->commit.kept = partition->started;
    return STATUS_OK;
}

enum status kafka_consumer_begin(struct kafka_consumer *consumer) {
    int32_t all = 0;
    TRY(kafka_client_partitions(&consumer->client, &all));
    consumer->all = all;
    TRY(take_share(consumer, all));
    if (consumer->partitions == 0) return STATUS_OK;
    if (consumer->commits) TRY(read_committed(consumer));
    for (int32_t i = 0; i < consumer->partitions; i++) {
        TRY(place(consumer, &consumer->partition[i]));
    }
    kafka_consumer_watch_begin(consumer);
    rd_kafka_topic_partition_list_t *list = list_of(consumer);
    const rd_kafka_resp_err_t error = rd_kafka_assign(consumer->client.handle, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return FAIL(UNEXPECTED, "topic %s: cannot assign partitions: %s", consumer->client.topic,
                    rd_kafka_err2str(error));
    }
    return kafka_queues_open(&consumer->client, consumer->group, consumer->groups,
                             consumer->partitions, &consumer->queues);
}
