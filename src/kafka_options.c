// The options as librdkafka's callers in pipeline/ want them.

#include "src/kafka_options.h"

#include <string.h>

#define TOPIC_PREFIX "kafka:"

const char *kafka_options_topic(const char *name) {
    const size_t prefix = strlen(TOPIC_PREFIX);
    return name != NULL && strncmp(name, TOPIC_PREFIX, prefix) == 0 ? name + prefix : NULL;
}

#ifdef LONGSCAN_WITH_KAFKA

#    include "src/option_value.h"

struct kafka_settings kafka_options_client(const struct settings *settings) {
    return (struct kafka_settings){.brokers = settings->brokers,
                                   .topic = settings->topic,
                                   .property = settings->property,
                                   .property_count = settings->property_count,
                                   .timeout_ms = settings->broker_timeout_ms,
                                   .stop = stop_requested};
}

struct kafka_settings kafka_options_for(const struct settings *settings, const char *role,
                                        const char *topic) {
    struct kafka_settings kafka = kafka_options_client(settings);
    kafka.role = role;
    kafka.topic = topic;
    return kafka;
}

enum status kafka_options_until(const char *until, bool *follow, int64_t *idle_ms) {
    static const struct option duration = {
        .name = "until", .kind = OPTION_DURATION, .least = 1, .most = INT64_MAX / 2};
    struct option_value value;
    char wrong[128];
    *idle_ms = 0;
    *follow = strcmp(until, "end") != 0;
    if (!*follow || strcmp(until, "follow") == 0) return STATUS_OK;
    if (strncmp(until, "idle:", 5) != 0) {
        return FAIL(USAGE, "--until %s: not end, follow or idle:TIME", until);
    }
    if (!option_parse(&duration, until + 5, &value, wrong, sizeof wrong)) {
        return FAIL(USAGE, "--until %s: %s %s", until, until + 5, wrong);
    }
    *idle_ms = value.integer;
    return STATUS_OK;
}

#endif
