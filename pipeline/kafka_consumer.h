#pragma once
// A group's share of a topic's partitions, read message by message from where it was left to the
// end. No consumer group decides who reads what: partition p belongs to group p % groups.

#include "pipeline/kafka_client.h"

#define KAFKA_PARTITIONS_MOST 64 // of one leader; who commits nothing reads any number
#define KAFKA_BLOB_MOST       200

struct kafka_consumer;

struct kafka_consumer_settings {
    struct kafka_settings kafka;
    const char *group_id;  // offsets are committed under it; NULL: none, read from the beginning
    int32_t group, groups; // this group's index among them
    // Else the ends as they are now: what an open transaction holds back is the next job's.
    bool follow;     // do not end at the partitions' ends
    int64_t idle_ms; // with follow: end when nothing came for so long; 0: never
};

enum kafka_happening { KAFKA_MESSAGE, KAFKA_PARTITION_END };

// Lives until the next call of kafka_consumer_next.
struct kafka_message {
    enum kafka_happening happening;
    int32_t partition;
    int64_t offset; // at a partition's end: of what would come next
    enum kafka_type type;
    int64_t time_ms;        // its timestamp; -1: none
    int64_t source_time_ms; // of what it was made from, as a header says; -1: none
    const void *key;        // NULL: none
    size_t key_bytes;
    const void *value; // NULL: none
    size_t value_bytes;
};

// Finds where to begin: the committed offset, else the oldest record.
// Errors: USAGE (no such topic, too many partitions), MISMATCH (a committed offset is not in the
// topic), BROKER, STOPPED, NO_MEMORY.
enum status kafka_consumer_open(const struct kafka_consumer_settings *settings,
                                struct kafka_consumer **opened);
// The next message, waiting for it at most about timeout_ms. Thread: one.
// Errors: AGAIN, END, BROKER (no answer for the time-out; the topic was deleted), MISMATCH (records
// were deleted before they were read; the topic was made anew, or has more partitions now).
enum status kafka_consumer_next(struct kafka_consumer *consumer, int32_t timeout_ms,
                                struct kafka_message *message);

// What next does between two messages, without taking one: asks after the topic every few seconds.
// To be called every second while next is not. Thread: next's. Errors: BROKER, MISMATCH.
enum status kafka_consumer_tend(struct kafka_consumer *consumer);

// `offset` is the next record to read after a restart; blob comes back with it. Sends and returns;
// what became of it is looked at by later calls, of this one, next and tend. Thread: one, may be
// another than next's.
// Errors: BROKER (commits have failed for the time-out, or for good).
enum status kafka_consumer_commit(struct kafka_consumer *consumer, int32_t partition,
                                  int64_t offset, const char *blob);
// Waits with a deadline until the last commit of each partition is kept.
enum status kafka_consumer_commit_wait(struct kafka_consumer *consumer);

// Thread: the one that commits. total -1: there is no end. lag: from what was given to be committed
// (or was read, where nothing is committed) to the end.
struct kafka_position {
    int64_t done, total, lag; // records
};
struct kafka_position kafka_consumer_position(struct kafka_consumer *consumer);
// The committed offset it began at and what was committed with it; offset -1: it began at the
// oldest record. false: the partition is another group's.
bool kafka_consumer_started(struct kafka_consumer *consumer, int32_t partition, int64_t *offset,
                            const char **blob);
// Accepts NULL. Waits for librdkafka at most 15 s; then it and the consumer are left behind.
void kafka_consumer_close(struct kafka_consumer *consumer);
