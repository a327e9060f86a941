#pragma once
// What everything that talks to Kafka shares: how a connection is described, and one to a topic.
// Only kafka files know librdkafka; this header does not show it.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kafka_settings {
    const char *brokers; // HOST:PORT,...
    const char *topic;
    const char *role;            // of the topic, for messages: "--input"; NULL: none
    const char *const *property; // "key=value" for librdkafka, over our defaults
    int64_t property_count;
    int64_t timeout_ms; // brokers unreachable for this long: STATUS_BROKER
    bool (*stop)(void); // true: give up waiting, STATUS_STOPPED; NULL: never
};

// Kinds of messages, named in a header of each message, so that a topic's reader need not guess.
enum kafka_type {
    KAFKA_UNKNOWN,
    KAFKA_TOKEN_RECORD,
    KAFKA_DOCUMENT_SCORE,
    KAFKA_WINDOW_SCORE,
    KAFKA_DEAD_LETTER,
    KAFKA_TYPES
};
