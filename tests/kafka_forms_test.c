// Kafka, what a message may hold: records, text, JSON lines, what is none of these, and results.

#include "tests/kafka_world.h"

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
    assert_int_equal(record->partition, 0);
    assert_string_equal(source->table->origin(source, 0), "faulty");
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
    publish_raw(world, "lines", "k", "{\"id\":\"a\\u0000b\",\"text\":\"c\"}"); // would pass for a
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
    record = next(source);
    assert_int_equal(record->kind, RECORD_FAULT);
    assert_string_equal(record->fault, "its id has a NUL inside");
    record_free(record);
    assert_int_equal(source->table->close(source), STATUS_OK);
    tokenizer->close(tokenizer);
}

// A key may hold anything, and is the id of text.
static void keys_that_are_no_ids_are_faults(void **state) {
    struct world *world = *state;
    struct tokenizer *tokenizer = NULL;
    struct kafka_producer *producer = NULL;
    char long_key[ID_BYTES_MOST + 1];
    memset(long_key, 'a', sizeof long_key);
    const struct kafka_outgoing messages[] = {
        {.key = NULL,     .key_bytes = 0              },
        {.key = "",       .key_bytes = 0              },
        {.key = "a\0b",   .key_bytes = 3              },
        {.key = "\xff",   .key_bytes = 1              },
        {.key = long_key, .key_bytes = sizeof long_key},
    };
    const int count = sizeof messages / sizeof messages[0];
    assert_int_equal(byte_tokenizer_open(&tokenizer), STATUS_OK);
    assert_int_equal(kafka_mock_topic(world->mock, "keys", 1), STATUS_OK);
    const struct kafka_settings settings = settings_for(world, "keys");
    assert_int_equal(kafka_producer_open(&settings, &producer), STATUS_OK);
    for (int i = 0; i < count; i++) {
        struct kafka_outgoing message = messages[i];
        message.value = "text";
        message.value_bytes = 4;
        message.source_time_ms = -1;
        assert_int_equal(kafka_producer_send(producer, &message), STATUS_OK);
    }
    assert_int_equal(kafka_producer_flush(producer), STATUS_OK);
    kafka_producer_close(producer);
    struct source *source = open_form(world, "keys", KAFKA_FORM_TEXT, tokenizer);
    for (int i = 0; i < count; i++) {
        struct record *record = next(source);
        const bool keyed = messages[i].key_bytes > 0; // its place is its name where nothing else is
        assert_int_equal(record->kind, keyed ? RECORD_FAULT : RECORD_TOKENS);
        if (!keyed) assert_memory_equal(record->id, i == 0 ? "keys:0:0" : "keys:0:1", 8);
        record_free(record);
    }
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_keep_their_place),
        cmocka_unit_test(text_becomes_documents),
        cmocka_unit_test(json_lines_become_documents),
        cmocka_unit_test(keys_that_are_no_ids_are_faults),
        cmocka_unit_test(results_come_back),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
