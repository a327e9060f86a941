// Destroying a librdkafka handle, with a deadline. librdkafka 2.0.2 never comes back from it once a
// topic that it was told to fetch was deleted (measured with Apache Kafka 4.2; unassigning first,
// polling what is left and closing the consumer do not help).

#include "ops/base/clock.h"
#include "pipeline/kafka_inner.h"

#include <stdlib.h>
#include <time.h>

struct destruction {
    rd_kafka_t *handle;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done, abandoned;
};

static void free_destruction(struct destruction *destruction) {
    pthread_cond_destroy(&destruction->changed);
    pthread_mutex_destroy(&destruction->lock);
    free(destruction);
}

static void *destroy(void *argument) {
    struct destruction *destruction = argument;
    // a group that was joined has been left (kafka_member_leave)
    rd_kafka_destroy_flags(destruction->handle, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    pthread_mutex_lock(&destruction->lock);
    destruction->done = true;
    const bool abandoned = destruction->abandoned;
    pthread_cond_signal(&destruction->changed);
    pthread_mutex_unlock(&destruction->lock);
    if (abandoned) free_destruction(destruction);
    return NULL;
}

static struct destruction *begin(rd_kafka_t *handle) {
    pthread_t thread;
    pthread_condattr_t monotonic;
    struct destruction *destruction = calloc(1, sizeof *destruction);
    if (destruction == NULL) return NULL;
    destruction->handle = handle;
    pthread_mutex_init(&destruction->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&destruction->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&thread, NULL, destroy, destruction) != 0) {
        free_destruction(destruction);
        return NULL;
    }
    pthread_detach(thread);
    return destruction;
}

bool kafka_destroy(rd_kafka_t *handle, int64_t deadline_ms) {
    if (deadline_ms <= 0) return false;
    const int64_t at = clock_ns() + deadline_ms * 1000000;
    const struct timespec deadline = {.tv_sec = (time_t)(at / 1000000000),
                                      .tv_nsec = (long)(at % 1000000000)};
    struct destruction *destruction = begin(handle);
    if (destruction == NULL) return false;
    int timed_out = 0;
    pthread_mutex_lock(&destruction->lock);
    while (!destruction->done && timed_out == 0) {
        timed_out = pthread_cond_timedwait(&destruction->changed, &destruction->lock, &deadline);
    }
    const bool done = destruction->done;
    destruction->abandoned = !done;
    pthread_mutex_unlock(&destruction->lock);
    if (done) free_destruction(destruction);
    return done;
}
