#pragma once
// A topic as a sink of results: DocumentScores keyed by document id, pieces of their arrays keyed
// by id#first (windows) and id#nll#first (token NLLs). Windows may have a topic of their own:
// WindowScores keyed by id#first, each as soon as it is complete.

#include "pipeline/kafka_client.h"
#include "pipeline/result_json.h"
#include "pipeline/sink.h"

struct kafka_sink_settings {
    struct kafka_settings kafka;
    const char *windows; // the topic of WindowScores; NULL: windows stand in DocumentScores
    int64_t score_every; // tokens of a window; 0: there are none
    bool json;           // the values are JSON, as a file's lines; otherwise protobuf
    struct result_ids ids;
};

// Waits until the topics are known. Errors: USAGE (no such topic), BROKER, STOPPED, NO_MEMORY.
enum status kafka_sink_open(const struct kafka_sink_settings *settings, struct sink **opened);
// A topic as a sink of dead letters, keyed by document id where it is known. Errors: the same.
enum status kafka_letters_open(const struct kafka_settings *settings, struct sink **opened);
