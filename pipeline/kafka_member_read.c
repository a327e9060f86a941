// The member's own thread: it takes what librdkafka has fetched, a bounded number ahead of the caller,
// and looks after the topic. It never waits for the caller, so that the group never waits for it.

#include "ops/base/clock.h"
#include "pipeline/kafka_member_inner.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WAITING_MOST 1024 // messages read ahead of the caller, beside those librdkafka has
#define TURN_MOST    64   // of a partition, until the next one has its turn
#define WAIT_MS      50
#define ASK_MS       500
#define ASK_EVERY_MS 2000
#define MISSING_MS   2000
#define LOOK_MS      1000
#define JOIN_MS      60000 // a group decides within its members' session time-outs

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// Queues it for the caller. Under lock.
static enum status keep(struct kafka_member *member, const rd_kafka_message_t *record,
                        int64_t term) {
    const size_t bytes =
        record->payload != NULL && record->len <= member->value_most ? record->len : 0;
    struct member_message *message = malloc(sizeof *message + bytes);
    if (message == NULL) return FAIL(NO_MEMORY, "a message of %zu bytes", bytes);
    message->next = NULL;
    message->message = (struct kafka_member_message){.partition = record->partition,
                                                     .offset = record->offset,
                                                     .term = term,
                                                     .value_bytes = record->len};
    if (bytes > 0 || (record->payload != NULL && record->len == 0)) {
        memcpy(message + 1, record->payload, bytes);
        message->message.value = message + 1;
    }
    if (member->last != NULL) {
        member->last->next = message;
    } else {
        member->first = message;
    }
    member->last = message;
    member->waiting++;
    pthread_cond_broadcast(&member->changed);
    return STATUS_OK;
}

static enum status take_record(struct kafka_member *member, struct member_partition *partition,
                               const rd_kafka_message_t *record) {
    enum outstanding_added added;
    if (record->offset >= partition->end) {
        outstanding_reach(&partition->outstanding, partition->end);
        partition->ended = true;
        pthread_cond_broadcast(&member->changed);
        return STATUS_OK;
    }
    TRY(outstanding_add(&partition->outstanding, record->offset, &added));
    if (added == OUTSTANDING_LATE) {
        return FAIL(UNEXPECTED, "topic %s [%" PRId32 "]: offset %" PRId64 " came after later ones",
                    member->client.topic, record->partition, record->offset);
    }
    if (added == OUTSTANDING_KNOWN) return STATUS_OK;
    if (record->offset + 1 >= partition->end) partition->ended = true;
    return keep(member, record, partition->term);
}

static enum status take_event(struct kafka_member *member, const rd_kafka_message_t *event) {
    const char *const why = rd_kafka_err2str(event->err);
    char fatal[256];
    switch ((int)event->err) {
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
        return FAIL(MISMATCH,
                    "topic %s [%" PRId32 "]: what group %s committed is not in the topic: records "
                    "were deleted before they were read, or it was made anew; start under another "
                    "--job to read what is there",
                    member->client.topic, event->partition, member->group_id);
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL:
        return FAIL(
            USAGE,
            "kafka %s, topic %s, group %s: %s; give a --job that no other program uses, and "
            "see that you may read the topic in it",
            member->client.brokers, member->client.topic, member->group_id, why);
    case RD_KAFKA_RESP_ERR__FATAL:
        rd_kafka_fatal_error(member->client.handle, fatal, sizeof fatal);
        return FAIL(BROKER, "kafka %s, topic %s: %s", member->client.brokers, member->client.topic,
                    fatal);
    default:
        LOG(DEBUG, "topic %s [%" PRId32 "]: %s", member->client.topic, event->partition, why);
        return STATUS_OK;
    }
}

// A message or an event, from the partition's queue or from the common one: so it was put there before
// the partition's was made its own, or librdkafka has tied the two again.
static void take(struct kafka_member *member, rd_kafka_message_t *message, bool common) {
    enum status status = STATUS_OK;
    pthread_mutex_lock(&member->lock);
    struct member_partition *partition = NULL;
    if (message->partition >= 0 && message->partition < member->partitions) {
        partition = &member->partition[message->partition];
    }
    if (partition != NULL && !partition->mine) partition = NULL;
    if (common && partition != NULL && partition->queue != NULL)
        rd_kafka_queue_forward(partition->queue, NULL);
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        if (partition != NULL) {
            outstanding_reach(&partition->outstanding, least(message->offset, partition->end));
            if (message->offset >= partition->end) partition->ended = true;
            pthread_cond_broadcast(&member->changed);
        }
    } else if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        status = take_event(member, message);
    } else if (partition != NULL) {
        status = take_record(member, partition, message);
    }
    if (status != STATUS_OK) kafka_member_fail(member, status);
    pthread_mutex_unlock(&member->lock);
    rd_kafka_message_destroy(message);
}

// The partition's queue if there is room for what it has. Only this thread makes and destroys queues.
static rd_kafka_queue_t *queue_of(struct kafka_member *member, int32_t index) {
    pthread_mutex_lock(&member->lock);
    const struct member_partition *partition = &member->partition[index];
    const bool wanted = partition->mine && !partition->ended && member->waiting < WAITING_MOST;
    rd_kafka_queue_t *queue = wanted ? partition->queue : NULL;
    pthread_mutex_unlock(&member->lock);
    return queue;
}

static bool take_partitions(struct kafka_member *member) {
    bool any = false;
    for (int32_t i = 0; i < member->partitions; i++) {
        for (int taken = 0; taken < TURN_MOST; taken++) {
            rd_kafka_queue_t *queue = queue_of(member, i);
            rd_kafka_message_t *message = queue == NULL ? NULL : rd_kafka_consume_queue(queue, 0);
            if (message == NULL) break;
            take(member, message, false);
            any = true;
        }
    }
    return any;
}

static enum status note_silence(struct kafka_member *member, int64_t before_ms) {
    struct kafka_client *client = &member->client;
    pthread_mutex_lock(&member->lock);
    member->unanswered_ms += clock_ms() - before_ms + 1;
    const bool too_long = member->unanswered_ms >= client->timeout_ms;
    pthread_mutex_unlock(&member->lock);
    if (too_long) {
        return kafka_client_unreachable(client, "reach a broker", "no answer");
    }
    if (!member->told_lost) {
        LOG(WARN, "kafka %s, topic %s: no answer; waiting for it up to %" PRId64 " ms",
            client->brokers, client->topic, client->timeout_ms);
    }
    member->told_lost = true;
    return STATUS_OK;
}

static enum status note_missing(struct kafka_member *member) {
    struct kafka_client *client = &member->client;
    client->doomed = true;
    if (member->missing_ms == 0) member->missing_ms = clock_ms();
    if (clock_ms() - member->missing_ms < least(MISSING_MS, client->timeout_ms)) return STATUS_OK;
    return FAIL(BROKER,
                "kafka %s: topic %s is gone: it was deleted while it was read, or the right to see "
                "it was taken",
                client->brokers, client->topic);
}

static enum status note_answer(struct kafka_member *member, int32_t partitions) {
    if (member->told_lost) {
        LOG(INFO, "kafka %s, topic %s: answers again", member->client.brokers,
            member->client.topic);
    }
    member->told_lost = false;
    pthread_mutex_lock(&member->lock);
    member->unanswered_ms = 0;
    const bool late =
        (!member->joined || member->rejoining) && clock_ms() - member->asked_in_ms >= JOIN_MS;
    pthread_mutex_unlock(&member->lock);
    if (member->missing_ms > 0 || partitions < member->known) {
        return FAIL(MISMATCH,
                    "kafka %s: topic %s was deleted and made again while it was read; start again, "
                    "under another --job if offsets of the old one are kept",
                    member->client.brokers, member->client.topic);
    }
    if (late) {
        return FAIL(BROKER,
                    "kafka %s, topic %s: group %s gave this job no partitions within %d s; is a "
                    "member of it stuck, or another program using this --job?",
                    member->client.brokers, member->client.topic, member->group_id, JOIN_MS / 1000);
    }
    return STATUS_OK;
}

// librdkafka says little of what happens to a topic, so brokers are asked (kafka_consumer_watch.c).
static enum status watch(struct kafka_member *member) {
    const int64_t timeout = member->client.timeout_ms, before_ms = member->asked_ms;
    int32_t partitions = 0;
    if (clock_ms() - before_ms < least(ASK_EVERY_MS, timeout / 4)) return STATUS_OK;
    const enum kafka_answer answer =
        kafka_client_ask(&member->client, (int32_t)least(ASK_MS, timeout), &partitions);
    member->asked_ms = clock_ms();
    switch (answer) {
    case KAFKA_NO_ANSWER: return note_silence(member, before_ms);
    case KAFKA_NO_TOPIC: return note_missing(member);
    case KAFKA_TOPIC: break;
    }
    return note_answer(member, partitions);
}

// With nothing left of our own: have the others committed what they have before the ends?
static rd_kafka_topic_partition_list_t *list_others(struct kafka_member *member) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
    pthread_mutex_lock(&member->lock);
    bool look = member->first == NULL;
    for (int32_t i = 0; look && i < member->partitions; i++) {
        const struct member_partition *partition = &member->partition[i];
        if (partition->finished) continue;
        if (partition->mine) look = partition->ended;
        if (!partition->mine) rd_kafka_topic_partition_list_add(list, member->client.topic, i);
    }
    pthread_mutex_unlock(&member->lock);
    if (look && list->cnt > 0) return list;
    rd_kafka_topic_partition_list_destroy(list);
    return NULL;
}

static enum status look_at_others(struct kafka_member *member) {
    if (member->follow || clock_ms() - member->looked_ms < LOOK_MS) return STATUS_OK;
    rd_kafka_topic_partition_list_t *list = list_others(member);
    member->looked_ms = clock_ms();
    if (list == NULL) return STATUS_OK;
    const enum status status = kafka_member_committed(member, &member->asker, list);
    pthread_mutex_lock(&member->lock);
    for (int i = 0; status == STATUS_OK && i < list->cnt; i++) {
        struct member_partition *partition = &member->partition[list->elems[i].partition];
        if (list->elems[i].offset >= partition->end) partition->finished = true;
    }
    pthread_cond_broadcast(&member->changed);
    pthread_mutex_unlock(&member->lock);
    rd_kafka_topic_partition_list_destroy(list);
    return status;
}

void *kafka_member_read(void *argument) {
    struct kafka_member *member = argument;
    int wait_ms = WAIT_MS;
    while (!atomic_load(&member->leaving)) {
        // What the common queue has comes first: it is older than what the partitions' have.
        rd_kafka_message_t *message = rd_kafka_consumer_poll(member->client.handle, wait_ms);
        if (message != NULL) take(member, message, true);
        wait_ms = message != NULL || take_partitions(member) ? 0 : WAIT_MS;
        enum status status = watch(member);
        if (status == STATUS_OK) status = look_at_others(member);
        if (status == STATUS_OK || status == STATUS_STOPPED) continue;
        pthread_mutex_lock(&member->lock);
        kafka_member_fail(member, status);
        pthread_mutex_unlock(&member->lock);
    }
    kafka_member_leave(member);
    return NULL;
}
