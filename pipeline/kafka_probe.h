#pragma once
// Is a broker there, and what does it say of itself?

#include "pipeline/kafka_client.h"

struct kafka_probe {
    char cluster[64]; // the cluster's id; "": it has none
    char release[64]; // "speaks as Kafka 3.7 or newer"
    char names[192];  // of the first topics, with their partitions; those of Kafka itself left out
    int32_t brokers, topics;
    int64_t answer_ms;
};

// Waits for the brokers at most the settings' timeout; their topic may be NULL.
// Errors: BROKER, USAGE (a property is wrong, or they do not let us in), STOPPED, NO_MEMORY.
enum status kafka_probe(const struct kafka_settings *settings, struct kafka_probe *probe);
