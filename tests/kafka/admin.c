// What tests change about topics while a broker runs, and what a group has committed. A change is
// done when the broker's metadata shows it.

#include "ops/base/clock.h"
#include "ops/base/status.h"

#include <librdkafka/rdkafka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEADLINE_MS 30000
#define USAGE_TEXT                                                                              \
    "usage: kafka_admin BROKERS [-X key=value ...] create TOPIC PARTITIONS [key=value ...]\n"   \
    "       ... delete TOPIC | grow TOPIC PARTITIONS | delete-records TOPIC PARTITION OFFSET\n" \
    "       ... offsets GROUP TOPIC PARTITIONS     prints: partition offset metadata\n"         \
    "       ... ends TOPIC PARTITIONS              prints: partition first end\n"

struct admin {
    rd_kafka_t *handle;
    rd_kafka_queue_t *queue;
    rd_kafka_AdminOptions_t *options;
};

static enum status parse_number(const char *text, int64_t *number) {
    char *end = NULL;
    *number = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || *number < 0) return FAIL(USAGE, "%s is no number", text);
    return STATUS_OK;
}

// The errors of an answer's topics, as far as its kind has any.
static enum status check_topics(const char *what, const rd_kafka_topic_result_t **topics,
                                size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (rd_kafka_topic_result_error(topics[i]) == RD_KAFKA_RESP_ERR_NO_ERROR) continue;
        const char *why = rd_kafka_topic_result_error_string(topics[i]);
        return FAIL(BROKER, "%s %s: %s", what, rd_kafka_topic_result_name(topics[i]), why);
    }
    return STATUS_OK;
}

static enum status check_answer(const char *what, rd_kafka_event_t *event) {
    const rd_kafka_topic_result_t **topics = NULL;
    size_t count = 0;
    const rd_kafka_topic_partition_list_t *list = NULL;
    if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return FAIL(BROKER, "%s: %s", what, rd_kafka_event_error_string(event));
    }
    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_CREATETOPICS_RESULT:
        topics =
            rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
        break;
    case RD_KAFKA_EVENT_DELETETOPICS_RESULT:
        topics =
            rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
        break;
    case RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT:
        topics = rd_kafka_CreatePartitions_result_topics(
            rd_kafka_event_CreatePartitions_result(event), &count);
        break;
    case RD_KAFKA_EVENT_DELETERECORDS_RESULT:
        list = rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
        break;
    default: break;
    }
    for (int i = 0; list != NULL && i < list->cnt; i++) {
        if (list->elems[i].err == RD_KAFKA_RESP_ERR_NO_ERROR) continue;
        return FAIL(BROKER, "%s: %s", what, rd_kafka_err2str(list->elems[i].err));
    }
    return check_topics(what, topics, count);
}

static enum status wait_answer(struct admin *admin, const char *what) {
    rd_kafka_event_t *event = rd_kafka_queue_poll(admin->queue, DEADLINE_MS + 5000);
    if (event == NULL) return FAIL(BROKER, "%s: no answer", what);
    const enum status status = check_answer(what, event);
    rd_kafka_event_destroy(event);
    return status;
}

// Partitions that have a leader; -1: there is no such topic, or nobody answers.
static int count_partitions(struct admin *admin, const char *topic) {
    const struct rd_kafka_metadata *metadata = NULL;
    int found = -1;
    if (rd_kafka_metadata(admin->handle, 1, NULL, &metadata, 5000) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return -1;
    }
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const struct rd_kafka_metadata_topic *at = &metadata->topics[i];
        if (strcmp(at->topic, topic) != 0) continue;
        found = 0;
        for (int j = 0; j < at->partition_cnt; j++)
            found += at->partitions[j].leader >= 0;
    }
    rd_kafka_metadata_destroy(metadata);
    return found;
}

static enum status wait_partitions(struct admin *admin, const char *topic, int64_t wanted) {
    const struct timespec moment = {.tv_nsec = 50 * 1000 * 1000};
    const int64_t start = clock_ms();
    int found;
    while ((found = count_partitions(admin, topic)) != wanted) {
        if (clock_ms() - start > DEADLINE_MS) {
            return FAIL(BROKER, "topic %s has %d partitions, not %" PRId64 ", after %d s", topic,
                        found, wanted, DEADLINE_MS / 1000);
        }
        nanosleep(&moment, NULL);
    }
    return STATUS_OK;
}

static enum status create(struct admin *admin, int count, char **arguments) {
    char why[256];
    int64_t partitions;
    enum status status = STATUS_OK;
    TRY(parse_number(arguments[1], &partitions));
    rd_kafka_NewTopic_t *topic =
        rd_kafka_NewTopic_new(arguments[0], (int)partitions, 1, why, sizeof why);
    if (topic == NULL) return FAIL(USAGE, "topic %s: %s", arguments[0], why);
    for (int i = 2; i < count; i++) {
        char *equals = strchr(arguments[i], '=');
        if (equals == NULL) {
            status = FAIL(USAGE, "%s: not of the form key=value", arguments[i]);
            goto out;
        }
        *equals = '\0';
        rd_kafka_NewTopic_set_config(topic, arguments[i], equals + 1);
    }
    rd_kafka_CreateTopics(admin->handle, &topic, 1, admin->options, admin->queue);
    TRY_OUT(status, wait_answer(admin, "create"));
    status = wait_partitions(admin, arguments[0], partitions);
out:
    rd_kafka_NewTopic_destroy(topic);
    return status;
}

static enum status delete_topic(struct admin *admin, int count, char **arguments) {
    (void)count;
    rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(arguments[0]);
    rd_kafka_DeleteTopics(admin->handle, &topic, 1, admin->options, admin->queue);
    rd_kafka_DeleteTopic_destroy(topic);
    TRY(wait_answer(admin, "delete"));
    return wait_partitions(admin, arguments[0], -1);
}

static enum status grow(struct admin *admin, int count, char **arguments) {
    (void)count;
    char why[256];
    int64_t partitions;
    TRY(parse_number(arguments[1], &partitions));
    rd_kafka_NewPartitions_t *more =
        rd_kafka_NewPartitions_new(arguments[0], (size_t)partitions, why, sizeof why);
    if (more == NULL) return FAIL(USAGE, "topic %s: %s", arguments[0], why);
    rd_kafka_CreatePartitions(admin->handle, &more, 1, admin->options, admin->queue);
    rd_kafka_NewPartitions_destroy(more);
    TRY(wait_answer(admin, "grow"));
    return wait_partitions(admin, arguments[0], partitions);
}

static enum status delete_records(struct admin *admin, int count, char **arguments) {
    (void)count;
    int64_t partition, offset, low = 0, high = 0;
    TRY(parse_number(arguments[1], &partition));
    TRY(parse_number(arguments[2], &offset));
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, arguments[0], (int32_t)partition)->offset = offset;
    rd_kafka_DeleteRecords_t *before = rd_kafka_DeleteRecords_new(list);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_DeleteRecords(admin->handle, &before, 1, admin->options, admin->queue);
    rd_kafka_DeleteRecords_destroy(before);
    TRY(wait_answer(admin, "delete-records"));
    const rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(
        admin->handle, arguments[0], (int32_t)partition, &low, &high, DEADLINE_MS);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR || low < offset) {
        return FAIL(BROKER, "delete-records: %s; the topic begins at %" PRId64,
                    rd_kafka_err2str(error), low);
    }
    return STATUS_OK;
}

// Offset -1: nothing committed. The metadata is printed as it is.
static enum status print_offsets(struct admin *admin, int count, char **arguments) {
    (void)count;
    int64_t partitions;
    enum status status = STATUS_OK;
    TRY(parse_number(arguments[2], &partitions));
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)partitions);
    for (int32_t i = 0; i < (int32_t)partitions; i++) {
        rd_kafka_topic_partition_list_add(list, arguments[1], i);
    }
    const rd_kafka_resp_err_t error = rd_kafka_committed(admin->handle, list, DEADLINE_MS);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        status = FAIL(BROKER, "offsets of %s: %s", arguments[0], rd_kafka_err2str(error));
        goto out;
    }
    for (int i = 0; i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *at = &list->elems[i];
        if (at->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            status = FAIL(BROKER, "offsets of %s: partition %" PRId32 ": %s", arguments[0],
                          at->partition, rd_kafka_err2str(at->err));
            goto out;
        }
        printf("%" PRId32 " %" PRId64 " %.*s\n", at->partition,
               at->offset < 0 ? INT64_C(-1) : at->offset, (int)at->metadata_size,
               at->metadata == NULL ? "" : (const char *)at->metadata);
    }
out:
    rd_kafka_topic_partition_list_destroy(list);
    return status;
}

static enum status print_ends(struct admin *admin, int count, char **arguments) {
    (void)count;
    int64_t partitions, low, high;
    TRY(parse_number(arguments[1], &partitions));
    for (int32_t i = 0; i < (int32_t)partitions; i++) {
        const rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(
            admin->handle, arguments[0], i, &low, &high, DEADLINE_MS);
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
            return FAIL(BROKER, "ends of %s: partition %" PRId32 ": %s", arguments[0], i,
                        rd_kafka_err2str(error));
        }
        printf("%" PRId32 " %" PRId64 " %" PRId64 "\n", i, low, high);
    }
    return STATUS_OK;
}

static const struct command {
    const char *name;
    int least, most; // arguments
    enum status (*run)(struct admin *admin, int count, char **arguments);
} commands[] = {
    {"create",         2, 64, create        },
    {"delete",         1, 1,  delete_topic  },
    {"grow",           2, 2,  grow          },
    {"delete-records", 3, 3,  delete_records},
    {"offsets",        3, 3,  print_offsets },
    {"ends",           2, 2,  print_ends    }
};

static const struct command *find_command(const char *name, int count) {
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, name) != 0) continue;
        return count >= commands[i].least && count <= commands[i].most ? &commands[i] : NULL;
    }
    return NULL;
}

static enum status set(rd_kafka_conf_t *conf, const char *key, const char *value) {
    char why[256];
    if (rd_kafka_conf_set(conf, key, value, why, sizeof why) != RD_KAFKA_CONF_OK) {
        return FAIL(USAGE, "%s: %s", key, why);
    }
    return STATUS_OK;
}

static enum status set_pair(rd_kafka_conf_t *conf, char *pair) {
    char *equals = strchr(pair, '=');
    if (equals == NULL) return FAIL(USAGE, "-X %s: not of the form key=value", pair);
    *equals = '\0';
    return set(conf, pair, equals + 1);
}

static enum status open_admin(struct admin *admin, rd_kafka_conf_t **conf) {
    char why[256];
    admin->handle = rd_kafka_new(RD_KAFKA_CONSUMER, *conf, why, sizeof why);
    if (admin->handle == NULL) return FAIL(USAGE, "%s", why);
    *conf = NULL; // the handle's now
    admin->queue = rd_kafka_queue_new(admin->handle);
    admin->options = rd_kafka_AdminOptions_new(admin->handle, RD_KAFKA_ADMIN_OP_ANY);
    if (rd_kafka_AdminOptions_set_request_timeout(admin->options, DEADLINE_MS, why, sizeof why) !=
        RD_KAFKA_RESP_ERR_NO_ERROR) {
        return FAIL(UNEXPECTED, "%s", why);
    }
    return STATUS_OK;
}

static void close_admin(struct admin *admin) {
    if (admin->options != NULL) rd_kafka_AdminOptions_destroy(admin->options);
    if (admin->queue != NULL) rd_kafka_queue_destroy(admin->queue);
    if (admin->handle != NULL) rd_kafka_destroy(admin->handle);
}

int main(int count, char **arguments) {
    enum status status = STATUS_OK;
    struct admin admin = {0};
    const struct command *command = NULL;
    int at = 2;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    for (; at + 1 < count && strcmp(arguments[at], "-X") == 0; at += 2) {
        TRY_OUT(status, set_pair(conf, arguments[at + 1]));
    }
    if (at < count) command = find_command(arguments[at], count - at - 1);
    if (command == NULL) {
        fputs(USAGE_TEXT, stderr);
        status = STATUS_USAGE;
        goto out;
    }
    TRY_OUT(status, set(conf, "bootstrap.servers", arguments[1]));
    TRY_OUT(status, set(conf, "group.id", command->run == print_offsets ? arguments[at + 1] : "-"));
    TRY_OUT(status, open_admin(&admin, &conf));
    status = command->run(&admin, count - at - 1, arguments + at + 1);
out:
    if (conf != NULL) rd_kafka_conf_destroy(conf);
    close_admin(&admin);
    return status_exit_code(status);
}
