// Sends documents of three tokens in a transaction. Arguments: brokers, topic, partition, how many,
// and commit, abort or open: then it says so and leaves the transaction open when its input ends.

#include "ops/base/status.h"

#include <librdkafka/rdkafka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEADLINE_MS 30000

static enum status check(const char *what, rd_kafka_error_t *error) {
    if (error == NULL) return STATUS_OK;
    const enum status status = FAIL(BROKER, "%s: %s", what, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return status;
}

static enum status open_producer(const char *brokers, const char *id, rd_kafka_t **producer) {
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why) !=
            RD_KAFKA_CONF_OK ||
        rd_kafka_conf_set(conf, "transactional.id", id, why, sizeof why) != RD_KAFKA_CONF_OK ||
        rd_kafka_conf_set(conf, "log_level", "3", why, sizeof why) != RD_KAFKA_CONF_OK ||
        (*producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why)) == NULL) {
        rd_kafka_conf_destroy(conf);
        return FAIL(USAGE, "%s", why);
    }
    return STATUS_OK;
}

static enum status send_all(rd_kafka_t *producer, const char *topic, int partition, int count,
                            const char *end) {
    for (int i = 0; i < count; i++) {
        char value[128];
        const int bytes =
            snprintf(value, sizeof value, "{\"id\":\"%s-%d\",\"tokens\":[1,2,3]}", end, i);
        const rd_kafka_resp_err_t error =
            rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                              RD_KAFKA_V_VALUE(value, (size_t)bytes),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
            return FAIL(BROKER, "%s: %s", topic, rd_kafka_err2str(error));
        }
    }
    if (rd_kafka_flush(producer, DEADLINE_MS) == RD_KAFKA_RESP_ERR_NO_ERROR) return STATUS_OK;
    return FAIL(BROKER, "%s: not sent", topic);
}

static enum status end_transaction(rd_kafka_t *producer, const char *end) {
    if (strcmp(end, "commit") == 0) {
        return check("commit", rd_kafka_commit_transaction(producer, DEADLINE_MS));
    }
    if (strcmp(end, "abort") == 0) {
        return check("abort", rd_kafka_abort_transaction(producer, DEADLINE_MS));
    }
    puts("open");
    fflush(stdout);
    while (getchar() != EOF) {}
    _exit(0); // destroying the producer would end the transaction
}

int main(int count, char **arguments) {
    enum status status = STATUS_OK;
    rd_kafka_t *producer = NULL;
    if (count != 6) {
        fputs("usage: transact BROKERS TOPIC PARTITION COUNT commit|abort|open\n", stderr);
        return status_exit_code(STATUS_USAGE);
    }
    TRY_OUT(status, open_producer(arguments[1], arguments[2], &producer));
    TRY_OUT(status, check("init", rd_kafka_init_transactions(producer, DEADLINE_MS)));
    TRY_OUT(status, check("begin", rd_kafka_begin_transaction(producer)));
    TRY_OUT(status, send_all(producer, arguments[2], (int)strtol(arguments[3], NULL, 10),
                             (int)strtol(arguments[4], NULL, 10), arguments[5]));
    status = end_transaction(producer, arguments[5]);
out:
    if (producer != NULL) rd_kafka_destroy(producer);
    return status_exit_code(status);
}
