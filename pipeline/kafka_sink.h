#pragma once
// A topic as a sink of results: DocumentScores keyed by document id, pieces of their arrays keyed
// by id#first.

#include "pipeline/kafka_client.h"
#include "pipeline/result_json.h"
#include "pipeline/sink.h"

struct kafka_sink_settings {
    struct kafka_settings kafka;
    bool json; // the values are JSON, as a file's lines; otherwise protobuf
    struct result_ids ids;
};

// Waits until the topic is known. Errors: USAGE (no such topic), BROKER, STOPPED, NO_MEMORY.
enum status kafka_sink_open(const struct kafka_sink_settings *settings, struct sink **opened);
