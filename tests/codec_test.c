// The codec: records and results survive a round trip; hostile messages become faults that say why.

#include "pipeline/codec.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdlib.h>
#include <string.h>

// A message as other programs would write it, field by field.
struct wire {
    uint8_t data[512 * 1024];
    size_t bytes;
};

static void put_varint(struct wire *wire, uint64_t value) {
    while (value >= 0x80) {
        wire->data[wire->bytes++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    wire->data[wire->bytes++] = (uint8_t)value;
}

static void put_number(struct wire *wire, uint32_t field, uint64_t value) {
    put_varint(wire, field << 3);
    put_varint(wire, value);
}

static void put_block(struct wire *wire, uint32_t field, const void *data, size_t bytes) {
    put_varint(wire, field << 3 | 2);
    put_varint(wire, bytes);
    memcpy(wire->data + wire->bytes, data, bytes);
    wire->bytes += bytes;
}

static void put_attribute(struct wire *wire, const char *key, const char *value) {
    static struct wire entry; // too large for the stack
    entry.bytes = 0;
    put_block(&entry, 1, key, strlen(key));
    put_block(&entry, 2, value, strlen(value));
    put_block(wire, 7, entry.data, entry.bytes);
}

// Decode, expect a fault whose words hold `why`.
static void expect_fault(const struct wire *wire, const char *key, const char *why) {
    struct record *record = NULL;
    assert_int_equal(
        codec_decode_record(wire->data, wire->bytes, key, key ? strlen(key) : 0, &record),
        STATUS_OK);
    assert_int_equal(record->kind, RECORD_FAULT);
    if (strstr(record->fault, why) == NULL) fail_msg("\"%s\" lacks \"%s\"", record->fault, why);
    record_free(record);
}

static struct record *make_record(const char *id, const char *attributes, int64_t tokens,
                                  int32_t most) {
    struct record *record = NULL;
    assert_int_equal(
        record_make(RECORD_TOKENS, id, strlen(id), attributes, strlen(attributes), tokens, &record),
        STATUS_OK);
    for (int64_t i = 0; i < tokens; i++) {
        record_tokens(record)[i] = (int32_t)((i * 7919 + 13) % ((int64_t)most + 1));
    }
    return record;
}

static void expect_equal(const struct record *a, const struct record *b) {
    assert_int_equal(b->kind, RECORD_TOKENS);
    assert_int_equal(a->id_bytes, b->id_bytes);
    assert_memory_equal(a->id, b->id, a->id_bytes);
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->first, b->first);
    assert_int_equal(a->last, b->last);
    assert_int_equal(a->tokens, b->tokens);
    assert_int_equal(b->text_bytes, -1);
    if (a->tokens > 0) {
        assert_memory_equal(a->token, b->token, (size_t)a->tokens * sizeof(int32_t));
    }
    assert_int_equal(a->attributes_bytes, b->attributes_bytes);
    assert_memory_equal(a->attributes, b->attributes, a->attributes_bytes);
}

static void records_survive(void **state) {
    static const struct {
        int64_t tokens;
        int32_t width, most;
    } cases[] = {
        {0,                  2, 1        },
        {1,                  2, 65535    },
        {1,                  4, INT32_MAX},
        {255,                2, 255      },
        {100000,             4, INT32_MAX},
        {RECORD_TOKENS_MOST, 2, 65535    }
    };
    struct codec_bytes bytes = {0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct record *record =
            make_record("d\xC3\xB6\xE2\x82\xAC#1", "\"a\":\"x\\\"y\",\"b\":\"\"", cases[i].tokens,
                        cases[i].most);
        struct record *back = NULL;
        record->version = UINT64_MAX;
        record->first = INT64_MAX - cases[i].tokens;
        record->last = i % 2 == 0;
        assert_int_equal(codec_encode_record(record, cases[i].width, &bytes), STATUS_OK);
        assert_int_equal(
            codec_decode_record(bytes.data, bytes.bytes, record->id, record->id_bytes, &back),
            STATUS_OK);
        expect_equal(record, back);
        record_free(record);
        record_free(back);
    }
    codec_bytes_free(&bytes);
}

static void tokens_that_do_not_fit_are_refused(void **state) {
    struct codec_bytes bytes = {0};
    struct record *record = make_record("a", "", 3, 1);
    (void)state;
    record_tokens(record)[1] = 65536;
    assert_int_equal(codec_encode_record(record, 2, &bytes), STATUS_BAD_INPUT);
    assert_int_equal(codec_encode_record(record, 4, &bytes), STATUS_OK);
    record_tokens(record)[1] = -1;
    assert_int_equal(codec_encode_record(record, 2, &bytes), STATUS_BAD_INPUT);
    assert_int_equal(codec_encode_record(record, 4, &bytes), STATUS_BAD_INPUT);
    record_free(record);
    codec_bytes_free(&bytes);
}

// JSON members of other types travel as their text; the last of equal keys counts.
static void attributes_become_strings(void **state) {
    struct codec_bytes bytes = {0};
    struct record *record = make_record("a", "\"n\":[1, 2],\"s\":\"\\u00e9\\n\",\"n\":null", 0, 1);
    struct record *back = NULL;
    static const char expected[] = "\"s\":\"\xC3\xA9\\n\",\"n\":\"null\"";
    (void)state;
    assert_int_equal(codec_encode_record(record, 2, &bytes), STATUS_OK);
    assert_int_equal(codec_decode_record(bytes.data, bytes.bytes, NULL, 0, &back), STATUS_OK);
    assert_int_equal(back->attributes_bytes, sizeof expected - 1);
    assert_memory_equal(back->attributes, expected, sizeof expected - 1);
    record_free(back);
    record_free(record);
    record = make_record("a", "\"n\":}", 0, 1);
    assert_int_equal(codec_encode_record(record, 2, &bytes), STATUS_BAD_INPUT);
    record_free(record);
    codec_bytes_free(&bytes);
}

static void faulty_ids_say_why(void **state) {
    static struct wire wire;
    char longest[ID_BYTES_MOST + 1];
    (void)state;
    memset(longest, 'x', sizeof longest);
    wire.bytes = 0;
    expect_fault(&wire, NULL, "empty");
    put_number(&wire, 3, 0);
    expect_fault(&wire, NULL, "no id");
    put_block(&wire, 1, "a\0b", 3);
    expect_fault(&wire, NULL, "NUL");
    put_block(&wire, 1, "\xFF", 1);
    expect_fault(&wire, NULL, "UTF-8");
    put_block(&wire, 1, longest, sizeof longest);
    expect_fault(&wire, NULL, "1025 bytes");
    put_block(&wire, 1, "a", 1);
    expect_fault(&wire, "b", "Kafka key");
    expect_fault(&wire, "", "Kafka key");
    struct record *record = NULL;
    assert_int_equal(codec_decode_record(wire.data, wire.bytes, "a", 1, &record), STATUS_OK);
    assert_int_equal(record->kind, RECORD_TOKENS); // no tokens, no width: legal
    record_free(record);
}

static void faulty_tokens_say_why(void **state) {
    static struct wire wire;
    static const uint8_t large[4] = {0, 0, 0, 0x80};
    (void)state;
    wire.bytes = 0;
    put_block(&wire, 1, "a", 1);
    put_number(&wire, 4, 3);
    expect_fault(&wire, "a", "width is 3");
    put_block(&wire, 5, large, 4);
    put_number(&wire, 4, 0);
    expect_fault(&wire, "a", "width is 0");
    put_number(&wire, 4, 4);
    expect_fault(&wire, "a", "2^31");
    put_block(&wire, 5, large, 3);
    expect_fault(&wire, "a", "no multiple");
    put_number(&wire, 4, 2);
    put_block(&wire, 5, large, 2);
    put_number(&wire, 3, (uint64_t)INT64_MAX);
    expect_fault(&wire, "a", "first position");
    put_number(&wire, 3, UINT64_MAX);
    expect_fault(&wire, "a", "first position is -1");
}

// A fault whose id is known names it, so that the document can be given up.
static void faults_name_their_document(void **state) {
    static struct wire wire;
    struct record *record = NULL;
    (void)state;
    wire.bytes = 0;
    put_block(&wire, 1, "abc", 3);
    put_number(&wire, 4, 9);
    assert_int_equal(codec_decode_record(wire.data, wire.bytes, "abc", 3, &record), STATUS_OK);
    assert_int_equal(record->kind, RECORD_FAULT);
    assert_int_equal(record->id_bytes, 3);
    assert_memory_equal(record->id, "abc", 3);
    record_free(record);
    assert_int_equal(codec_decode_record(wire.data, wire.bytes, "abx", 3, &record), STATUS_OK);
    assert_int_equal(record->id_bytes, 0); // whose it is cannot be known
    record_free(record);
}

static void attributes_are_bounded(void **state) {
    static struct wire wire;
    static char value[ATTRIBUTES_BYTES_MOST + 1];
    struct record *record = NULL;
    (void)state;
    wire.bytes = 0;
    put_block(&wire, 1, "a", 1);
    memset(value, 'v', ATTRIBUTES_BYTES_MOST - 6); // "k":"..." is 4096 bytes
    put_attribute(&wire, "k", value);
    assert_int_equal(codec_decode_record(wire.data, wire.bytes, NULL, 0, &record), STATUS_OK);
    assert_int_equal(record->kind, RECORD_TOKENS);
    assert_int_equal(record->attributes_bytes, ATTRIBUTES_BYTES_MOST);
    record_free(record);
    put_attribute(&wire, "", "");
    expect_fault(&wire, NULL, "4 KiB");
    wire.bytes = 0;
    put_block(&wire, 1, "a", 1);
    memset(value, '\n', 2100); // two bytes each once escaped
    value[2100] = '\0';
    put_attribute(&wire, "k", value);
    expect_fault(&wire, NULL, "4 KiB");
    wire.bytes = 0; // as U+FFFD the two keys would be one
    put_block(&wire, 1, "a", 1);
    put_attribute(&wire, "\xFE", "1");
    put_attribute(&wire, "\xCE", "2");
    expect_fault(&wire, NULL, "not UTF-8");
}

// Small messages that ask for much memory, and messages of other kinds.
static void strange_messages_are_faults(void **state) {
    static struct wire wire;
    (void)state;
    wire.bytes = 0;
    put_block(&wire, 1, "a", 1);
    while (wire.bytes < sizeof wire.data - 2) {
        put_block(&wire, 7, "", 0);
    }
    expect_fault(&wire, NULL, "far more memory");
    wire.bytes = 0;
    memcpy(wire.data, "{\"id\":\"a\"}", 10);
    wire.bytes = 10;
    expect_fault(&wire, NULL, "--input-format jsonl");
    memcpy(wire.data, "\0\0\0\0\1\0", 6);
    wire.bytes = 6;
    expect_fault(&wire, NULL, "schema registry");
    wire.bytes = CODEC_MESSAGE_MOST + 1; // refused before it is looked at
    expect_fault(&wire, NULL, "more than");
}

// Every prefix, and every byte changed, decodes to a record or a fault, never to an error.
static void damage_never_escapes(void **state) {
    struct codec_bytes bytes = {0};
    struct record *record = make_record("document", "\"source\":\"a\"", 20, 65535);
    (void)state;
    assert_int_equal(codec_encode_record(record, 2, &bytes), STATUS_OK);
    record_free(record);
    for (size_t i = 0; i < bytes.bytes; i++) {
        assert_int_equal(codec_decode_record(bytes.data, i, NULL, 0, &record), STATUS_OK);
        record_free(record);
        for (int bit = 0; bit < 8; bit++) {
            bytes.data[i] ^= (uint8_t)(1 << bit);
            assert_int_equal(codec_decode_record(bytes.data, bytes.bytes, NULL, 0, &record),
                             STATUS_OK);
            record_free(record);
            bytes.data[i] ^= (uint8_t)(1 << bit);
        }
    }
    codec_bytes_free(&bytes);
}

static void scores_survive(void **state) {
    static const struct window_score windows[] = {
        {0,    4095, 1.5 },
        {4096, 4,    0.25}
    };
    static const float nll[] = {0.0F, 1.0F / 3, 1e30F};
    static const struct result_ids ids = {1, UINT64_MAX, 0x0123456789ABCDEFU};
    const struct document_score score = {.id = "a",
                                         .id_bytes = 1,
                                         .version = 3,
                                         .tokens = INT64_C(50000000000),
                                         .scored = 4,
                                         .nll = 0.1,
                                         .text_bytes = 0,
                                         .attributes = "\"k\":\"v\"",
                                         .attributes_bytes = 7,
                                         .windows = windows,
                                         .window_count = 2,
                                         .token_nll_first = 1,
                                         .token_nll = nll,
                                         .token_nll_count = 3,
                                         .truncated = true};
    struct codec_bytes bytes = {0};
    struct codec_score *back = NULL;
    (void)state;
    assert_int_equal(codec_encode_score(&score, &ids, &bytes), STATUS_OK);
    assert_int_equal(codec_decode_score(bytes.data, bytes.bytes, &back), STATUS_OK);
    assert_memory_equal(&back->ids, &ids, sizeof ids);
    assert_false(back->piece);
    assert_int_equal(back->score.version, 3);
    assert_int_equal(back->score.tokens, score.tokens);
    assert_true(back->score.nll == score.nll && back->score.truncated);
    assert_int_equal(back->score.text_bytes, 0); // known to be 0 is not unknown
    assert_int_equal(back->score.attributes_bytes, 7);
    assert_memory_equal(back->score.attributes, "\"k\":\"v\"", 7);
    assert_int_equal(back->score.window_count, 2);
    assert_memory_equal(back->score.windows, windows, sizeof windows);
    assert_int_equal(back->score.token_nll_first, 1);
    assert_int_equal(back->score.token_nll_count, 3);
    assert_memory_equal(back->score.token_nll, nll, sizeof nll);
    codec_score_free(back);
    codec_bytes_free(&bytes);
}

static void pieces_and_bare_scores_survive(void **state) {
    static const float nll[] = {2.0F};
    static const struct result_ids ids = {1, 2, 3};
    const struct document_piece piece = {
        .id = "a", .id_bytes = 1, .token_nll_first = 65537, .token_nll = nll, .token_nll_count = 1};
    const struct document_score bare = {.id = "b", .id_bytes = 1, .text_bytes = -1};
    struct codec_bytes bytes = {0};
    struct codec_score *back = NULL;
    (void)state;
    assert_int_equal(codec_encode_piece(&piece, &bytes), STATUS_OK);
    assert_int_equal(codec_decode_score(bytes.data, bytes.bytes, &back), STATUS_OK);
    assert_true(back->piece);
    assert_int_equal(back->score.token_nll_first, 65537);
    codec_score_free(back);
    assert_int_equal(codec_encode_score(&bare, &ids, &bytes), STATUS_OK);
    assert_int_equal(codec_decode_score(bytes.data, bytes.bytes, &back), STATUS_OK);
    assert_int_equal(back->score.text_bytes, -1);
    assert_null(back->score.windows);
    assert_null(back->score.token_nll);
    codec_score_free(back);
    assert_int_equal(codec_decode_score("\x0A", 1, &back), STATUS_BAD_INPUT);
    codec_bytes_free(&bytes);
}

static void dead_letters_survive(void **state) {
    struct dead_letter letter = {NULL, 0, "gap", "in", 2, INT64_C(1) << 40, 7, 9, "\0\1", 2, 3};
    struct codec_bytes bytes = {0};
    struct dead_letter *back = NULL;
    (void)state;
    for (int known = 0; known < 2; known++) {
        letter.id = known ? "x" : NULL;
        letter.id_bytes = (size_t)known;
        assert_int_equal(codec_encode_dead_letter(&letter, &bytes), STATUS_OK);
        assert_int_equal(codec_decode_dead_letter(bytes.data, bytes.bytes, &back), STATUS_OK);
        assert_int_equal(back->id != NULL, known);
        assert_string_equal(back->reason, "gap");
        assert_string_equal(back->topic, "in");
        assert_int_equal(back->offset, letter.offset);
        assert_int_equal(back->expected_first, 7);
        assert_int_equal(back->found_first, 9);
        assert_int_equal(back->record_bytes, 2);
        assert_int_equal(back->message_bytes, 3);
        assert_memory_equal(back->record, "\0\1", 2);
        free(back);
    }
    codec_bytes_free(&bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_survive),
        cmocka_unit_test(tokens_that_do_not_fit_are_refused),
        cmocka_unit_test(attributes_become_strings),
        cmocka_unit_test(faulty_ids_say_why),
        cmocka_unit_test(faulty_tokens_say_why),
        cmocka_unit_test(faults_name_their_document),
        cmocka_unit_test(attributes_are_bounded),
        cmocka_unit_test(strange_messages_are_faults),
        cmocka_unit_test(damage_never_escapes),
        cmocka_unit_test(scores_survive),
        cmocka_unit_test(pieces_and_bare_scores_survive),
        cmocka_unit_test(dead_letters_survive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
