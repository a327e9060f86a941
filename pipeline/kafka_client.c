// One librdkafka handle and its topic: configuration, log lines, waits with a deadline.

#include "ops/base/clock.h"
#include "pipeline/kafka_inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define DESTROY_MS 15000
#define SETTLE_MS  3000 // a topic just made may be unknown to some brokers for this long

const char *kafka_type_name(enum kafka_type type) {
    static const char *const names[] = {"", "TokenRecord", "DocumentScore", "DeadLetter"};
    return names[type];
}

static void note_trouble(struct kafka_client *client, const char *text) {
    pthread_mutex_lock(&client->lock);
    snprintf(client->trouble, sizeof client->trouble, "%s", text);
    pthread_mutex_unlock(&client->lock);
}

// librdkafka's lines. What it calls an error it mostly mends by itself, so it is shown only when
// asked for; the last one is kept to explain a failure of ours. Thread: librdkafka's.
static void on_log(const rd_kafka_t *handle, int level, const char *facility, const char *text) {
    struct kafka_client *client = rd_kafka_opaque(handle);
    if (level <= 4 && client != NULL && strcmp(facility, "CONFWARN") != 0) {
        const char *colon = strstr(text, "]: "); // behind the names of handle and thread
        note_trouble(client, colon == NULL ? text : colon + 3);
    }
    LOG(DEBUG, "librdkafka %s: %s", facility, text);
}

static void on_error(rd_kafka_t *handle, int error, const char *text, void *opaque) {
    (void)handle;
    if (error != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) note_trouble(opaque, text);
    LOG(DEBUG, "librdkafka %s: %s", rd_kafka_err2name((rd_kafka_resp_err_t)error), text);
}

static const struct kafka_property *find_fixed(const struct kafka_property *ours, int count,
                                               const char *key, size_t key_bytes) {
    for (int i = 0; i < count; i++) {
        if (ours[i].fixed && strlen(ours[i].key) == key_bytes &&
            memcmp(ours[i].key, key, key_bytes) == 0) {
            return &ours[i];
        }
    }
    return NULL;
}

static enum status set_users(rd_kafka_conf_t *conf, const char *pair,
                             const struct kafka_property *ours, int count) {
    char key[128], why[256];
    const char *equals = strchr(pair, '=');
    const size_t key_bytes = equals == NULL ? 0 : (size_t)(equals - pair);
    if (key_bytes == 0 || key_bytes >= sizeof key) {
        return FAIL(USAGE, "-X %s: not of the form key=value", pair);
    }
    memcpy(key, pair, key_bytes);
    key[key_bytes] = '\0';
    const struct kafka_property *fixed = find_fixed(ours, count, key, key_bytes);
    if (fixed != NULL && strcasecmp(fixed->value, equals + 1) != 0) {
        return FAIL(USAGE, "-X %s: longscan needs %s=%s and sets it itself", pair, key,
                    fixed->value);
    }
    if (rd_kafka_conf_set(conf, key, equals + 1, why, sizeof why) != RD_KAFKA_CONF_OK) {
        return FAIL(USAGE, "-X %s: %s", pair, why);
    }
    return STATUS_OK;
}

static enum status set_all(rd_kafka_conf_t *conf, const struct kafka_settings *settings,
                           const struct kafka_property *ours, int count) {
    char why[256], backoff_ms[24];
    // librdkafka waits longer and longer between two tries to connect, up to 10 s and half as much
    // again: longer than a short time-out, so that a broker that came back in time would not be seen
    // (with 60 s, one that was back for 13 s was not). Destroying a handle waits for such a try too.
    const int64_t quarter = settings->timeout_ms / 4;
    snprintf(backoff_ms, sizeof backoff_ms, "%lld",
             (long long)(quarter < 100    ? 100
                         : quarter > 2000 ? 2000
                                          : quarter));
    if (rd_kafka_conf_set(conf, "reconnect.backoff.max.ms", backoff_ms, why, sizeof why) !=
        RD_KAFKA_CONF_OK) {
        return FAIL(USAGE, "kafka property reconnect.backoff.max.ms=%s: %s", backoff_ms, why);
    }
    for (int i = 0; i < count; i++) {
        if (rd_kafka_conf_set(conf, ours[i].key, ours[i].value, why, sizeof why) !=
            RD_KAFKA_CONF_OK) {
            return FAIL(USAGE, "kafka property %s=%s: %s", ours[i].key, ours[i].value, why);
        }
    }
    if (settings->brokers != NULL && rd_kafka_conf_set(conf, "bootstrap.servers", settings->brokers,
                                                       why, sizeof why) != RD_KAFKA_CONF_OK) {
        return FAIL(USAGE, "--brokers %s: %s", settings->brokers, why);
    }
    for (int64_t i = 0; i < settings->property_count; i++) {
        TRY(set_users(conf, settings->property[i], ours, count));
    }
    return STATUS_OK;
}

// The brokers as configured: --brokers, or a -X bootstrap.servers in its place.
static enum status keep_names(struct kafka_client *client, const rd_kafka_conf_t *conf,
                              const struct kafka_settings *settings) {
    char brokers[1024] = "";
    size_t bytes = sizeof brokers;
    if (rd_kafka_conf_get(conf, "bootstrap.servers", brokers, &bytes) != RD_KAFKA_CONF_OK ||
        brokers[0] == '\0') {
        return FAIL(USAGE, "topic %s: no brokers; give --brokers HOST:PORT,...", settings->topic);
    }
    client->brokers = strdup(brokers);
    client->topic = strdup(settings->topic);
    if (client->brokers == NULL || client->topic == NULL) return FAIL(NO_MEMORY, "kafka client");
    return STATUS_OK;
}

static enum status open_topic(struct kafka_client *client) {
    client->topic_handle = rd_kafka_topic_new(client->handle, client->topic, NULL);
    if (client->topic_handle != NULL) return STATUS_OK;
    return FAIL(USAGE, "topic %s: %s", client->topic, rd_kafka_err2str(rd_kafka_last_error()));
}

enum status kafka_client_open(struct kafka_client *client, rd_kafka_type_t kind,
                              const struct kafka_settings *settings,
                              const struct kafka_property *ours, int count,
                              kafka_delivery *delivery) {
    enum status status = STATUS_OK;
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    pthread_mutex_init(&client->lock, NULL);
    client->timeout_ms = settings->timeout_ms;
    client->stop = settings->stop;
    TRY_OUT(status, set_all(conf, settings, ours, count));
    TRY_OUT(status, keep_names(client, conf, settings));
    rd_kafka_conf_set_opaque(conf, client);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    if (delivery != NULL) rd_kafka_conf_set_dr_msg_cb(conf, delivery);
    client->handle = rd_kafka_new(kind, conf, why, sizeof why);
    if (client->handle == NULL) {
        status = FAIL(USAGE, "kafka %s: %s", client->brokers, why);
        goto out;
    }
    conf = NULL; // the handle's now
    if (kind == RD_KAFKA_CONSUMER) rd_kafka_poll_set_consumer(client->handle);
    if (kind == RD_KAFKA_PRODUCER) status = open_topic(client);
out:
    if (conf != NULL) rd_kafka_conf_destroy(conf);
    return status;
}

bool kafka_client_close(struct kafka_client *client) {
    if (client->topic_handle != NULL) rd_kafka_topic_destroy(client->topic_handle);
    // Partitions are assigned, not subscribed to: there is no group to leave, and leaving one may
    // block in librdkafka before 2.1.
    if (client->handle != NULL && !kafka_destroy(client->handle, client->doomed ? 0 : DESTROY_MS)) {
        return false;
    }
    pthread_mutex_destroy(&client->lock);
    free(client->brokers);
    free(client->topic);
    return true;
}

enum status kafka_client_unreachable(struct kafka_client *client, const char *what,
                                     const char *why) {
    char trouble[sizeof client->trouble];
    pthread_mutex_lock(&client->lock);
    memcpy(trouble, client->trouble, sizeof trouble);
    pthread_mutex_unlock(&client->lock);
    return FAIL(BROKER,
                "kafka %s, topic %s: cannot %s for %lld ms: %s%s%s; check --brokers and the "
                "network, or raise --broker-timeout",
                client->brokers, client->topic, what, (long long)client->timeout_ms, why,
                trouble[0] == '\0' ? "" : "; last seen: ", trouble);
}

bool kafka_client_wait(struct kafka_client *client, int64_t start_ms, const char *what,
                       const char *why, enum status *status) {
    if (client->stop != NULL && client->stop()) {
        LOG(INFO, "stopped while waiting to %s", what);
        *status = STATUS_STOPPED;
        return false;
    }
    if (clock_ms() - start_ms >= client->timeout_ms) {
        *status = kafka_client_unreachable(client, what, why);
        return false;
    }
    return true;
}

// Brokers that are down answer at once; asking them again at once would only burn a core.
void kafka_client_pause(void) {
    const struct timespec moment = {.tv_nsec = 50 * 1000 * 1000};
    nanosleep(&moment, NULL);
}

// What the answer says of our topic. partitions 0 with an error: the broker does not know it, or
// has not made up its mind.
static rd_kafka_resp_err_t read_answer(const struct kafka_client *client,
                                       const struct rd_kafka_metadata *metadata,
                                       int32_t *partitions, bool *leaders) {
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const struct rd_kafka_metadata_topic *topic = &metadata->topics[i];
        if (strcmp(topic->topic, client->topic) != 0) continue;
        *partitions = topic->partition_cnt;
        *leaders = true;
        for (int j = 0; j < topic->partition_cnt; j++) {
            if (topic->partitions[j].leader < 0) *leaders = false;
        }
        if (topic->err != RD_KAFKA_RESP_ERR_NO_ERROR) return topic->err;
        return *partitions > 0 ? RD_KAFKA_RESP_ERR_NO_ERROR
                               : RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    }
    return RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
}

// Asks once. A consumer asks for all topics first: asking for one would create it on brokers that
// are too old to be told not to (and on the mock), and a mistyped name would be an empty topic.
static rd_kafka_resp_err_t ask_partitions(struct kafka_client *client, int timeout_ms,
                                          int32_t *partitions, bool *leaders) {
    const struct rd_kafka_metadata *metadata = NULL;
    *leaders = false;
    rd_kafka_resp_err_t error = rd_kafka_metadata(client->handle, client->topic_handle == NULL,
                                                  client->topic_handle, &metadata, timeout_ms);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) return error;
    error = read_answer(client, metadata, partitions, leaders);
    rd_kafka_metadata_destroy(metadata);
    return error;
}

static int slice_of(int64_t timeout_ms) {
    return timeout_ms < 500 ? (int)timeout_ms : 500;
}

enum status kafka_client_partitions(struct kafka_client *client, int32_t *partitions) {
    const int64_t start = clock_ms();
    const int64_t settle_ms = client->timeout_ms < SETTLE_MS ? client->timeout_ms : SETTLE_MS;
    enum status status;
    bool leaders;
    for (;;) {
        const rd_kafka_resp_err_t error =
            ask_partitions(client, slice_of(client->timeout_ms), partitions, &leaders);
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
            return client->topic_handle != NULL ? STATUS_OK : open_topic(client);
        }
        const bool unknown = error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
                             error == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
        if (error == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION ||
            error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
            (unknown && clock_ms() - start >= settle_ms)) {
            return FAIL(USAGE, "kafka %s, topic %s: %s; create it or check its name and rights",
                        client->brokers, client->topic, rd_kafka_err2str(error));
        }
        if (!kafka_client_wait(client, start, "learn its partitions", rd_kafka_err2str(error),
                               &status)) {
            return status;
        }
        kafka_client_pause();
    }
}

enum kafka_answer kafka_client_ask(struct kafka_client *client, int32_t timeout_ms,
                                   int32_t *partitions) {
    bool leaders = false;
    const rd_kafka_resp_err_t error = ask_partitions(client, timeout_ms, partitions, &leaders);
    if (error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) return KAFKA_NO_TOPIC;
    return error == RD_KAFKA_RESP_ERR_NO_ERROR && leaders ? KAFKA_TOPIC : KAFKA_NO_ANSWER;
}

enum status kafka_client_watermarks(struct kafka_client *client, int32_t partition, int64_t *low,
                                    int64_t *high) {
    const int64_t start = clock_ms();
    enum status status;
    for (;;) {
        const rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(
            client->handle, client->topic, partition, low, high, slice_of(client->timeout_ms));
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return STATUS_OK;
        if (!kafka_client_wait(client, start, "learn its watermarks", rd_kafka_err2str(error),
                               &status)) {
            return status;
        }
        kafka_client_pause();
    }
}
