#pragma once
// Messages to a topic: idempotent, acknowledged by all replicas, counted in the order in which
// they were handed over. Thread: one for all calls.

#include "pipeline/kafka_client.h"

// A message may have about this much; Kafka's own default limit is 1,000,000 with its overhead.
#define KAFKA_MESSAGE_MOST ((size_t)900 * 1000)

struct kafka_producer;

// Waits until the topic is known. Errors: USAGE (no such topic), BROKER, STOPPED, NO_MEMORY.
enum status kafka_producer_open(const struct kafka_settings *settings,
                                struct kafka_producer **opened);
// A second topic, for messages with second_topic. Errors: as for open.
enum status kafka_producer_add_topic(struct kafka_producer *producer, const char *topic);

struct kafka_outgoing { // borrowed for the call
    const void *key;
    size_t key_bytes;
    const void *value; // NULL: none, which retracts what the key had before
    size_t value_bytes;
    enum kafka_type type;
    int64_t source_time_ms; // of what it was made from, for a header; -1: none
    bool second_topic;
    bool ends_unit; // the message completes what the caller counts as one
};
// The partition is the key's murmur2, as Java's client has it. Waits only while the queue is full.
// Errors: BROKER (queue full for the time-out, or a message was lost), BAD_INPUT (too large).
enum status kafka_producer_send(struct kafka_producer *producer,
                                const struct kafka_outgoing *message);
// A unit that turned out to need no message. Waits and fails likewise.
enum status kafka_producer_skip(struct kafka_producer *producer);
// Units of which every message, and every message before it, is acknowledged. Errors: BROKER.
enum status kafka_producer_confirmed(struct kafka_producer *producer, int64_t *units);
// Waits with a deadline until all is acknowledged. Errors: BROKER.
enum status kafka_producer_flush(struct kafka_producer *producer);
void kafka_producer_close(struct kafka_producer *producer); // accepts NULL; drops what is queued
