// By default librdkafka puts all partitions' messages into one queue, in the order in which they
// were fetched: a record waited behind tens of megabytes of another partition's backlog (measured:
// 23 s behind 24 million tokens, at 10 ms a step).

#include "pipeline/kafka_queues.h"

#include "ops/base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct kafka_queues {
    rd_kafka_t *handle;
    rd_kafka_queue_t *common;     // errors, and what came before the partitions had queues
    rd_kafka_queue_t **partition; // [count]
    int32_t first, step, count;
    int32_t turn; // whose turn it is
    int wake;     // an eventfd: something came into an empty queue
};

static void take_apart(struct kafka_queues *queues, int32_t at) {
    rd_kafka_queue_forward(queues->partition[at], NULL);
}

static enum status open_all(struct kafka_queues *queues, struct kafka_client *client) {
    static const uint64_t one = 1;
    queues->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (queues->wake < 0) return FAIL(UNEXPECTED, "eventfd: %s", strerror(errno));
    queues->common = rd_kafka_queue_get_consumer(client->handle);
    rd_kafka_queue_io_event_enable(queues->common, queues->wake, &one, sizeof one);
    for (int32_t i = 0; i < queues->count; i++) {
        queues->partition[i] = rd_kafka_queue_get_partition(client->handle, client->topic,
                                                            queues->first + i * queues->step);
        if (queues->partition[i] == NULL) return FAIL(NO_MEMORY, "queues of partitions");
        rd_kafka_queue_io_event_enable(queues->partition[i], queues->wake, &one, sizeof one);
        take_apart(queues, i);
    }
    return STATUS_OK;
}

enum status kafka_queues_open(struct kafka_client *client, int32_t first, int32_t step,
                              int32_t count, struct kafka_queues **opened) {
    struct kafka_queues *queues = calloc(1, sizeof *queues);
    if (queues == NULL) return FAIL(NO_MEMORY, "queues of partitions");
    *queues = (struct kafka_queues){
        .handle = client->handle, .first = first, .step = step, .count = count, .wake = -1};
    queues->partition = calloc((size_t)count, sizeof(rd_kafka_queue_t *));
    enum status status = STATUS_OK;
    if (queues->partition == NULL) {
        status = FAIL(NO_MEMORY, "queues of %d partitions", count);
    } else {
        status = open_all(queues, client);
    }
    if (status != STATUS_OK) {
        kafka_queues_close(queues);
        return status;
    }
    *opened = queues;
    return STATUS_OK;
}

// What the common queue has. A partition's message there was fetched before its queue was its own,
// or after librdkafka had tied it to the common one again.
static rd_kafka_message_t *next_common(struct kafka_queues *queues) {
    rd_kafka_message_t *message = rd_kafka_consumer_poll(queues->handle, 0);
    if (message == NULL || message->partition < queues->first) return message;
    const int32_t at = (message->partition - queues->first) / queues->step;
    if (at < queues->count) take_apart(queues, at);
    return message;
}

static rd_kafka_message_t *next_in_turn(struct kafka_queues *queues) {
    rd_kafka_message_t *message = NULL;
    for (int32_t looked = 0; looked < queues->count && message == NULL; looked++) {
        message = rd_kafka_consume_queue(queues->partition[queues->turn], 0);
        queues->turn = (queues->turn + 1) % queues->count;
    }
    return message;
}

static void sleep_until_woken(const struct kafka_queues *queues, int32_t timeout_ms) {
    struct pollfd wake = {.fd = queues->wake, .events = POLLIN};
    uint64_t times;
    if (poll(&wake, 1, timeout_ms) > 0) (void)!read(queues->wake, &times, sizeof times);
}

rd_kafka_message_t *kafka_queues_next(struct kafka_queues *queues, int32_t timeout_ms) {
    const int64_t until_ms = clock_ms() + timeout_ms;
    for (;;) {
        rd_kafka_message_t *message = next_common(queues);
        if (message == NULL) message = next_in_turn(queues);
        const int64_t left_ms = until_ms - clock_ms();
        if (message != NULL || left_ms <= 0) return message;
        sleep_until_woken(queues, (int32_t)left_ms);
    }
}

void kafka_queues_close(struct kafka_queues *queues) {
    if (queues == NULL) return;
    for (int32_t i = 0; queues->partition != NULL && i < queues->count; i++) {
        if (queues->partition[i] != NULL) rd_kafka_queue_destroy(queues->partition[i]);
    }
    if (queues->common != NULL) rd_kafka_queue_destroy(queues->common);
    if (queues->wake >= 0) close(queues->wake);
    free(queues->partition);
    free(queues);
}
