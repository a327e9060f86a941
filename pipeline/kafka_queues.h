#pragma once
// A queue of fetched messages for each partition, taken from in turn, so that what waits in one
// partition does not hold back what comes in another. Thread: the reader's. For kafka files.

#include "pipeline/kafka_inner.h"

struct kafka_queues;

// Of partitions first, first + step, ... (`count` of them) of the client's topic, assigned already.
// Errors: NO_MEMORY, UNEXPECTED (no file descriptor).
enum status kafka_queues_open(struct kafka_client *client, int32_t first, int32_t step,
                              int32_t count, struct kafka_queues **opened);
// The next message or event, waiting at most timeout_ms; NULL: there is none. The caller's.
rd_kafka_message_t *kafka_queues_next(struct kafka_queues *queues, int32_t timeout_ms);
void kafka_queues_close(struct kafka_queues *queues); // accepts NULL
