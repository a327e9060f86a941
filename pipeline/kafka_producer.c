// Producing with an exact count. Acknowledgements come back in any order over partitions; a ring
// of flags, one a message in flight, turns them into a count without holes.

#include "pipeline/kafka_producer.h"

#include "ops/base/clock.h"
#include "pipeline/kafka_inner.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FLIGHT_MOST 65536 // messages, a power of two

enum flag { FLAG_KEPT = 1, FLAG_ENDS_UNIT = 2 };

struct kafka_producer {
    struct kafka_client client;
    struct kafka_client second; // another topic; closed if it has no handle
    int64_t sent, settled;      // messages; those before `settled` are all acknowledged
    int64_t units;              // that ended before `settled`
    int64_t lost;
    rd_kafka_resp_err_t why_lost; // the first one
    uint8_t flags[FLIGHT_MOST];   // of messages settled .. sent - 1
};

// The units that ended before `settled`.
static void settle(struct kafka_producer *producer) {
    while (producer->settled < producer->sent &&
           (producer->flags[producer->settled % FLIGHT_MOST] & FLAG_KEPT) != 0) {
        if (producer->flags[producer->settled % FLIGHT_MOST] & FLAG_ENDS_UNIT) producer->units++;
        producer->settled++;
    }
}

static void on_delivery(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque) {
    struct kafka_client *client = opaque;
    struct kafka_producer *producer = client->owner;
    const int64_t number = (int64_t)(intptr_t)message->_private;
    (void)handle;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        // What is purged at close was given up on purpose.
        if (message->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE ||
            message->err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT) {
            return;
        }
        if (producer->lost++ == 0) producer->why_lost = message->err;
        return;
    }
    producer->flags[number % FLIGHT_MOST] |= FLAG_KEPT;
    settle(producer);
}

static enum status open_client(struct kafka_producer *producer,
                               const struct kafka_settings *settings) {
    char timeout_ms[24];
    snprintf(timeout_ms, sizeof timeout_ms, "%" PRId64, settings->timeout_ms);
    const struct kafka_property ours[] = {
        {"client.id",                    "longscan",       false},
        {"enable.idempotence",           "true",           true },
        {"acks",                         "all",            true },
        {"partitioner",                  "murmur2_random", true },
        {"message.timeout.ms",           timeout_ms,       true },
        {"linger.ms",                    "5",              false},
        {"queue.buffering.max.kbytes",   "262144",         false},
        {"queue.buffering.max.messages", "65536",          false},
    };
    producer->client.owner = producer;
    return kafka_client_open(&producer->client, RD_KAFKA_PRODUCER, settings, ours,
                             (int)(sizeof ours / sizeof ours[0]), on_delivery);
}

enum status kafka_producer_open(const struct kafka_settings *settings,
                                struct kafka_producer **opened) {
    enum status status = STATUS_OK;
    int32_t partitions;
    struct kafka_producer *producer = calloc(1, sizeof *producer);
    if (producer == NULL) return FAIL(NO_MEMORY, "kafka producer");
    TRY_OUT(status, open_client(producer, settings));
    TRY_OUT(status, kafka_client_partitions(&producer->client, &partitions));
    *opened = producer;
    producer = NULL; // the caller's now
out:
    kafka_producer_close(producer);
    return status;
}

enum status kafka_producer_add_topic(struct kafka_producer *producer, const char *topic) {
    int32_t partitions;
    TRY(kafka_client_share(&producer->client, topic, &producer->second));
    return kafka_client_partitions(&producer->second, &partitions);
}

void kafka_producer_close(struct kafka_producer *producer) {
    if (producer == NULL) return;
    if (producer->client.handle != NULL) {
        rd_kafka_purge(producer->client.handle, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_poll(producer->client.handle, 0);
    }
    if (producer->second.shared) kafka_client_close(&producer->second);
    if (!kafka_client_close(&producer->client)) return; // its threads look at the producer
    free(producer);
}

static enum status check_lost(struct kafka_producer *producer) {
    char why[256];
    if (producer->lost > 0) {
        const char *lost = rd_kafka_err2str(producer->why_lost);
        LOG(ERROR, "topic %s: %" PRId64 " messages were not taken: %s", producer->client.topic,
            producer->lost, lost);
        if (producer->why_lost == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
            return FAIL(USAGE,
                        "kafka %s, topic %s: %s: what is sent at once is above the topic's "
                        "max.message.bytes; raise that, or give as much as -X message.max.bytes",
                        producer->client.brokers, producer->client.topic, lost);
        }
        return kafka_client_unreachable(&producer->client, "deliver results", lost);
    }
    if (rd_kafka_fatal_error(producer->client.handle, why, sizeof why) !=
        RD_KAFKA_RESP_ERR_NO_ERROR) {
        return FAIL(BROKER, "kafka %s, topic %s: %s; start again, it goes on from the last commit",
                    producer->client.brokers, producer->client.topic, why);
    }
    return STATUS_OK;
}

static rd_kafka_resp_err_t try_send(struct kafka_producer *producer,
                                    const struct kafka_outgoing *message) {
    const struct kafka_client *client =
        message->second_topic ? &producer->second : &producer->client;
    char time[24] = "";
    rd_kafka_headers_t *headers = NULL;
    if (producer->sent - producer->settled == FLIGHT_MOST) return RD_KAFKA_RESP_ERR__QUEUE_FULL;
    headers = rd_kafka_headers_new(2);
    if (message->type != KAFKA_UNKNOWN) {
        rd_kafka_header_add(headers, KAFKA_TYPE_HEADER, -1, kafka_type_name(message->type), -1);
    }
    if (message->source_time_ms >= 0) {
        snprintf(time, sizeof time, "%" PRId64, message->source_time_ms);
        rd_kafka_header_add(headers, KAFKA_TIME_HEADER, -1, time, -1);
    }
    union {
        const void *given;
        void *taken;
    } copied = {message->value}; // librdkafka takes a pointer to what it may own; F_COPY only reads
    const rd_kafka_resp_err_t error =
        rd_kafka_producev(client->handle, RD_KAFKA_V_RKT(client->topic_handle),
                          RD_KAFKA_V_KEY(message->key, message->key_bytes),
                          RD_KAFKA_V_VALUE(copied.taken, message->value_bytes),
                          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(headers),
                          RD_KAFKA_V_OPAQUE((void *)(intptr_t)producer->sent), RD_KAFKA_V_END);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) rd_kafka_headers_destroy(headers);
    return error;
}

static void count_sent(struct kafka_producer *producer, int flags) {
    producer->flags[producer->sent % FLIGHT_MOST] = (uint8_t)flags;
    producer->sent++;
}

enum status kafka_producer_skip(struct kafka_producer *producer) {
    const int64_t start = clock_ms();
    enum status status;
    while (producer->sent - producer->settled == FLIGHT_MOST) {
        TRY(check_lost(producer));
        if (!kafka_client_wait(&producer->client, start, "deliver results", "the queue is full",
                               &status)) {
            return status;
        }
        rd_kafka_poll(producer->client.handle, 20);
    }
    count_sent(producer, FLAG_KEPT | FLAG_ENDS_UNIT);
    settle(producer);
    return STATUS_OK;
}

enum status kafka_producer_send(struct kafka_producer *producer,
                                const struct kafka_outgoing *message) {
    const int64_t start = clock_ms();
    const char *topic = message->second_topic ? producer->second.topic : producer->client.topic;
    enum status status;
    rd_kafka_poll(producer->client.handle, 0);
    for (;;) {
        TRY(check_lost(producer));
        const rd_kafka_resp_err_t error = try_send(producer, message);
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR) break;
        if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            const char *why = rd_kafka_err2str(error);
            if (error != RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
                return FAIL(BROKER, "topic %s: %s", topic, why);
            }
            return FAIL(BAD_INPUT, "topic %s: %zu bytes under key %.*s: %s", topic,
                        message->value_bytes, (int)message->key_bytes, (const char *)message->key,
                        why);
        }
        if (!kafka_client_wait(&producer->client, start, "deliver results", "the queue is full",
                               &status)) {
            return status;
        }
        rd_kafka_poll(producer->client.handle, 20);
    }
    count_sent(producer, message->ends_unit ? FLAG_ENDS_UNIT : 0);
    return STATUS_OK;
}

enum status kafka_producer_confirmed(struct kafka_producer *producer, int64_t *units) {
    rd_kafka_poll(producer->client.handle, 0);
    TRY(check_lost(producer));
    *units = producer->units;
    return STATUS_OK;
}

enum status kafka_producer_flush(struct kafka_producer *producer) {
    const int64_t start = clock_ms();
    // A message's own time-out ends this wait too; the margin lets it be the one that speaks.
    const int64_t most = producer->client.timeout_ms + 5000;
    while (producer->settled < producer->sent) {
        TRY(check_lost(producer));
        if (clock_ms() - start > most) {
            return kafka_client_unreachable(&producer->client, "deliver results",
                                            "acknowledgements are missing");
        }
        rd_kafka_flush(producer->client.handle, 50);
    }
    return check_lost(producer);
}
