#pragma once
// What the tests of Kafka share: librdkafka's mock broker in this process, records and topics.

#include "ops/base/clock.h"
#include "pipeline/codec.h"
#include "pipeline/kafka_mock.h"
#include "pipeline/kafka_producer.h"
#include "pipeline/kafka_sink.h"
#include "pipeline/kafka_source.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct world {
    struct kafka_mock *mock;
    char address[128];
};

static inline int set_up(void **state) {
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    assert_int_equal(kafka_mock_open(&world->mock), STATUS_OK);
    snprintf(world->address, sizeof world->address, "%s", kafka_mock_address(world->mock));
    *state = world;
    return 0;
}

static inline int tear_down(void **state) {
    struct world *world = *state;
    kafka_mock_close(world->mock);
    free(world);
    return 0;
}

static inline struct kafka_settings settings_for(const struct world *world, const char *topic) {
    return (struct kafka_settings){.brokers = world->address, .topic = topic, .timeout_ms = 10000};
}

static inline struct source *open_source(const struct world *world, const char *topic,
                                         const char *job, int32_t group, int32_t groups) {
    const struct kafka_source_settings settings = {
        .consumer = {.kafka = settings_for(world, topic),
                     .group_id = job,
                     .group = group,
                     .groups = groups}
    };
    struct source *source = NULL;
    assert_int_equal(kafka_source_open(&settings, &source), STATUS_OK);
    return source;
}

// The next record or the end; a source that has neither for 10 s fails the test.
static inline struct record *next(struct source *source) {
    const int64_t start = clock_ms();
    struct record *record = NULL;
    for (;;) {
        const enum status status = source->table->next(source, 100, &record);
        if (status == STATUS_OK) return record;
        if (status == STATUS_END) return NULL;
        assert_int_equal(status, STATUS_AGAIN);
        assert_true(clock_ms() - start < 10000);
    }
}

static inline struct record *make_record(const char *id, int64_t first, int64_t tokens, bool last) {
    struct record *record = NULL;
    assert_int_equal(record_make(RECORD_TOKENS, id, strlen(id), "\"n\":\"1\"", 7, tokens, &record),
                     STATUS_OK);
    for (int64_t i = 0; i < tokens; i++) {
        record_tokens(record)[i] = (int32_t)((first + i) * 31 % 50257);
    }
    record->first = first;
    record->last = last;
    return record;
}

static inline void send(struct kafka_producer *producer, const char *key, const void *value,
                        size_t value_bytes, enum kafka_type type) {
    const struct kafka_outgoing message = {.key = key,
                                           .key_bytes = strlen(key),
                                           .value = value,
                                           .value_bytes = value_bytes,
                                           .type = type,
                                           .source_time_ms = -1,
                                           .ends_unit = true};
    assert_int_equal(kafka_producer_send(producer, &message), STATUS_OK);
}

static inline void publish(struct kafka_producer *producer, const char *id, int64_t first,
                           int64_t tokens, bool last) {
    struct record *record = make_record(id, first, tokens, last);
    struct codec_bytes bytes = {0};
    assert_int_equal(codec_encode_record(record, tokens % 2 == 0 ? 2 : 4, &bytes), STATUS_OK);
    send(producer, id, bytes.data, bytes.bytes, KAFKA_TOKEN_RECORD);
    codec_bytes_free(&bytes);
    record_free(record);
}

static inline void publish_raw(const struct world *world, const char *topic, const char *key,
                               const char *value) {
    const struct kafka_settings settings = settings_for(world, topic);
    struct kafka_producer *producer = NULL;
    assert_int_equal(kafka_producer_open(&settings, &producer), STATUS_OK);
    send(producer, key, value, strlen(value), KAFKA_UNKNOWN);
    assert_int_equal(kafka_producer_flush(producer), STATUS_OK);
    kafka_producer_close(producer);
}

static inline void publish_documents(const struct world *world, const char *topic, int documents) {
    const struct kafka_settings settings = settings_for(world, topic);
    struct kafka_producer *producer = NULL;
    char id[32];
    assert_int_equal(kafka_producer_open(&settings, &producer), STATUS_OK);
    for (int i = 0; i < documents; i++) {
        snprintf(id, sizeof id, "document-%d", i);
        publish(producer, id, 0, 10 + i, false);
        publish(producer, id, 10 + i, 1, true);
    }
    assert_int_equal(kafka_producer_flush(producer), STATUS_OK);
    kafka_producer_close(producer);
}
