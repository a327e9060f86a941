#pragma once
// A member's state, shared by the caller's side (kafka_member.c), the thread that reads
// (kafka_member_read.c), what the group decides (kafka_member_group.c) and kafka_member_commit.c.

#include "pipeline/kafka_inner.h"
#include "pipeline/kafka_member.h"
#include "pipeline/outstanding.h"

#include <stdatomic.h>

struct member_partition {
    int64_t end;                    // where the run ends; INT64_MAX: nowhere
    bool mine, ended;               // ended: all before `end` is read
    bool finished;                  // all before `end` is committed, by whomever
    int64_t term;                   // changes when it is begun anew; 0: it never was
    rd_kafka_queue_t *queue;        // of what is fetched; NULL: not mine
    struct outstanding outstanding; // kept when it goes: it may come back
    int64_t sent, kept;             // commits
};

struct member_message {
    struct member_message *next;
    struct kafka_member_message message; // value: behind this struct
};

struct kafka_member {
    struct kafka_client client;
    struct kafka_client asker; // what others have committed; joins nothing
    char *group_id;
    bool follow;
    int64_t idle_ms;
    size_t value_most;
    pthread_t thread;
    bool started;              // the thread
    atomic_bool leaving;       // it should end
    rd_kafka_queue_t *results; // of commits; the caller's
    bool in_flight;
    int64_t sent_ms,
        failing_ms; // when the commit in flight was sent; since when they fail, 0: they do not
    struct member_message *given; // that the caller looks at

    pthread_mutex_t lock; // of all below
    pthread_cond_t changed;
    enum status failed;                 // why the thread ended
    struct member_partition *partition; // [partitions], by index
    size_t room;
    int32_t partitions;
    struct member_message *first, *last; // that wait for the caller
    int64_t waiting;
    int64_t terms;
    bool joined;      // the group has told us our share
    bool rejoining;   // it has taken all back, and will tell it anew
    int64_t quiet_ms; // when a message was last given or answered

    // the thread's
    int64_t asked_ms, unanswered_ms, missing_ms; // of the topic, as kafka_consumer_watch.c has it
    int64_t looked_ms;                           // when commits of others were last asked for
    int64_t asked_in_ms;                         // since when the group owes us our share
    bool told_lost;
    int32_t known; // partitions when the run began
};

// The partition of this index, made if the topic grew; NULL: no memory. Under lock.
struct member_partition *kafka_member_partition(struct kafka_member *member, int32_t index);
// Ends the thread with this status, which the next call tells. Under lock.
void kafka_member_fail(struct kafka_member *member, enum status status);
// Drops what waits of a partition, or all of it (-1), as if it had not been read. Under lock.
void kafka_member_drop(struct kafka_member *member, int32_t partition);

// librdkafka's callback when partitions come or go. Thread: the member's.
void kafka_member_rebalance(rd_kafka_t *handle, rd_kafka_resp_err_t error,
                            rd_kafka_topic_partition_list_t *list, void *opaque);
// Leaves the group within a deadline. Thread: the member's.
void kafka_member_leave(struct kafka_member *member);
// What the partitions' committed offsets are now, by this client. Waits at most until the deadline, or
// less when the member is to leave. Errors: BROKER, STOPPED.
enum status kafka_member_committed(struct kafka_member *member, struct kafka_client *client,
                                   rd_kafka_topic_partition_list_t *list);
// Offsets that may be committed, of all partitions of the list, or of all there are (NULL), and differ
// from what was sent. Owns: the caller destroys it. Under lock.
rd_kafka_topic_partition_list_t *kafka_member_answered(struct kafka_member *member,
                                                       const rd_kafka_topic_partition_list_t *of);
// The thread: argument is the member.
void *kafka_member_read(void *argument);
