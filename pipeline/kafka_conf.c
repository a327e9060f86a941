// What librdkafka is told: our properties, the brokers, then what the user gave, over ours unless
// the program is wrong without them. Values are shown only where they cannot be secrets.

#include "pipeline/kafka_inner.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

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
        return FAIL(USAGE, "-X: a property is not of the form key=value");
    }
    memcpy(key, pair, key_bytes);
    key[key_bytes] = '\0';
    const struct kafka_property *fixed = find_fixed(ours, count, key, key_bytes);
    if (fixed != NULL && strcasecmp(fixed->value, equals + 1) != 0) {
        return FAIL(USAGE, "-X %s: longscan needs %s=%s and sets it itself", pair, key,
                    fixed->value);
    }
    if (rd_kafka_conf_set(conf, key, equals + 1, why, sizeof why) != RD_KAFKA_CONF_OK) {
        return FAIL(USAGE, "-X %s: %s", key, why); // the value may be a password
    }
    return STATUS_OK;
}

enum status kafka_conf_set(rd_kafka_conf_t *conf, const struct kafka_settings *settings,
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
