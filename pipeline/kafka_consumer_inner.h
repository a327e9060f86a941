#pragma once
// A consumer's state, shared by reading (kafka_consumer.c), finding the start (kafka_start.c) and
// committing (kafka_commit.c).

#include "pipeline/kafka_consumer.h"
#include "pipeline/kafka_inner.h"

#include <stdatomic.h>

// What is committed of a partition. Thread: the committer's.
struct kafka_commit {
    int64_t wanted, sent, kept; // offsets; -1: none
    int64_t since_ms;           // when what is in flight or failing was first sent
    int64_t tried_ms;           // and last
    bool in_flight, failing;
    char wanted_blob[KAFKA_BLOB_MOST + 1];
};

struct kafka_partition {
    int32_t index;
    int64_t start;   // the first offset that is read
    int64_t end;     // until end: where it ends
    bool ended;      // nothing more is taken from it
    bool told;       // and the caller knows
    int64_t started; // committed offset found at the start; -1: none
    char blob[KAFKA_BLOB_MOST + 1];
    _Atomic int64_t next; // offset
    struct kafka_commit commit;
};

struct kafka_consumer {
    struct kafka_client client;
    int32_t group, groups;
    bool commits, follow;
    int64_t idle_ms;
    rd_kafka_message_t *message; // the one the caller looks at
    struct kafka_partition *partition;
    int32_t partitions;
    // Time spent polling for nothing; time the caller spends elsewhere does not count.
    int64_t silent_ms;         // since the last record or partition end
    int64_t unanswered_ms;     // since the brokers last answered
    int64_t probe_ms;          // since they were last asked
    rd_kafka_queue_t *results; // of commits
};

// NULL: not ours.
struct kafka_partition *kafka_consumer_find(struct kafka_consumer *consumer, int32_t index);

// Fills partition[] and tells the handle to fetch.
enum status kafka_consumer_begin(struct kafka_consumer *consumer);
