#pragma once
// A consumer's state, shared by reading (kafka_consumer.c), finding the start (kafka_start.c),
// looking after the topic (kafka_consumer_watch.c) and committing (kafka_commit.c).

#include "pipeline/kafka_consumer.h"
#include "pipeline/kafka_inner.h"
#include "pipeline/kafka_queues.h"

#include <pthread.h>
#include <stdatomic.h>

// What is committed of a partition. Thread: the committer's or, under the consumer's lock, the
// reader's.
struct kafka_commit {
    int64_t wanted, sent, kept; // offsets; -1: none
    int64_t since_ms;           // when what is in flight or failing was first sent
    int64_t tried_ms;           // and last
    bool in_flight, failing;
    char wanted_blob[KAFKA_BLOB_MOST + 1];
};

struct kafka_partition {
    int32_t index;
    int64_t start;     // the first offset that is read
    int64_t end;       // until end: where it ends
    int64_t low, high; // the ends when they were last asked for
    int64_t since;     // the first record after the job began is not before this one
    bool ended;        // nothing more is taken from it
    bool told;         // and the caller knows
    int64_t started;   // committed offset found at the start; -1: none
    char blob[KAFKA_BLOB_MOST + 1];
    _Atomic int64_t next; // offset
    struct kafka_commit commit;
};

// What brokers said of the topic. Thread: the reader's.
struct kafka_watch {
    int64_t asked_ms;      // when they were last asked
    int64_t unanswered_ms; // how long they have not answered; 0: they do
    int64_t missing_ms;    // since when they know no such topic; 0: they do
    int32_t turn;          // whose ends are asked for next
    int64_t began_ms;      // the time of day when the job began
    bool told_lost, told_grown;
};

struct kafka_consumer {
    struct kafka_client client;
    int32_t group, groups;
    bool commits, follow;
    int64_t idle_ms;
    rd_kafka_message_t *message; // the one the caller looks at
    struct kafka_partition *partition;
    int32_t partitions;
    int32_t all; // partitions of the topic, not only of this group
    // Spent polling for nothing since the last record or partition end, while brokers answer.
    int64_t silent_ms;
    struct kafka_watch watch;
    enum status failed; // why no broker will keep another commit
    pthread_mutex_t commit_lock;
    int64_t commits_seen_ms;     // when the reader last looked after them
    rd_kafka_queue_t *results;   // of commits
    struct kafka_queues *queues; // NULL: no partition is ours
};

// NULL: not ours.
struct kafka_partition *kafka_consumer_find(struct kafka_consumer *consumer, int32_t index);

// Notes what brokers say of the topic as the job begins.
void kafka_consumer_watch_begin(struct kafka_consumer *consumer);
// Asks after the topic if it is time to. Errors: BROKER, MISMATCH.
enum status kafka_consumer_watch(struct kafka_consumer *consumer);
// Asks now. *answers: a broker did, and all is well.
enum status kafka_consumer_ask(struct kafka_consumer *consumer, bool *answers);

// Takes what became of commits and sends those that waited for it, if it is time to: a last commit may
// find one before it under way, or fail, and no other need come. Thread: the reader's. Errors: BROKER.
enum status kafka_consumer_tend_commits(struct kafka_consumer *consumer, int64_t now_ms);

// Fills partition[] and tells the handle to fetch.
enum status kafka_consumer_begin(struct kafka_consumer *consumer);
