// Looking after a topic while it is read. librdkafka says little of what happens to it: a deleted
// topic, one made anew and one with more partitions all look like silence. So brokers are asked
// every two seconds, from the thread that reads, also while messages flow or wait in the queue
// behind it. What was fetched stays fetched. librdkafka's own timers and fetches run in threads of
// its own: nothing has to be polled for them, and max.poll.interval.ms is for members of a group
// only (2.0.2 starts that clock with subscribe(); a queue full for 15 s under 10 s was no matter).

#include "ops/base/clock.h"
#include "pipeline/kafka_consumer_inner.h"

#include <inttypes.h>
#include <time.h>

#define ASK_EVERY_MS 2000
#define ASK_AGAIN_MS 1000 // when the last answer was none, or not good
#define ASK_MS       500  // longest wait for an answer
#define MISSING_MS   2000 // a broker that has just started may not know the topic yet

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// Nobody answered. The time since the last question counts, but not what the caller spent elsewhere.
static enum status note_silence(struct kafka_consumer *consumer, int64_t since_ms) {
    struct kafka_watch *watch = &consumer->watch;
    struct kafka_client *client = &consumer->client;
    const bool again = watch->unanswered_ms > 0;
    const int64_t spent = clock_ms() - (again ? since_ms : watch->asked_ms);
    watch->unanswered_ms += least(spent, ASK_AGAIN_MS + ASK_MS) + 1;
    if (watch->unanswered_ms >= client->timeout_ms) {
        consumer->failed = STATUS_BROKER;
        return kafka_client_unreachable(client, "reach a broker", "no answer");
    }
    if (again && !watch->told_lost) {
        watch->told_lost = true;
        LOG(WARN, "kafka %s, topic %s: no answer; waiting for it up to %" PRId64 " ms",
            client->brokers, client->topic, client->timeout_ms);
    }
    return STATUS_OK;
}

static enum status note_missing(struct kafka_consumer *consumer) {
    struct kafka_watch *watch = &consumer->watch;
    struct kafka_client *client = &consumer->client;
    client->doomed = true;
    if (watch->missing_ms == 0) watch->missing_ms = clock_ms();
    if (clock_ms() - watch->missing_ms < least(MISSING_MS, client->timeout_ms)) return STATUS_OK;
    consumer->failed = STATUS_BROKER;
    return FAIL(BROKER,
                "kafka %s: topic %s is gone: it was deleted while it was read, or the right to see "
                "it was taken; what was not read cannot be scored",
                client->brokers, client->topic);
}

static enum status made_anew(struct kafka_consumer *consumer, const char *why) {
    return FAIL(MISMATCH,
                "kafka %s: topic %s is not the one that this job began to read: %s; start again, "
                "under another --job if offsets of the old one are kept",
                consumer->client.brokers, consumer->client.topic, why);
}

static enum status compare_count(struct kafka_consumer *consumer, int32_t partitions) {
    const char *const topic = consumer->client.topic;
    if (partitions < consumer->all) {
        return made_anew(consumer, "it has fewer partitions, so it was deleted and made again");
    }
    if (partitions == consumer->all || consumer->watch.told_grown) return STATUS_OK;
    if (consumer->follow) {
        return FAIL(MISMATCH,
                    "topic %s grew from %" PRId32 " to %" PRId32 " partitions while it was read: "
                    "keys change their places, so that documents may be torn; start again under "
                    "the same --job to read all of them, and grow a topic only when it is drained",
                    topic, consumer->all, partitions);
    }
    consumer->watch.told_grown = true;
    LOG(WARN,
        "topic %s grew from %" PRId32 " to %" PRId32 " partitions while it was read: this run "
        "ends where the first %" PRId32 " ended when it began; the next one reads the others too",
        topic, consumer->all, partitions, consumer->all);
    return STATUS_OK;
}

// Of each partition the first record that is not older than this job; -1: none. NULL: not known.
static rd_kafka_topic_partition_list_t *ask_since(struct kafka_consumer *consumer) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(consumer->partitions);
    for (int32_t i = 0; i < consumer->partitions; i++) {
        rd_kafka_topic_partition_list_add(list, consumer->client.topic,
                                          consumer->partition[i].index)
            ->offset = consumer->watch.began_ms;
    }
    if (rd_kafka_offsets_for_times(consumer->client.handle, list, ASK_MS) ==
        RD_KAFKA_RESP_ERR_NO_ERROR) {
        return list;
    }
    rd_kafka_topic_partition_list_destroy(list);
    return NULL;
}

void kafka_consumer_watch_begin(struct kafka_consumer *consumer) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now); // as records have it
    consumer->watch.asked_ms = clock_ms();
    consumer->watch.began_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    rd_kafka_topic_partition_list_t *list = ask_since(consumer);
    if (list == NULL) return;
    for (int32_t i = 0; i < consumer->partitions; i++) {
        const rd_kafka_topic_partition_t *found = &list->elems[i];
        if (found->err != RD_KAFKA_RESP_ERR_NO_ERROR) continue;
        consumer->partition[i].since =
            found->offset >= 0 ? found->offset : consumer->partition[i].high;
    }
    rd_kafka_topic_partition_list_destroy(list);
}

static bool is_another(struct kafka_consumer *consumer) {
    bool another = false;
    rd_kafka_topic_partition_list_t *list = ask_since(consumer);
    if (list == NULL) return false;
    for (int32_t i = 0; i < consumer->partitions; i++) {
        const rd_kafka_topic_partition_t *found = &list->elems[i];
        if (found->err != RD_KAFKA_RESP_ERR_NO_ERROR || found->offset < 0) continue;
        if (found->offset < consumer->partition[i].since) another = true;
    }
    rd_kafka_topic_partition_list_destroy(list);
    return another;
}

// A topic of the same name need not be the same topic, and librdkafka 2.0.2 does not say. But what
// a topic has, stays where it is: neither its ends (asked for of one partition a time) nor its first
// record since the job began go back. Those of a topic made anew do, in all but odd cases.
static enum status compare_contents(struct kafka_consumer *consumer) {
    int64_t low, high;
    if (consumer->partitions == 0) return STATUS_OK;
    struct kafka_partition *partition = &consumer->partition[consumer->watch.turn];
    consumer->watch.turn = (consumer->watch.turn + 1) % consumer->partitions;
    if (kafka_ends(&consumer->client, partition->index, ASK_MS, &low, &high) !=
        RD_KAFKA_RESP_ERR_NO_ERROR) {
        return STATUS_OK;
    }
    if (low < partition->low || high < partition->high || high < atomic_load(&partition->next) ||
        is_another(consumer)) {
        consumer->client.doomed = true;
        return made_anew(consumer, "offsets that it had are not there any more, so it was deleted "
                                   "and made again, or lost its end");
    }
    partition->low = low;
    partition->high = high;
    return STATUS_OK;
}

static enum status note_answer(struct kafka_consumer *consumer, int32_t partitions) {
    struct kafka_watch *watch = &consumer->watch;
    if (watch->told_lost) {
        LOG(INFO, "kafka %s, topic %s: answers again after %" PRId64 " ms",
            consumer->client.brokers, consumer->client.topic, watch->unanswered_ms);
    }
    watch->told_lost = false;
    watch->unanswered_ms = 0;
    if (watch->missing_ms > 0) {
        return made_anew(consumer, "it was not there for a moment, so it was deleted and made "
                                   "again");
    }
    TRY(compare_count(consumer, partitions));
    return compare_contents(consumer);
}

enum status kafka_consumer_ask(struct kafka_consumer *consumer, bool *answers) {
    struct kafka_watch *watch = &consumer->watch;
    const int64_t before_ms = watch->asked_ms;
    int32_t partitions = 0;
    enum status status = STATUS_OK;
    watch->asked_ms = clock_ms();
    const enum kafka_answer answer = kafka_client_ask(
        &consumer->client, (int32_t)least(ASK_MS, consumer->client.timeout_ms), &partitions);
    switch (answer) {
    case KAFKA_NO_ANSWER: status = note_silence(consumer, before_ms); break;
    case KAFKA_NO_TOPIC: status = note_missing(consumer); break;
    case KAFKA_TOPIC: status = note_answer(consumer, partitions); break;
    }
    *answers = status == STATUS_OK && answer == KAFKA_TOPIC;
    watch->asked_ms = clock_ms();
    return status;
}

enum status kafka_consumer_watch(struct kafka_consumer *consumer) {
    const struct kafka_watch *watch = &consumer->watch;
    const int64_t timeout = consumer->client.timeout_ms;
    const bool well = watch->unanswered_ms == 0 && watch->missing_ms == 0;
    const int64_t every =
        well ? least(ASK_EVERY_MS, timeout / 4) : least(ASK_AGAIN_MS, timeout / 8);
    bool answers;
    if (clock_ms() - watch->asked_ms < every) return STATUS_OK;
    return kafka_consumer_ask(consumer, &answers);
}

enum status kafka_consumer_tend(struct kafka_consumer *consumer) {
    char why[256];
    if (rd_kafka_fatal_error(consumer->client.handle, why, sizeof why) !=
        RD_KAFKA_RESP_ERR_NO_ERROR) {
        return FAIL(BROKER, "kafka %s, topic %s: %s", consumer->client.brokers,
                    consumer->client.topic, why);
    }
    TRY(kafka_consumer_tend_commits(consumer, clock_ms()));
    return kafka_consumer_watch(consumer);
}
