#pragma once
// A member of a Kafka consumer group: brokers say which partitions of a topic it reads, and say anew when
// members come and go. For messages that stand by themselves; documents, whose records belong together,
// are read by kafka_consumer.h.
//
// What is committed of a partition lies before its first message that is not answered. Whoever gets the
// partition next begins there, so by induction everything before a committed offset was answered,
// whoever committed it and however late: nothing is lost. What was read and not answered when a partition
// went to another member is answered twice.
//
// Threads: the caller's, for all calls; and one of its own, which reads ahead and takes part in what the
// group decides, so that the others never wait for a member that is busy.

#include "pipeline/kafka_client.h"

struct kafka_member;

struct kafka_member_settings {
    struct kafka_settings kafka;
    const char *group_id;
    size_t value_most; // of a message, bytes; what is longer comes without its value
    bool follow;       // else to the ends as they are now
    int64_t idle_ms;   // with follow: end when nothing came or was answered for so long; 0: never
};

// Lives until the next call of kafka_member_next.
struct kafka_member_message {
    int32_t partition;
    int64_t offset;
    int64_t term;      // of this member's time with the partition; > 0
    const void *value; // NULL: none, or longer than value_most
    size_t value_bytes;
};

// Errors: USAGE (no such topic), BROKER, STOPPED, NO_MEMORY.
enum status kafka_member_open(const struct kafka_member_settings *settings,
                              struct kafka_member **opened);
// AGAIN: none came within timeout_ms.
// END: there is none for this member, and what other members have before the end is answered; or silence.
// Errors: STOPPED, BROKER (no answer for the time-out, the topic was deleted), MISMATCH (records were
// deleted before they were read), NO_MEMORY.
enum status kafka_member_next(struct kafka_member *member, int32_t timeout_ms,
                              struct kafka_member_message *message);
// false: it is answered already, or the partition went to another member meanwhile.
bool kafka_member_answer(struct kafka_member *member, int32_t partition, int64_t offset,
                         int64_t term);
// Sends what is new and returns. Errors: BROKER (no commit was kept for the time-out), NO_MEMORY.
enum status kafka_member_commit(struct kafka_member *member);
// Waits with a deadline until all that is answered is committed.
enum status kafka_member_commit_wait(struct kafka_member *member);
// Leaves the group, so that its partitions go to others at once. Accepts NULL. Waits for librdkafka
// at most 15 s; then it and the member are left behind.
void kafka_member_close(struct kafka_member *member);
