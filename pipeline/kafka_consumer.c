// Reading assigned partitions, one message at a time (batches may lose messages in librdkafka
// before 2.1), up to where they ended when the job began.

#include "pipeline/kafka_consumer.h"

#include "ops/base/clock.h"
#include "pipeline/kafka_consumer_inner.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum status open_client(struct kafka_consumer *consumer,
                               const struct kafka_consumer_settings *settings) {
    const char *const group_id = settings->group_id != NULL ? settings->group_id : "longscan-read";
    char socket_ms[24], session_ms[24];
    // A request may be tried three times before librdkafka gives up; our own deadline is the sum.
    const int64_t third = settings->kafka.timeout_ms / 3;
    snprintf(socket_ms, sizeof socket_ms, "%" PRId64,
             third < 1000    ? 1000
             : third > 60000 ? INT64_C(60000)
                             : third);
    // No group is joined, but destroying a handle with a commit on its way to a broker that is gone
    // waits for this long (45 s by default, measured with 2.0.2).
    snprintf(session_ms, sizeof session_ms, "%" PRId64,
             settings->kafka.timeout_ms < 6000 ? settings->kafka.timeout_ms : 6000);
    // Bounded queues, one a partition: so much of records, and one fetch beyond it. librdkafka before
    // 2.2 sleeps for up to a second once one is full, so it holds more than a second's worth.
    const struct kafka_property ours[] = {
        {"client.id",                  "longscan",       false},
        {"group.id",                   group_id,         true },
        {"enable.auto.commit",         "false",          true },
        {"enable.auto.offset.store",   "false",          true },
        {"enable.partition.eof",       "true",           true },
        {"auto.offset.reset",          "error",          true },
        {"isolation.level",            "read_committed", false},
        {"allow.auto.create.topics",   "false",          false},
        {"queued.max.messages.kbytes", "4096",           false}, // of a partition
        {"queued.min.messages",        "65536",          false},
        {"fetch.wait.max.ms",          "50",             false},
        {"socket.timeout.ms",          socket_ms,        false},
        {"session.timeout.ms",         session_ms,       false},
    };
    return kafka_client_open(&consumer->client, RD_KAFKA_CONSUMER, &settings->kafka, ours,
                             (int)(sizeof ours / sizeof ours[0]), NULL);
}

enum status kafka_consumer_open(const struct kafka_consumer_settings *settings,
                                struct kafka_consumer **opened) {
    enum status status = STATUS_OK;
    struct kafka_consumer *consumer = calloc(1, sizeof *consumer);
    if (consumer == NULL) return FAIL(NO_MEMORY, "kafka consumer");
    pthread_mutex_init(&consumer->commit_lock, NULL);
    consumer->group = settings->group;
    consumer->groups = settings->groups;
    consumer->commits = settings->group_id != NULL;
    consumer->follow = settings->follow;
    consumer->idle_ms = settings->idle_ms;
    TRY_OUT(status, open_client(consumer, settings));
    consumer->results = rd_kafka_queue_new(consumer->client.handle);
    TRY_OUT(status, kafka_consumer_begin(consumer));
    *opened = consumer;
    consumer = NULL; // the caller's now
out:
    kafka_consumer_close(consumer);
    return status;
}

void kafka_consumer_close(struct kafka_consumer *consumer) {
    if (consumer == NULL) return;
    if (consumer->message != NULL) rd_kafka_message_destroy(consumer->message);
    if (consumer->results != NULL) rd_kafka_queue_destroy(consumer->results);
    kafka_queues_close(consumer->queues);
    if (!kafka_client_close(&consumer->client)) return;
    pthread_mutex_destroy(&consumer->commit_lock);
    free(consumer->partition);
    free(consumer);
}

struct kafka_partition *kafka_consumer_find(struct kafka_consumer *consumer, int32_t index) {
    const int32_t at = (index - consumer->group) / consumer->groups;
    if (index < 0 || at < 0 || at >= consumer->partitions) return NULL;
    return consumer->partition[at].index == index ? &consumer->partition[at] : NULL;
}

// The next partition whose end the caller does not know. false: there is none.
static bool tell_end(struct kafka_consumer *consumer, struct kafka_message *message) {
    for (int32_t i = 0; i < consumer->partitions; i++) {
        struct kafka_partition *partition = &consumer->partition[i];
        if (!partition->ended || partition->told) continue;
        partition->told = true;
        *message = (struct kafka_message){.happening = KAFKA_PARTITION_END,
                                          .partition = partition->index,
                                          .offset = atomic_load(&partition->next)};
        return true;
    }
    return false;
}

static bool all_told(const struct kafka_consumer *consumer) {
    for (int32_t i = 0; i < consumer->partitions; i++) {
        if (!consumer->partition[i].told) return false;
    }
    return true;
}

// Nothing more is fetched from an ended partition.
static void end_partition(struct kafka_consumer *consumer, struct kafka_partition *partition) {
    partition->ended = true;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, consumer->client.topic, partition->index);
    rd_kafka_pause_partitions(consumer->client.handle, list);
    rd_kafka_topic_partition_list_destroy(list);
}

// A poll of `waited` ms brought nothing. AGAIN, or what the silence has come to mean.
static enum status think_about_silence(struct kafka_consumer *consumer, int64_t waited) {
    if (consumer->watch.unanswered_ms > 0) {
        consumer->silent_ms = 0; // it is the brokers', and says nothing about the topic
        return STATUS_AGAIN;
    }
    consumer->silent_ms += waited;
    if (consumer->idle_ms > 0 && consumer->silent_ms >= consumer->idle_ms) {
        bool answers;
        TRY(kafka_consumer_ask(consumer, &answers));
        for (int32_t i = 0; answers && i < consumer->partitions; i++) {
            consumer->partition[i].ended = true;
        }
        return STATUS_AGAIN;
    }
    if (!consumer->follow && consumer->silent_ms >= consumer->client.timeout_ms) {
        return kafka_client_unreachable(&consumer->client, "read on, although records wait",
                                        "none came");
    }
    return STATUS_AGAIN;
}

// Something other than a record came.
static enum status take_event(struct kafka_consumer *consumer, const rd_kafka_message_t *event) {
    struct kafka_partition *partition = kafka_consumer_find(consumer, event->partition);
    char why[256];
    switch ((int)event->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        if (!consumer->follow) consumer->silent_ms = 0;
        if (partition == NULL || partition->ended) return STATUS_AGAIN;
        atomic_store(&partition->next, event->offset);
        if (!consumer->follow && event->offset >= partition->end) {
            end_partition(consumer, partition);
        }
        return STATUS_AGAIN;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
        return FAIL(MISMATCH,
                    "topic %s [%" PRId32 "]: offset %" PRId64 " is gone: records were deleted "
                    "before they were read; give the topic a longer retention",
                    consumer->client.topic, event->partition,
                    partition == NULL ? -1 : atomic_load(&partition->next));
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        return FAIL(BROKER, "topic %s [%" PRId32 "]: %s; was it deleted, or the right to read it?",
                    consumer->client.topic, event->partition, rd_kafka_err2str(event->err));
    case RD_KAFKA_RESP_ERR__FATAL:
        rd_kafka_fatal_error(consumer->client.handle, why, sizeof why);
        return FAIL(BROKER, "kafka %s, topic %s: %s", consumer->client.brokers,
                    consumer->client.topic, why);
    default:
        LOG(DEBUG, "topic %s [%" PRId32 "]: %s", consumer->client.topic, event->partition,
            rd_kafka_message_errstr(event));
        return STATUS_AGAIN;
    }
}

// The header's value; NULL: there is none.
static const char *header_of(const rd_kafka_message_t *message, const char *header, size_t *bytes) {
    rd_kafka_headers_t *headers = NULL;
    const void *value = NULL;
    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        rd_kafka_header_get_last(headers, header, &value, bytes) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return NULL;
    }
    return value;
}

static enum kafka_type type_of(const rd_kafka_message_t *message) {
    size_t bytes = 0;
    const char *name = header_of(message, KAFKA_TYPE_HEADER, &bytes);
    if (name == NULL) return KAFKA_UNKNOWN;
    for (int type = KAFKA_TOKEN_RECORD; type < KAFKA_TYPES; type++) {
        const char *known = kafka_type_name((enum kafka_type)type);
        if (strlen(known) == bytes && memcmp(known, name, bytes) == 0) {
            return (enum kafka_type)type;
        }
    }
    return KAFKA_UNKNOWN;
}

static int64_t source_time_of(const rd_kafka_message_t *message) {
    char digits[20] = "";
    size_t bytes = 0;
    const char *text = header_of(message, KAFKA_TIME_HEADER, &bytes);
    if (text == NULL || bytes == 0 || bytes >= sizeof digits) return -1;
    memcpy(digits, text, bytes);
    return strspn(digits, "0123456789") == bytes ? strtoll(digits, NULL, 10) : -1;
}

static int64_t time_of(const rd_kafka_message_t *message) {
    rd_kafka_timestamp_type_t type = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    const int64_t time_ms = rd_kafka_message_timestamp(message, &type);
    return type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? -1 : time_ms;
}

static enum status take_record(struct kafka_consumer *consumer, struct kafka_message *message) {
    const rd_kafka_message_t *record = consumer->message;
    struct kafka_partition *partition = kafka_consumer_find(consumer, record->partition);
    consumer->silent_ms = 0;
    if (partition == NULL || partition->ended) return STATUS_AGAIN;
    if (!consumer->follow && record->offset >= partition->end) {
        end_partition(consumer, partition); // written after this job began
        return STATUS_AGAIN;
    }
    atomic_store(&partition->next, record->offset + 1);
    if (!consumer->follow && record->offset + 1 >= partition->end) {
        end_partition(consumer, partition);
    }
    *message = (struct kafka_message){.happening = KAFKA_MESSAGE,
                                      .partition = record->partition,
                                      .offset = record->offset,
                                      .type = type_of(record),
                                      .time_ms = time_of(record),
                                      .source_time_ms = source_time_of(record),
                                      .key = record->key,
                                      .key_bytes = record->key_len,
                                      .value = record->payload,
                                      .value_bytes = record->len};
    return STATUS_OK;
}

enum status kafka_consumer_next(struct kafka_consumer *consumer, int32_t timeout_ms,
                                struct kafka_message *message) {
    if (consumer->message != NULL) {
        rd_kafka_message_destroy(consumer->message);
        consumer->message = NULL;
    }
    if (tell_end(consumer, message)) return STATUS_OK;
    if (all_told(consumer)) return STATUS_END;
    TRY(kafka_consumer_watch(consumer));
    const int64_t start = clock_ms();
    TRY(kafka_consumer_tend_commits(consumer, start));
    rd_kafka_message_t *polled = kafka_queues_next(consumer->queues, timeout_ms);
    if (polled == NULL) return think_about_silence(consumer, clock_ms() - start);
    consumer->message = polled;
    if (polled->err != RD_KAFKA_RESP_ERR_NO_ERROR) return take_event(consumer, polled);
    return take_record(consumer, message);
}

struct kafka_position kafka_consumer_position(struct kafka_consumer *consumer) {
    struct kafka_position position = {0};
    for (int32_t i = 0; i < consumer->partitions; i++) {
        const struct kafka_partition *partition = &consumer->partition[i];
        const int64_t next = atomic_load(&partition->next);
        int64_t low = 0, end = partition->end;
        if (consumer->follow && (rd_kafka_get_watermark_offsets(
                                     consumer->client.handle, consumer->client.topic,
                                     partition->index, &low, &end) != RD_KAFKA_RESP_ERR_NO_ERROR ||
                                 end < 0)) {
            end = next;
        }
        position.done += next - partition->start;
        position.total += partition->end - partition->start;
        // an operator's lag is of what is committed, where anything is
        const int64_t wanted = partition->commit.wanted;
        const int64_t behind = !consumer->commits ? next : wanted >= 0 ? wanted : partition->start;
        position.lag += end > behind ? end - behind : 0;
    }
    if (consumer->follow) position.total = -1;
    return position;
}

bool kafka_consumer_started(struct kafka_consumer *consumer, int32_t partition, int64_t *offset,
                            const char **blob) {
    const struct kafka_partition *found = kafka_consumer_find(consumer, partition);
    if (found == NULL) return false;
    *offset = found->started;
    *blob = found->blob;
    return true;
}
