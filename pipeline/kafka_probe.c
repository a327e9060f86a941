#include "pipeline/kafka_probe.h"

#include "ops/base/clock.h"
#include "pipeline/kafka_inner.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The protocol has no release in it, but each request has versions, and Fetch grew with most releases.
static const struct {
    int fetch;
    const char *release;
} releases[] = {
    {18, "4.1" },
    {17, "3.9" },
    {16, "3.7" },
    {15, "3.5" },
    {13, "3.1" },
    {12, "2.7" },
    {11, "2.3" },
    {10, "2.1" },
    {8,  "2.0" },
    {7,  "1.1" },
    {5,  "1.0" },
    {0,  "0.10"},
};

// librdkafka tells the versions in its log only: "  ApiKey Fetch (1) Versions 0..16".
static void hear(void *listener, const char *facility, const char *text) {
    atomic_int *fetch = listener;
    const char *line = strstr(text, "ApiKey Fetch (1) Versions ");
    const char *last = line == NULL ? NULL : strstr(line, "..");
    if (strcmp(facility, "APIVERSION") == 0 && last != NULL) {
        atomic_store(fetch, (int)strtol(last + 2, NULL, 10));
    }
}

static void say_release(int fetch, struct kafka_probe *probe) {
    for (size_t i = 0; i < sizeof releases / sizeof releases[0]; i++) {
        if (fetch < releases[i].fetch) continue;
        snprintf(probe->release, sizeof probe->release, "speaks as Kafka %s%s", releases[i].release,
                 i == 0 ? " or newer" : " does");
        return;
    }
    snprintf(probe->release, sizeof probe->release, "it does not tell its version");
}

static void say_topics(const struct rd_kafka_metadata *metadata, struct kafka_probe *probe) {
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const struct rd_kafka_metadata_topic *topic = &metadata->topics[i];
        const size_t at = strlen(probe->names);
        if (strncmp(topic->topic, "__", 2) == 0) continue; // Kafka's own
        probe->topics++;
        const int bytes = snprintf(NULL, 0, ", %s (%d)", topic->topic, topic->partition_cnt);
        if (at + (size_t)bytes + sizeof ", ..." < sizeof probe->names) {
            snprintf(probe->names + at, sizeof probe->names - at, "%s%s (%d)", at > 0 ? ", " : "",
                     topic->topic, topic->partition_cnt);
        } else if (at > 0 && probe->names[at - 1] != '.') {
            snprintf(probe->names + at, sizeof probe->names - at, ", ...");
        }
    }
}

static void say_cluster(struct kafka_client *client, struct kafka_probe *probe) {
    char *cluster = rd_kafka_clusterid(client->handle, 0); // what metadata has brought
    if (cluster == NULL) return;
    snprintf(probe->cluster, sizeof probe->cluster, "%s", cluster);
    rd_kafka_mem_free(client->handle, cluster);
}

enum status kafka_probe(const struct kafka_settings *settings, struct kafka_probe *probe) {
    static const struct kafka_property ours[] = {
        {"debug", "feature", false}
    };
    struct kafka_settings any = *settings;
    const struct rd_kafka_metadata *metadata = NULL;
    struct kafka_client *client = calloc(1, sizeof *client);
    atomic_int *fetch = calloc(1, sizeof *fetch);
    enum status status = STATUS_OK;
    const int64_t start_ms = clock_ms();
    memset(probe, 0, sizeof *probe);
    any.topic = "*";
    if (client == NULL || fetch == NULL) {
        free(client);
        free(fetch);
        return FAIL(NO_MEMORY, "kafka client");
    }
    atomic_store(fetch, -1);
    client->hear = hear;
    client->listener = fetch;
    status = kafka_client_open(client, RD_KAFKA_CONSUMER, &any, ours, 1, NULL);
    if (status == STATUS_OK) status = kafka_client_metadata(client, &metadata);
    if (status == STATUS_OK) {
        probe->answer_ms = clock_ms() - start_ms;
        probe->brokers = metadata->broker_cnt;
        say_topics(metadata, probe);
        say_cluster(client, probe);
        say_release(atomic_load(fetch), probe);
        rd_kafka_metadata_destroy(metadata);
    }
    if (!kafka_client_close(client)) return status; // its threads may still write to both
    free(client);
    free(fetch);
    return status;
}
