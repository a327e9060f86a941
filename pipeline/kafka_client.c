// One librdkafka handle and its topic: log lines, waits with a deadline.

#include "ops/base/clock.h"
#include "pipeline/kafka_inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define DESTROY_MS     4000
#define UNREACHABLE_MS 2000
#define SETTLE_MS      3000 // a topic just made may be unknown to some brokers for this long
#define REFUSE_MS      1000 // one broker may refuse us, another let us in within this time

#define SCRAM_MENDED 0x020601ff // the first librdkafka whose SCRAM Kafka 4 accepts

const char *kafka_type_name(enum kafka_type type) {
    static const char *const names[KAFKA_TYPES] = {"", "TokenRecord", "DocumentScore",
                                                   "WindowScore", "DeadLetter"};
    return names[type];
}

static void note(struct kafka_client *client, char *to, const char *text) {
    pthread_mutex_lock(&client->lock);
    snprintf(to, sizeof client->trouble, "%s", text);
    pthread_mutex_unlock(&client->lock);
}

static void recall(struct kafka_client *client, const char *from, char *text) {
    pthread_mutex_lock(&client->lock);
    memcpy(text, from, sizeof client->trouble);
    pthread_mutex_unlock(&client->lock);
}

// The last complaint. That what was on its way could not be sent says less than what came before.
static void note_trouble(struct kafka_client *client, const char *text) {
    char before[sizeof client->trouble];
    recall(client, client->trouble, before);
    if (before[0] == '\0' || strstr(text, "Send failed") == NULL) {
        note(client, client->trouble, text);
    }
}

// librdkafka's lines. What it calls an error it mostly mends by itself, so it is shown only when
// asked for; the last one is kept to explain a failure of ours. That plain text was sent to a TLS
// port it only guesses, in a line of information. Thread: librdkafka's.
static void on_log(const rd_kafka_t *handle, int level, const char *facility, const char *text) {
    struct kafka_client *client = rd_kafka_opaque(handle);
    if (client != NULL && client->hear != NULL) client->hear(client->listener, facility, text);
    if (client != NULL && strcmp(facility, "CONFWARN") != 0 &&
        (level <= 4 || strstr(text, "security.protocol") != NULL)) {
        const char *colon = strstr(text, "]: "); // behind the names of handle and thread
        note_trouble(client, colon == NULL ? text : colon + 3);
    }
    LOG(DEBUG, "librdkafka %s: %s", facility, text);
}

static bool is_refusal(int error, const char *text) {
    return error == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
           (error == RD_KAFKA_RESP_ERR__SSL && strstr(text, "verify failed") != NULL);
}

static void on_error(rd_kafka_t *handle, int error, const char *text, void *opaque) {
    struct kafka_client *client = opaque;
    (void)handle;
    if (error != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) note_trouble(client, text);
    if (is_refusal(error, text)) note(client, client->refused, text);
    LOG(DEBUG, "librdkafka %s: %s", rd_kafka_err2name((rd_kafka_resp_err_t)error), text);
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
    client->role = settings->role;
    client->timeout_ms = settings->timeout_ms;
    client->stop = settings->stop;
    TRY_OUT(status, kafka_conf_set(conf, settings, ours, count));
    TRY_OUT(status, keep_names(client, conf, settings));
    rd_kafka_conf_set_opaque(conf, client);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    if (delivery != NULL) rd_kafka_conf_set_dr_msg_cb(conf, delivery);
    if (client->rebalance != NULL) rd_kafka_conf_set_rebalance_cb(conf, client->rebalance);
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

enum status kafka_client_share(const struct kafka_client *client, const char *topic,
                               struct kafka_client *other) {
    *other = (struct kafka_client){.handle = client->handle,
                                   .role = "--windows",
                                   .timeout_ms = client->timeout_ms,
                                   .stop = client->stop,
                                   .shared = true};
    pthread_mutex_init(&other->lock, NULL);
    other->brokers = strdup(client->brokers);
    other->topic = strdup(topic);
    if (other->brokers == NULL || other->topic == NULL) return FAIL(NO_MEMORY, "kafka client");
    return open_topic(other);
}

// A broker that did not answer us will not answer librdkafka's farewells either.
static int64_t destroy_ms(const struct kafka_client *client) {
    if (client->doomed) return 0;
    return client->unreachable ? UNREACHABLE_MS : DESTROY_MS;
}

bool kafka_client_close(struct kafka_client *client) {
    if (client->topic_handle != NULL) rd_kafka_topic_destroy(client->topic_handle);
    if (client->shared) client->handle = NULL;
    // No group is left here: a consumer joins none, a member has left it (in librdkafka before 2.1
    // leaving one may block).
    if (client->handle != NULL && !kafka_destroy(client->handle, destroy_ms(client))) {
        return false;
    }
    pthread_mutex_destroy(&client->lock);
    free(client->brokers);
    free(client->topic);
    return true;
}

enum status kafka_client_unreachable(struct kafka_client *client, const char *what,
                                     const char *why) {
    client->unreachable = true;
    char trouble[sizeof client->trouble];
    recall(client, client->trouble, trouble);
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

static bool has_old_scram(rd_kafka_t *handle) {
    char mechanism[64] = "";
    size_t bytes = sizeof mechanism;
    return rd_kafka_version() < SCRAM_MENDED &&
           rd_kafka_conf_get(rd_kafka_conf(handle), "sasl.mechanism", mechanism, &bytes) ==
               RD_KAFKA_CONF_OK &&
           strncasecmp(mechanism, "SCRAM", 5) == 0;
}

// Whether a broker is there and does not let us in: no time-out mends that.
static bool is_refused(struct kafka_client *client, enum status *status) {
    char refused[sizeof client->refused];
    rd_kafka_poll(client->handle, 0); // brings on_error; nothing else is on its way yet
    recall(client, client->refused, refused);
    if (refused[0] == '\0') return false;
    if (strstr(refused, "verify failed") != NULL) {
        *status = FAIL(USAGE, "kafka %s, topic %s: TLS failed: %s; check -X ssl.ca.location",
                       client->brokers, client->topic, refused);
        return true;
    }
    *status =
        FAIL(USAGE,
             "kafka %s, topic %s: authentication failed: %s; check -X sasl.mechanism, "
             "sasl.username and sasl.password%s%s",
             client->brokers, client->topic, refused,
             has_old_scram(client->handle) ? "; Kafka 4 takes no SCRAM from librdkafka before "
                                             "2.6.1, and this is "
                                           : "",
             has_old_scram(client->handle) ? rd_kafka_version_str() : "");
    return true;
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
            return FAIL(USAGE, "kafka %s, %s%stopic %s: %s; create it or check its name and rights",
                        client->brokers, client->role == NULL ? "" : client->role,
                        client->role == NULL ? "" : " ", client->topic, rd_kafka_err2str(error));
        }
        if (clock_ms() - start >= REFUSE_MS && is_refused(client, &status)) return status;
        if (!kafka_client_wait(client, start, "learn its partitions", rd_kafka_err2str(error),
                               &status)) {
            return status;
        }
        kafka_client_pause();
    }
}

enum status kafka_client_metadata(struct kafka_client *client,
                                  const struct rd_kafka_metadata **metadata) {
    const int64_t start = clock_ms();
    enum status status;
    for (;;) {
        const rd_kafka_resp_err_t error =
            rd_kafka_metadata(client->handle, 1, NULL, metadata, slice_of(client->timeout_ms));
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return STATUS_OK;
        if (clock_ms() - start >= REFUSE_MS && is_refused(client, &status)) return status;
        if (!kafka_client_wait(client, start, "list the topics", rd_kafka_err2str(error),
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
        const rd_kafka_resp_err_t error =
            kafka_ends(client, partition, slice_of(client->timeout_ms), low, high);
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return STATUS_OK;
        if (!kafka_client_wait(client, start, "learn its watermarks", rd_kafka_err2str(error),
                               &status)) {
            return status;
        }
        kafka_client_pause();
    }
}
