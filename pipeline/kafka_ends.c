// A partition's ends, with a deadline that holds: rd_kafka_query_watermark_offsets of librdkafka
// before 2.3 may wait for ever if its broker dies at the wrong moment. So it waits in a thread of its
// own, which is left behind, and then the handle with it.

#include "ops/base/clock.h"
#include "pipeline/kafka_inner.h"

#include <stdlib.h>
#include <string.h>

#define MARGIN_MS 1000 // beyond librdkafka's own deadline

struct question {
    rd_kafka_t *handle;
    char *topic;
    int32_t partition;
    int timeout_ms;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done, abandoned;
    rd_kafka_resp_err_t error;
    int64_t low, high;
};

static void free_question(struct question *question) {
    pthread_cond_destroy(&question->changed);
    pthread_mutex_destroy(&question->lock);
    free(question->topic);
    free(question);
}

static void *ask(void *argument) {
    struct question *question = argument;
    int64_t low = 0, high = 0;
    const rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(
        question->handle, question->topic, question->partition, &low, &high, question->timeout_ms);
    pthread_mutex_lock(&question->lock);
    question->error = error;
    question->low = low;
    question->high = high;
    question->done = true;
    const bool abandoned = question->abandoned;
    pthread_cond_signal(&question->changed);
    pthread_mutex_unlock(&question->lock);
    if (abandoned) free_question(question);
    return NULL;
}

static struct question *begin(struct kafka_client *client, int32_t partition, int timeout_ms) {
    pthread_t thread;
    pthread_condattr_t monotonic;
    struct question *question = calloc(1, sizeof *question);
    if (question == NULL) return NULL;
    question->handle = client->handle;
    question->topic = strdup(client->topic);
    question->partition = partition;
    question->timeout_ms = timeout_ms;
    pthread_mutex_init(&question->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&question->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (question->topic == NULL || pthread_create(&thread, NULL, ask, question) != 0) {
        free_question(question);
        return NULL;
    }
    pthread_detach(thread);
    return question;
}

rd_kafka_resp_err_t kafka_ends(struct kafka_client *client, int32_t partition, int timeout_ms,
                               int64_t *low, int64_t *high) {
    const int64_t at = clock_ns() + ((int64_t)timeout_ms + MARGIN_MS) * 1000000;
    const struct timespec deadline = {.tv_sec = (time_t)(at / 1000000000),
                                      .tv_nsec = (long)(at % 1000000000)};
    struct question *question = begin(client, partition, timeout_ms);
    if (question == NULL) return RD_KAFKA_RESP_ERR__FAIL;
    int timed_out = 0;
    pthread_mutex_lock(&question->lock);
    while (!question->done && timed_out == 0) {
        timed_out = pthread_cond_timedwait(&question->changed, &question->lock, &deadline);
    }
    const bool done = question->done;
    const rd_kafka_resp_err_t error = done ? question->error : RD_KAFKA_RESP_ERR__TIMED_OUT;
    *low = question->low;
    *high = question->high;
    question->abandoned = !done;
    pthread_mutex_unlock(&question->lock);
    if (done) free_question(question);
    if (!done) client->doomed = true; // somebody still asks through the handle
    return error;
}
