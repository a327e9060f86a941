// The caller's side of a member: opening, taking messages, answering them, closing.

#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "pipeline/kafka_member_inner.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLICE_MS 50 // a stop signal is seen after so long

struct member_partition *kafka_member_partition(struct kafka_member *member, int32_t index) {
    void *partitions = member->partition;
    if (room_for(&partitions, &member->room, (size_t)index + 1, sizeof *member->partition) !=
        STATUS_OK) {
        return NULL;
    }
    member->partition = partitions;
    for (; member->partitions <= index; member->partitions++) {
        // one that came later is no part of a run that ends where the topic ended
        member->partition[member->partitions] = (struct member_partition){
            .end = member->follow ? INT64_MAX : 0, .ended = !member->follow, .finished = true};
    }
    return &member->partition[index];
}

void kafka_member_fail(struct kafka_member *member, enum status status) {
    if (member->failed == STATUS_OK) member->failed = status;
    atomic_store(&member->leaving, true);
    pthread_cond_broadcast(&member->changed);
}

void kafka_member_drop(struct kafka_member *member, int32_t partition) {
    struct member_message **at = &member->first;
    member->last = NULL;
    while (*at != NULL) {
        struct member_message *message = *at;
        if (partition >= 0 && message->message.partition != partition) {
            member->last = message;
            at = &message->next;
            continue;
        }
        struct member_partition *from = &member->partition[message->message.partition];
        outstanding_forget(&from->outstanding, message->message.offset);
        *at = message->next;
        member->waiting--;
        free(message);
    }
}

// A question that waits behind our own wish to join would time out, and the wish with it: brokers answer
// what comes over one connection one by one. So what others have committed is asked for over another.
static enum status open_asker(struct kafka_member *member,
                              const struct kafka_member_settings *settings) {
    const struct kafka_property ours[] = {
        {"client.id",          "longscan",         false},
        {"group.id",           settings->group_id, true },
        {"enable.auto.commit", "false",            true },
    };
    return kafka_client_open(&member->asker, RD_KAFKA_CONSUMER, &settings->kafka, ours,
                             (int)(sizeof ours / sizeof ours[0]), NULL);
}

static enum status open_client(struct kafka_member *member,
                               const struct kafka_member_settings *settings) {
    char socket_ms[24];
    const int64_t third = settings->kafka.timeout_ms / 3; // as in kafka_consumer.c
    snprintf(socket_ms, sizeof socket_ms, "%" PRId64,
             third < 1000    ? 1000
             : third > 60000 ? INT64_C(60000)
                             : third);
    const struct kafka_property ours[] = {
        {"client.id",                     "longscan",         false},
        {"group.id",                      settings->group_id, true },
        {"enable.auto.commit",            "false",            true },
        {"enable.auto.offset.store",      "false",            true },
        {"enable.partition.eof",          "true",             true },
        {"auto.offset.reset",             "error",            true },
        {"isolation.level",               "read_committed",   false},
        {"allow.auto.create.topics",      "false",            false},
 // Not cooperative-sticky: a commit that meets the group changing makes librdkafka 2.0.2 lose all
  // partitions for many seconds, and destroying a member that is just joining ends the program.
        {"partition.assignment.strategy", "range,roundrobin", true },
        {"session.timeout.ms",            "10000",            false}, // of a member that was killed
        {"queued.max.messages.kbytes",    "1024",             false}, // of a partition
        {"queued.min.messages",           "1000",             false},
        {"fetch.wait.max.ms",             "100",              false},
        {"socket.timeout.ms",             socket_ms,          false},
    };
    member->client.rebalance = kafka_member_rebalance;
    member->client.owner = member;
    return kafka_client_open(&member->client, RD_KAFKA_CONSUMER, &settings->kafka, ours,
                             (int)(sizeof ours / sizeof ours[0]), NULL);
}

// The partitions and, unless they are followed, where they end.
static enum status learn(struct kafka_member *member) {
    int32_t partitions = 0;
    TRY(kafka_client_partitions(&member->client, &partitions));
    if (kafka_member_partition(member, partitions - 1) == NULL) return STATUS_NO_MEMORY;
    member->known = partitions;
    for (int32_t i = 0; !member->follow && i < partitions; i++) {
        int64_t low = 0, high = 0;
        TRY(kafka_client_watermarks(&member->client, i, &low, &high));
        member->partition[i].end = high;
        member->partition[i].ended = member->partition[i].finished = low == high;
    }
    return STATUS_OK;
}

static enum status join(struct kafka_member *member) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, member->client.topic, RD_KAFKA_PARTITION_UA);
    const rd_kafka_resp_err_t error = rd_kafka_subscribe(member->client.handle, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return FAIL(BROKER, "topic %s: cannot join the group %s: %s", member->client.topic,
                    member->group_id, rd_kafka_err2str(error));
    }
    member->asked_in_ms = member->asked_ms = member->looked_ms = member->quiet_ms = clock_ms();
    if (pthread_create(&member->thread, NULL, kafka_member_read, member) != 0) {
        return FAIL(UNEXPECTED, "topic %s: cannot start a thread", member->client.topic);
    }
    member->started = true;
    return STATUS_OK;
}

static void open_locks(struct kafka_member *member) {
    pthread_condattr_t monotonic;
    pthread_mutex_init(&member->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&member->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

enum status kafka_member_open(const struct kafka_member_settings *settings,
                              struct kafka_member **opened) {
    enum status status = STATUS_OK;
    struct kafka_member *member = calloc(1, sizeof *member);
    if (member == NULL) return FAIL(NO_MEMORY, "a member of a consumer group");
    member->follow = settings->follow;
    member->idle_ms = settings->idle_ms;
    member->value_most = settings->value_most;
    open_locks(member);
    TRY_OUT(status, open_client(member, settings));
    if (!settings->follow) TRY_OUT(status, open_asker(member, settings));
    member->group_id = strdup(settings->group_id);
    member->results = rd_kafka_queue_new(member->client.handle);
    if (member->group_id == NULL) {
        status = FAIL(NO_MEMORY, "a group's name");
        goto out;
    }
    TRY_OUT(status, learn(member));
    TRY_OUT(status, join(member));
    *opened = member;
    member = NULL; // the caller's now
out:
    kafka_member_close(member);
    return status;
}

void kafka_member_close(struct kafka_member *member) {
    if (member == NULL) return;
    atomic_store(&member->leaving, true);
    if (member->started) pthread_join(member->thread, NULL);
    free(member->given);
    kafka_member_drop(member, -1);
    for (int32_t i = 0; i < member->partitions; i++) {
        if (member->partition[i].queue != NULL) rd_kafka_queue_destroy(member->partition[i].queue);
        outstanding_free(&member->partition[i].outstanding);
    }
    free(member->partition);
    member->partition = NULL;
    member->partitions = 0;
    if (member->results != NULL) rd_kafka_queue_destroy(member->results);
    const bool asker_gone = member->asker.handle == NULL || kafka_client_close(&member->asker);
    if (!kafka_client_close(&member->client) || !asker_gone) return; // threads look at the member
    pthread_cond_destroy(&member->changed);
    pthread_mutex_destroy(&member->lock);
    free(member->group_id);
    free(member);
}

static bool any_outstanding(const struct kafka_member *member) {
    for (int32_t i = 0; i < member->partitions; i++) {
        if (member->partition[i].mine && outstanding_any(&member->partition[i].outstanding)) {
            return true;
        }
    }
    return false;
}

// Nothing waits: is there anything to come?
static bool is_over(const struct kafka_member *member) {
    if (!member->joined || member->rejoining) return false;
    if (member->follow) {
        return member->idle_ms > 0 && member->unanswered_ms == 0 &&
               clock_ms() - member->quiet_ms >= member->idle_ms && !any_outstanding(member);
    }
    for (int32_t i = 0; i < member->partitions; i++) {
        const struct member_partition *partition = &member->partition[i];
        if (!partition->finished && !(partition->mine && partition->ended)) return false;
    }
    return true;
}

static enum status give(struct kafka_member *member, struct kafka_member_message *message) {
    member->given = member->first;
    member->first = member->given->next;
    if (member->first == NULL) member->last = NULL;
    member->waiting--;
    member->quiet_ms = clock_ms();
    *message = member->given->message;
    return STATUS_OK;
}

// Under lock; waits for what changes, a slice at most.
static void sleep_until(struct kafka_member *member, int64_t until_ms) {
    const int64_t slice_ms = clock_ms() + SLICE_MS;
    const int64_t at_ms = until_ms < slice_ms ? until_ms : slice_ms;
    const struct timespec at = {.tv_sec = (time_t)(at_ms / 1000),
                                .tv_nsec = (long)(at_ms % 1000) * 1000000};
    pthread_cond_timedwait(&member->changed, &member->lock, &at);
}

enum status kafka_member_next(struct kafka_member *member, int32_t timeout_ms,
                              struct kafka_member_message *message) {
    const int64_t until_ms = clock_ms() + timeout_ms;
    enum status status;
    free(member->given);
    member->given = NULL;
    pthread_mutex_lock(&member->lock);
    for (;;) {
        if (member->client.stop != NULL && member->client.stop()) {
            status = STATUS_STOPPED;
        } else if (member->failed != STATUS_OK) {
            status = member->failed;
        } else if (member->first != NULL) {
            status = give(member, message);
        } else if (is_over(member)) {
            status = STATUS_END;
        } else if (clock_ms() >= until_ms) {
            status = STATUS_AGAIN;
        } else {
            sleep_until(member, until_ms);
            continue;
        }
        break;
    }
    pthread_mutex_unlock(&member->lock);
    return status;
}

bool kafka_member_answer(struct kafka_member *member, int32_t partition, int64_t offset,
                         int64_t term) {
    bool answered = false;
    pthread_mutex_lock(&member->lock);
    if (partition >= 0 && partition < member->partitions &&
        member->partition[partition].term == term) {
        answered = outstanding_answer(&member->partition[partition].outstanding, offset);
        member->quiet_ms = clock_ms();
    }
    pthread_mutex_unlock(&member->lock);
    return answered;
}
