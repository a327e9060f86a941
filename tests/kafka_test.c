// Kafka, against librdkafka's mock broker in this process: round trips, placement, commits, counts
// and a broker that goes away. Proof of durability needs a real broker; this is none.

#include "tests/kafka_world.h"

#include <time.h>

// Records of 1 to 100,000 tokens come back as they were sent, in order, and then the end.
static void records_come_back(void **state) {
    static const int64_t tokens[] = {1, 2, 3, 1000, 4095, 65536, 100000, 0};
    const int count = (int)(sizeof tokens / sizeof tokens[0]);
    struct world *world = *state;
    const struct kafka_settings settings = settings_for(world, "sizes");
    struct kafka_producer *producer = NULL;
    int64_t confirmed = 0, first = 0;
    assert_int_equal(kafka_mock_topic(world->mock, "sizes", 1), STATUS_OK);
    assert_int_equal(kafka_producer_open(&settings, &producer), STATUS_OK);
    for (int i = 0; i < count; i++) {
        publish(producer, "d\xC3\xB6", first, tokens[i], i + 1 == count);
        first += tokens[i];
    }
    assert_int_equal(kafka_producer_flush(producer), STATUS_OK);
    assert_int_equal(kafka_producer_confirmed(producer, &confirmed), STATUS_OK);
    assert_int_equal(confirmed, count);
    kafka_producer_close(producer);

    struct source *source = open_source(world, "sizes", "job", 0, 1);
    first = 0;
    for (int i = 0; i < count; i++) {
        struct record *record = next(source);
        struct record *expected = make_record("d\xC3\xB6", first, tokens[i], i + 1 == count);
        assert_non_null(record);
        assert_int_equal(record->kind, RECORD_TOKENS);
        assert_int_equal(record->offset, i);
        assert_int_equal(record->partition, 0);
        assert_int_equal(record->serial, 0);
        assert_int_equal(record->first, first);
        assert_int_equal(record->tokens, tokens[i]);
        assert_int_equal(record->last, i + 1 == count);
        assert_memory_equal(record->id, "d\xC3\xB6", 3);
        assert_memory_equal(record->attributes, "\"n\":\"1\"", 7);
        if (tokens[i] > 0) {
            assert_memory_equal(record->token, expected->token, (size_t)tokens[i] * 4);
        }
        first += tokens[i];
        record_free(expected);
        record_free(record);
    }
    struct record *end = next(source);
    assert_int_equal(end->kind, RECORD_PARTITION_END);
    record_free(end);
    assert_null(next(source));
    struct source_progress progress;
    source->table->progress(source, &progress);
    assert_int_equal(progress.done, count);
    assert_int_equal(progress.total, count);
    assert_int_equal(progress.lag, count); // nothing of it is done
    assert_int_equal(source->table->commit(source, 0, count - 1, ""), STATUS_OK);
    source->table->progress(source, &progress);
    assert_int_equal(progress.lag, 1);
    assert_int_equal(source->table->close(source), STATUS_OK);
}

// Whatever the number of groups, every partition is read by exactly one, and so is every record.
static void groups_share_the_partitions(void **state) {
    enum { PARTITIONS = 7, DOCUMENTS = 60 };
    struct world *world = *state;
    assert_int_equal(kafka_mock_topic(world->mock, "shared", PARTITIONS), STATUS_OK);
    publish_documents(world, "shared", DOCUMENTS);
    for (int32_t groups = 1; groups <= 3; groups++) {
        int ends[PARTITIONS] = {0};
        int records = 0;
        for (int32_t group = 0; group < groups; group++) {
            struct source *source = open_source(world, "shared", "job", group, groups);
            int64_t at[PARTITIONS] = {0};
            struct record *record;
            while ((record = next(source)) != NULL) {
                assert_int_equal(record->partition % groups, group);
                if (record->kind == RECORD_PARTITION_END) {
                    ends[record->partition]++;
                    assert_int_equal(record->offset, at[record->partition]);
                } else {
                    assert_int_equal(ends[record->partition], 0); // nothing after the end
                    assert_int_equal(record->offset, at[record->partition]);
                    at[record->partition] = record->offset + 1;
                    records++;
                }
                record_free(record);
            }
            assert_int_equal(source->table->close(source), STATUS_OK);
        }
        assert_int_equal(records, 2 * DOCUMENTS);
        for (int i = 0; i < PARTITIONS; i++) {
            assert_int_equal(ends[i], 1);
        }
    }
}

// Keys go where Java's client puts them: toPositive(murmur2(key)) % partitions.
static void keys_choose_javas_partition(void **state) {
    // Of org.apache.kafka.common.utils.Utils.murmur2, as its own unit test lists them.
    static const struct {
        const char *key;
        int32_t murmur2;
    } known[] = {
        {"21",                         -973932308 },
        {"foobar",                     -790332482 },
        {"a-little-bit-long-string",   -985981536 },
        {"a-little-bit-longer-string", -1486304829},
        {"abc",                        479470107  }
    };
    struct world *world = *state;
    assert_int_equal(kafka_mock_topic(world->mock, "keys", 13), STATUS_OK);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        publish_raw(world, "keys", known[i].key, "x");
    }
    struct source *source = open_source(world, "keys", NULL, 0, 1);
    struct record *record;
    int64_t found[13] = {0};
    while ((record = next(source)) != NULL) {
        if (record->kind == RECORD_FAULT) found[record->partition]++;
        record_free(record);
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        found[(known[i].murmur2 & INT32_MAX) % 13]--;
    }
    for (int i = 0; i < 13; i++) {
        assert_int_equal(found[i], 0);
    }
    assert_int_equal(source->table->close(source), STATUS_OK);
}

// A second source of the job begins where the first committed, and gets the blob back.
static void commits_are_kept(void **state) {
    struct world *world = *state;
    const char *blob = NULL;
    int64_t offset = 0;
    assert_int_equal(kafka_mock_topic(world->mock, "resumed", 1), STATUS_OK);
    publish_documents(world, "resumed", 5);
    struct source *source = open_source(world, "resumed", "job", 0, 1);
    assert_true(kafka_consumer_started(kafka_source_consumer(source), 0, &offset, &blob));
    assert_int_equal(offset, -1);
    record_free(next(source));
    assert_int_equal(source->table->commit(source, 0, 2, "job/0/2-abc"), STATUS_OK);
    assert_int_equal(source->table->commit(source, 0, 3, "job/0/3-def"), STATUS_OK);
    assert_int_equal(source->table->commit(source, 0, 4, "job/0/4 ~!"), STATUS_OK);
    assert_int_equal(source->table->close(source), STATUS_OK);

    source = open_source(world, "resumed", "job", 0, 1);
    assert_true(kafka_consumer_started(kafka_source_consumer(source), 0, &offset, &blob));
    assert_int_equal(offset, 4);
    assert_string_equal(blob, "job/0/4 ~!");
    assert_false(kafka_consumer_started(kafka_source_consumer(source), 1, &offset, &blob));
    struct record *record = next(source);
    assert_int_equal(record->offset, 4);
    record_free(record);
    // The same offset with another blob is a commit too; so is one without a blob.
    assert_int_equal(source->table->commit(source, 0, 10, "a"), STATUS_OK);
    assert_int_equal(source->table->commit(source, 0, 10, ""), STATUS_OK);
    assert_int_equal(source->table->close(source), STATUS_OK);

    // All is committed: the partition ends at once. Another job begins at the beginning.
    source = open_source(world, "resumed", "job", 0, 1);
    assert_true(kafka_consumer_started(kafka_source_consumer(source), 0, &offset, &blob));
    assert_string_equal(blob, "");
    record = next(source);
    assert_int_equal(record->kind, RECORD_PARTITION_END);
    record_free(record);
    assert_null(next(source));
    assert_int_equal(source->table->close(source), STATUS_OK);
    source = open_source(world, "resumed", "other", 0, 1);
    record = next(source);
    assert_int_equal(record->offset, 0);
    record_free(record);
    assert_int_equal(source->table->close(source), STATUS_OK);
}

// A committed offset the topic does not have is an error, not a silent start elsewhere.
static void offsets_out_of_range_are_refused(void **state) {
    struct world *world = *state;
    struct source *source = NULL;
    assert_int_equal(kafka_mock_topic(world->mock, "ranged", 1), STATUS_OK);
    publish_documents(world, "ranged", 1);
    source = open_source(world, "ranged", "ahead", 0, 1);
    assert_int_equal(source->table->commit(source, 0, 3, ""), STATUS_OK);
    assert_int_equal(source->table->close(source), STATUS_OK);
    const struct kafka_source_settings settings = {
        .consumer = {.kafka = settings_for(world, "ranged"), .group_id = "ahead", .groups = 1}
    };
    source = NULL;
    assert_int_equal(kafka_source_open(&settings, &source), STATUS_MISMATCH);
    assert_null(source);
}

static void wrong_settings_are_refused(void **state) {
    static const char *const unknown[] = {"no.such.property=1"};
    static const char *const fixed[] = {"enable.auto.commit=true"};
    static const char *const bare[] = {"linger.ms"};
    static const char *const fine[] = {"enable.auto.commit=false", "fetch.min.bytes=1"};
    static const struct {
        const char *const *property;
        int64_t count;
        enum status status;
    } cases[] = {
        {unknown, 1, STATUS_USAGE},
        {fixed,   1, STATUS_USAGE},
        {bare,    1, STATUS_USAGE},
        {fine,    2, STATUS_OK   }
    };
    struct world *world = *state;
    assert_int_equal(kafka_mock_topic(world->mock, "plain", 1), STATUS_OK);
    struct kafka_source_settings settings = {
        .consumer = {.kafka = settings_for(world, "plain"), .group_id = "job", .groups = 1}
    };
    struct source *source = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        settings.consumer.kafka.property = cases[i].property;
        settings.consumer.kafka.property_count = cases[i].count;
        assert_int_equal(kafka_source_open(&settings, &source), cases[i].status);
    }
    assert_int_equal(source->table->close(source), STATUS_OK);
    settings.consumer.kafka = settings_for(world, "plain");
    settings.consumer.kafka.brokers = NULL;
    assert_int_equal(kafka_source_open(&settings, &source), STATUS_USAGE);
    assert_int_equal(kafka_mock_topic(world->mock, "many", 65), STATUS_OK);
    settings.consumer.kafka = settings_for(world, "many");
    assert_int_equal(kafka_source_open(&settings, &source), STATUS_USAGE);
    settings.consumer.groups = 2; // 33 and 32 of them
    assert_int_equal(kafka_source_open(&settings, &source), STATUS_OK);
    assert_int_equal(source->table->close(source), STATUS_OK);
}

static void missing_topic_is_named(void **state) {
    struct world *world = *state;
    struct source *source = NULL;
    const struct kafka_source_settings settings = {
        .consumer = {.kafka = settings_for(world, "mistyped"), .group_id = "job", .groups = 1}
    };
    assert_int_equal(kafka_source_open(&settings, &source), STATUS_USAGE);
}

// A broker that goes away ends reading, committing and delivering at the deadline; one that comes
// back before it does not.
static void broker_that_stays_away_ends_the_job(void **state) {
    struct world *world = *state;
    const struct kafka_sink_settings sink_settings = {
        .kafka = {.brokers = world->address, .topic = "away", .timeout_ms = 2000}
    };
    const struct kafka_source_settings source_settings = {
        .consumer = {.kafka = sink_settings.kafka, .group_id = "job", .groups = 1, .follow = true}
    };
    const struct document_score score = {.id = "a", .id_bytes = 1, .text_bytes = -1};
    struct sink *sink = NULL;
    struct source *source = NULL;
    struct record *record = NULL;
    enum status status = STATUS_AGAIN;
    assert_int_equal(kafka_mock_topic(world->mock, "away", 1), STATUS_OK);
    assert_int_equal(kafka_sink_open(&sink_settings, &sink), STATUS_OK);
    assert_int_equal(kafka_source_open(&source_settings, &source), STATUS_OK);

    assert_int_equal(kafka_mock_set_down(world->mock, true), STATUS_OK);
    int64_t start = clock_ms();
    while (status == STATUS_AGAIN && clock_ms() - start < 1200) {
        status = source->table->next(source, 100, &record);
    }
    assert_int_equal(status, STATUS_AGAIN); // not yet
    assert_int_equal(kafka_mock_set_down(world->mock, false), STATUS_OK);
    start = clock_ms();
    while (status == STATUS_AGAIN && clock_ms() - start < 2500) {
        status = source->table->next(source, 100, &record);
    }
    assert_int_equal(status, STATUS_AGAIN); // it came back in time

    assert_int_equal(kafka_mock_set_down(world->mock, true), STATUS_OK);
    start = clock_ms();
    assert_int_equal(sink->table->score(sink, &score), STATUS_OK);
    assert_int_equal(source->table->commit(source, 0, 0, ""), STATUS_OK);
    while (status == STATUS_AGAIN && clock_ms() - start < 8000) {
        status = source->table->next(source, 100, &record);
    }
    assert_int_equal(status, STATUS_BROKER);
    assert_true(clock_ms() - start < 4500);
    assert_int_equal(source->table->close(source), STATUS_BROKER);
    assert_int_equal(sink->table->close(sink, true), STATUS_BROKER);
    assert_true(clock_ms() - start < 9000);
    assert_int_equal(kafka_sink_open(&sink_settings, &sink), STATUS_BROKER);
    assert_true(clock_ms() - start < 13000);
}

// Nobody takes records for longer than the time-out: only tending sees that the broker is gone.
static void a_lost_broker_is_seen_without_reading(void **state) {
    struct world *world = *state;
    const struct kafka_source_settings settings = {
        .consumer = {.kafka = {.brokers = world->address, .topic = "tended", .timeout_ms = 2000},
                     .groups = 1}
    };
    struct source *source = NULL;
    enum status status = STATUS_OK;
    assert_int_equal(kafka_mock_set_down(world->mock, false), STATUS_OK);
    assert_int_equal(kafka_mock_topic(world->mock, "tended", 1), STATUS_OK);
    publish_documents(world, "tended", 5);
    assert_int_equal(kafka_source_open(&settings, &source), STATUS_OK);
    record_free(next(source));
    int64_t start = clock_ms();
    while (clock_ms() - start < 2500) {
        assert_int_equal(source->table->tend(source), STATUS_OK);
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    assert_int_equal(kafka_mock_set_down(world->mock, true), STATUS_OK);
    start = clock_ms();
    while (status == STATUS_OK && clock_ms() - start < 8000) {
        status = source->table->tend(source);
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    assert_int_equal(status, STATUS_BROKER);
    assert_in_range(clock_ms() - start, 1500, 6000);
    assert_int_equal(source->table->close(source), STATUS_BROKER);
}

// What a run after this one would find committed.
static int64_t committed_by(const struct kafka_source_settings *settings) {
    struct source *source = NULL;
    const char *blob = NULL;
    int64_t offset = -1;
    assert_int_equal(kafka_source_open(settings, &source), STATUS_OK);
    (void)source->table->resumed(source, 0, &offset, &blob);
    assert_int_equal(source->table->close(source), STATUS_OK);
    return offset;
}

// Reads on until so much is committed.
static void read_until_committed(struct source *source,
                                 const struct kafka_source_settings *settings, int64_t offset) {
    const int64_t start = clock_ms();
    while (committed_by(settings) != offset) {
        struct record *record = NULL;
        assert_true(clock_ms() - start < 20000);
        if (source->table->next(source, 50, &record) == STATUS_OK) record_free(record);
    }
}

// The last commits need no other one behind them: neither the one that finds another under way, nor the
// one that fails. One that failed before a long pause is tried again, not overdue.
static void commits_get_through_by_themselves(void **state) {
    struct world *world = *state;
    const struct kafka_source_settings settings = {
        .consumer = {.kafka = {.brokers = world->address, .topic = "quiet", .timeout_ms = 3000},
                     .group_id = "quiet",
                     .groups = 1,
                     .follow = true}
    };
    struct source *source = NULL;
    assert_int_equal(kafka_mock_set_down(world->mock, false), STATUS_OK);
    assert_int_equal(kafka_mock_topic(world->mock, "quiet", 1), STATUS_OK);
    publish_documents(world, "quiet", 5);
    assert_int_equal(kafka_source_open(&settings, &source), STATUS_OK);
    assert_int_equal(source->table->commit(source, 0, 1, ""), STATUS_OK);
    assert_int_equal(source->table->commit(source, 0, 2, ""), STATUS_OK);
    read_until_committed(source, &settings, 2);
    kafka_mock_fail_commit(world->mock);
    assert_int_equal(source->table->commit(source, 0, 3, ""), STATUS_OK);
    read_until_committed(source, &settings, 3);
    kafka_mock_fail_commit(world->mock);
    assert_int_equal(source->table->commit(source, 0, 4, ""), STATUS_OK);
    nanosleep(&(struct timespec){.tv_sec = 3, .tv_nsec = 500000000}, NULL);
    assert_int_equal(source->table->commit(source, 0, 5, ""), STATUS_OK);
    assert_int_equal(source->table->close(source), STATUS_OK);
    assert_int_equal(committed_by(&settings), 5);
}

static bool always(void) {
    return true;
}

static void waiting_can_be_stopped(void **state) {
    struct kafka_sink_settings settings = {
        .kafka = {.brokers = "127.0.0.1:1", .topic = "t", .timeout_ms = 60000, .stop = always}
    };
    struct sink *sink = NULL;
    const int64_t start = clock_ms();
    (void)state;
    assert_int_equal(kafka_sink_open(&settings, &sink), STATUS_STOPPED);
    assert_true(clock_ms() - start < 3000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back),
        cmocka_unit_test(groups_share_the_partitions),
        cmocka_unit_test(keys_choose_javas_partition),
        cmocka_unit_test(commits_are_kept),
        cmocka_unit_test(offsets_out_of_range_are_refused),
        cmocka_unit_test(wrong_settings_are_refused),
        cmocka_unit_test(missing_topic_is_named),
        cmocka_unit_test(waiting_can_be_stopped),
        cmocka_unit_test(broker_that_stays_away_ends_the_job), // it leaves the broker down
        cmocka_unit_test(a_lost_broker_is_seen_without_reading),
        cmocka_unit_test(commits_get_through_by_themselves),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
