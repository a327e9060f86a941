// Kafka, against librdkafka's mock broker in this process: round trips, placement, commits, counts
// and a broker that goes away. Proof of durability needs a real broker; this is none.

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

static int set_up(void **state) {
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    assert_int_equal(kafka_mock_open(&world->mock), STATUS_OK);
    snprintf(world->address, sizeof world->address, "%s", kafka_mock_address(world->mock));
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    struct world *world = *state;
    kafka_mock_close(world->mock);
    free(world);
    return 0;
}

static struct kafka_settings settings_for(const struct world *world, const char *topic) {
    return (struct kafka_settings){.brokers = world->address, .topic = topic, .timeout_ms = 10000};
}

static struct source *open_source(const struct world *world, const char *topic, const char *job,
                                  int32_t group, int32_t groups) {
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
static struct record *next(struct source *source) {
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

static struct record *make_record(const char *id, int64_t first, int64_t tokens, bool last) {
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

static void publish(struct kafka_producer *producer, const char *id, int64_t first, int64_t tokens,
                    bool last) {
    struct record *record = make_record(id, first, tokens, last);
    struct codec_bytes bytes = {0};
    assert_int_equal(codec_encode_record(record, tokens % 2 == 0 ? 2 : 4, &bytes), STATUS_OK);
    assert_int_equal(kafka_producer_send(producer, id, strlen(id), bytes.data, bytes.bytes,
                                         KAFKA_TOKEN_RECORD, true),
                     STATUS_OK);
    codec_bytes_free(&bytes);
    record_free(record);
}

static void publish_raw(const struct world *world, const char *topic, const char *key,
                        const char *value) {
    const struct kafka_settings settings = settings_for(world, topic);
    struct kafka_producer *producer = NULL;
    assert_int_equal(kafka_producer_open(&settings, &producer), STATUS_OK);
    assert_int_equal(
        kafka_producer_send(producer, key, strlen(key), value, strlen(value), KAFKA_UNKNOWN, true),
        STATUS_OK);
    assert_int_equal(kafka_producer_flush(producer), STATUS_OK);
    kafka_producer_close(producer);
}

static void publish_documents(const struct world *world, const char *topic, int documents) {
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
    assert_int_equal(progress.lag, 0);
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

// Bad messages are faults at their offset; the good ones around them pass.
static void faults_keep_their_place(void **state) {
    struct world *world = *state;
    assert_int_equal(kafka_mock_topic(world->mock, "faulty", 1), STATUS_OK);
    publish_raw(world, "faulty", "a", "{\"id\":\"a\"}");
    publish_documents(world, "faulty", 1);
    struct source *source = open_source(world, "faulty", "job", 0, 1);
    struct record *record = next(source);
    assert_int_equal(record->kind, RECORD_FAULT);
    assert_int_equal(record->offset, 0);
    assert_non_null(strstr(record->fault, "jsonl"));
    assert_non_null(strstr(record->fault, "topic faulty [0] offset 0"));
    record_free(record);
    record = next(source);
    assert_int_equal(record->kind, RECORD_TOKENS);
    assert_int_equal(record->offset, 1);
    record_free(record);
    assert_int_equal(source->table->close(source), STATUS_OK);
}

static struct source *open_form(const struct world *world, const char *topic, enum kafka_form form,
                                struct tokenizer *tokenizer) {
    const struct kafka_source_settings settings = {
        .consumer = {.kafka = settings_for(world, topic), .group_id = "job", .groups = 1},
        .form = form,
        .tokenizer = tokenizer
    };
    struct source *source = NULL;
    assert_int_equal(kafka_source_open(&settings, &source), STATUS_OK);
    return source;
}

// Text of 150,000 bytes comes in pieces that follow each other; ids may repeat.
static void text_becomes_documents(void **state) {
    struct world *world = *state;
    struct tokenizer *tokenizer = NULL;
    enum { BYTES = 150000 };
    char *text = malloc(BYTES + 1);
    assert_non_null(text);
    for (int i = 0; i < BYTES; i++) {
        text[i] = (char)('a' + i % 23);
    }
    text[BYTES] = '\0';
    assert_int_equal(byte_tokenizer_open(&tokenizer), STATUS_OK);
    assert_int_equal(kafka_mock_topic(world->mock, "texts", 1), STATUS_OK);
    publish_raw(world, "texts", "a", text);
    publish_raw(world, "texts", "a", "b");
    struct source *source = open_form(world, "texts", KAFKA_FORM_TEXT, tokenizer);
    int64_t first = 0;
    struct record *record;
    do {
        record = next(source);
        assert_int_equal(record->kind, RECORD_TOKENS);
        assert_int_equal(record->offset, 0);
        assert_int_equal(record->serial, 1);
        assert_int_equal(record->first, first);
        assert_int_equal(record->text_bytes, record->tokens);
        for (int64_t i = 0; i < record->tokens; i++) {
            assert_int_equal(record->token[i], text[first + i]);
        }
        first += record->tokens;
        const bool last = record->last;
        record_free(record);
        if (last) break;
    } while (true);
    assert_int_equal(first, BYTES);
    record = next(source);
    assert_int_equal(record->serial, 2);
    assert_int_equal(record->tokens, 1);
    record_free(record);
    assert_int_equal(source->table->close(source), STATUS_OK);
    tokenizer->close(tokenizer);
    free(text);
}

static void json_lines_become_documents(void **state) {
    struct world *world = *state;
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(byte_tokenizer_open(&tokenizer), STATUS_OK);
    assert_int_equal(kafka_mock_topic(world->mock, "lines", 1), STATUS_OK);
    publish_raw(world, "lines", "k", "{\"id\":\"a\",\"text\":\"h\\n\",\"lang\":\"en\"}");
    publish_raw(world, "lines", "key", "{\"tokens\":[5,6,7]}");
    publish_raw(world, "lines", "k", "{\"text\":");
    struct source *source = open_form(world, "lines", KAFKA_FORM_JSONL, tokenizer);
    struct record *record = next(source);
    assert_int_equal(record->tokens, 2);
    assert_int_equal(record->token[1], '\n');
    assert_true(record->last);
    assert_memory_equal(record->attributes, "\"lang\":\"en\"", 11);
    record_free(record);
    record = next(source);
    assert_int_equal(record->id_bytes, 3); // the key, where the line has no id
    assert_memory_equal(record->id, "key", 3);
    assert_int_equal(record->tokens, 3);
    assert_int_equal(record->token[2], 7);
    assert_int_equal(record->text_bytes, -1);
    record_free(record);
    record = next(source);
    assert_int_equal(record->kind, RECORD_FAULT);
    record_free(record);
    assert_int_equal(source->table->close(source), STATUS_OK);
    tokenizer->close(tokenizer);
}

// What a topic holds, message by message.
static int read_scores(const struct world *world, const char *topic, struct codec_score **score,
                       int most) {
    const struct kafka_consumer_settings settings = {.kafka = settings_for(world, topic),
                                                     .groups = 1};
    struct kafka_consumer *consumer = NULL;
    struct kafka_message message;
    int count = 0;
    enum status status;
    assert_int_equal(kafka_consumer_open(&settings, &consumer), STATUS_OK);
    while ((status = kafka_consumer_next(consumer, 100, &message)) != STATUS_END) {
        if (status == STATUS_AGAIN) continue;
        assert_int_equal(status, STATUS_OK);
        if (message.happening != KAFKA_MESSAGE) continue;
        assert_int_equal(message.type, KAFKA_DOCUMENT_SCORE);
        assert_true(count < most);
        assert_int_equal(codec_decode_score(message.value, message.value_bytes, &score[count++]),
                         STATUS_OK);
    }
    kafka_consumer_close(consumer);
    return count;
}

// Results are confirmed one by one without holes; long arrays go ahead in pieces that fit.
static void results_come_back(void **state) {
    enum { NLLS = 65536, WINDOWS = 10000, SCORES = 40 };
    struct world *world = *state;
    static float nll[NLLS];
    static struct window_score windows[WINDOWS];
    static struct codec_score *back[64];
    char id[32];
    const struct kafka_sink_settings settings = {
        .kafka = settings_for(world, "results"), .ids = {1, 2, 3}
    };
    struct sink *sink = NULL;
    int64_t confirmed = 0;
    for (int i = 0; i < NLLS; i++) {
        nll[i] = (float)i / 7;
    }
    for (int i = 0; i < WINDOWS; i++) {
        windows[i] = (struct window_score){i * INT64_C(4096), 4096, i / 3.0};
    }
    assert_int_equal(kafka_mock_topic(world->mock, "results", 1), STATUS_OK);
    assert_int_equal(kafka_sink_open(&settings, &sink), STATUS_OK);
    for (int i = 0; i < SCORES; i++) {
        const int length = snprintf(id, sizeof id, "d%d", i);
        const struct document_score score = {.id = id,
                                             .id_bytes = (size_t)length,
                                             .tokens = i,
                                             .nll = i / 10.0,
                                             .text_bytes = -1,
                                             .windows = i == 7 ? windows : NULL,
                                             .window_count = i == 7 ? WINDOWS : 0,
                                             .token_nll_first = 1,
                                             .token_nll = i == 7 ? nll : NULL,
                                             .token_nll_count = i == 7 ? NLLS : 0};
        assert_int_equal(sink->table->score(sink, &score), STATUS_OK);
        assert_int_equal(sink->table->confirmed(sink, &confirmed), STATUS_OK);
        assert_true(confirmed <= i + 1);
    }
    const int64_t start = clock_ms();
    while (confirmed < SCORES && clock_ms() - start < 10000) {
        assert_int_equal(sink->table->confirmed(sink, &confirmed), STATUS_OK);
    }
    assert_int_equal(confirmed, SCORES); // the pieces of one score count as part of it
    assert_int_equal(sink->table->close(sink, true), STATUS_OK);

    const int count = read_scores(world, "results", back, 64);
    int64_t nlls = 0, window = 0, scores = 0;
    for (int i = 0; i < count; i++) {
        const struct document_score *score = &back[i]->score;
        if (back[i]->piece) {
            assert_int_equal(scores, 7);
            assert_memory_equal(score->id, "d7", 2);
            for (int64_t j = 0; j < score->token_nll_count; j++) {
                assert_int_equal(score->token_nll_first + j, 1 + nlls);
                assert_true(score->token_nll[j] == nll[nlls++]);
            }
            for (int64_t j = 0; j < score->window_count; j++) {
                assert_true(score->windows[j].nll == windows[window++].nll);
            }
        } else {
            assert_int_equal(score->tokens, scores);
            assert_int_equal(back[i]->ids.settings, 2);
            scores++;
        }
        codec_score_free(back[i]);
    }
    assert_int_equal(scores, SCORES);
    assert_int_equal(nlls, NLLS);
    assert_int_equal(window, WINDOWS);
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
        cmocka_unit_test(faults_keep_their_place),
        cmocka_unit_test(text_becomes_documents),
        cmocka_unit_test(json_lines_become_documents),
        cmocka_unit_test(results_come_back),
        cmocka_unit_test(waiting_can_be_stopped),
        cmocka_unit_test(broker_that_stays_away_ends_the_job), // last: it leaves the broker down
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
