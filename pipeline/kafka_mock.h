#pragma once
// librdkafka's mock cluster: a broker in memory, for trying things out and for tests. Not durable,
// 5 MiB a partition, no transactions that mean anything.

#include "ops/base/status.h"

#include <stdint.h>

struct kafka_mock;

enum status kafka_mock_open(struct kafka_mock **opened);
const char *kafka_mock_address(const struct kafka_mock *mock); // host:port of 127.0.0.1
// Errors: USAGE (the name is taken or not allowed).
enum status kafka_mock_topic(struct kafka_mock *mock, const char *topic, int32_t partitions);
// The broker refuses connections from now on, or takes them again.
enum status kafka_mock_set_down(struct kafka_mock *mock, bool down);
// The next offset commit is refused with an error that may pass.
void kafka_mock_fail_commit(struct kafka_mock *mock);
void kafka_mock_close(struct kafka_mock *mock); // accepts NULL
