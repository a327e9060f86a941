// One mock broker behind a handle of its own.

#include "pipeline/kafka_mock.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <stdlib.h>

#define OFFSET_COMMIT 8 // the request's number in Kafka's protocol

struct kafka_mock {
    rd_kafka_t *handle;
    rd_kafka_mock_cluster_t *cluster;
};

static void on_log(const rd_kafka_t *handle, int level, const char *facility, const char *text) {
    (void)handle;
    (void)level;
    LOG(DEBUG, "broker %s: %s", facility, text);
}

enum status kafka_mock_open(struct kafka_mock **opened) {
    char why[256];
    struct kafka_mock *mock = calloc(1, sizeof *mock);
    if (mock == NULL) return FAIL(NO_MEMORY, "broker");
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, on_log);
    mock->handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (mock->handle == NULL) {
        rd_kafka_conf_destroy(conf);
        free(mock);
        return FAIL(UNEXPECTED, "broker: %s", why);
    }
    mock->cluster = rd_kafka_mock_cluster_new(mock->handle, 1);
    if (mock->cluster == NULL) {
        kafka_mock_close(mock);
        return FAIL(IO, "broker: cannot listen on 127.0.0.1");
    }
    *opened = mock;
    return STATUS_OK;
}

const char *kafka_mock_address(const struct kafka_mock *mock) {
    return rd_kafka_mock_cluster_bootstraps(mock->cluster);
}

enum status kafka_mock_topic(struct kafka_mock *mock, const char *topic, int32_t partitions) {
    const rd_kafka_resp_err_t error =
        rd_kafka_mock_topic_create(mock->cluster, topic, partitions, 1);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return FAIL(USAGE, "cannot create topic %s: %s", topic, rd_kafka_err2str(error));
    }
    return STATUS_OK;
}

enum status kafka_mock_set_down(struct kafka_mock *mock, bool down) {
    const rd_kafka_resp_err_t error = down ? rd_kafka_mock_broker_set_down(mock->cluster, 1)
                                           : rd_kafka_mock_broker_set_up(mock->cluster, 1);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return FAIL(UNEXPECTED, "broker: %s", rd_kafka_err2str(error));
    }
    return STATUS_OK;
}

void kafka_mock_fail_commit(struct kafka_mock *mock) {
    rd_kafka_mock_push_request_errors(mock->cluster, OFFSET_COMMIT, 1,
                                      RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS);
}

void kafka_mock_close(struct kafka_mock *mock) {
    if (mock == NULL) return;
    if (mock->cluster != NULL) rd_kafka_mock_cluster_destroy(mock->cluster);
    if (mock->handle != NULL) rd_kafka_destroy(mock->handle);
    free(mock);
}
