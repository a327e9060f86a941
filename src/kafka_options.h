#pragma once
// The Kafka options as pipeline/ wants them, for the verbs that talk to a topic.

#include "src/settings.h"

// The topic that "kafka:TOPIC" names; NULL: it names none, or is NULL.
const char *kafka_options_topic(const char *name);

#ifdef LONGSCAN_WITH_KAFKA
#    include "pipeline/kafka_client.h"

// Borrows from settings.
struct kafka_settings kafka_options_client(const struct settings *settings);
// For a topic that an option (`role`) names, in place of --topic.
struct kafka_settings kafka_options_for(const struct settings *settings, const char *role,
                                        const char *topic);

// What --until says: follow, and after how much silence to end nevertheless (0: never).
// Errors: USAGE.
enum status kafka_options_until(const char *until, bool *follow, int64_t *idle_ms);
#else
#    define KAFKA_OPTIONS_MISSING                                            \
        "this build has no Kafka: install librdkafka-dev libprotobuf-c-dev " \
        "protobuf-c-compiler and build again"
#endif
