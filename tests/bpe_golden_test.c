// Ids as Hugging Face's tokenizers 0.23.2 gives them (tests/tokenizers/make.py), however the text is
// cut, and back again.

#include "tests/bpe_case.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <utf8proc.h>

#define CUTS 5

// As zlib has it.
static uint32_t crc32_of(const int32_t *id, size_t count) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < 4 * count; i++) {
        crc ^= (uint32_t)id[i / 4] >> (8 * (i % 4)) & 0xFF;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320U : 0);
        }
    }
    return ~crc;
}

struct golden {
    char *id, *text;
    size_t text_bytes;
    bool known; // by the tokenizer that is tested
    int64_t count, crc32;
    int32_t first[16]; // [count], if there are so few
    bool few;
};

static char *read_string(struct json *json, size_t *bytes) {
    const char *raw = NULL;
    size_t raw_bytes = 0;
    assert_true(json_string(json, &raw, &raw_bytes));
    char *text = malloc(raw_bytes + 1);
    assert_non_null(text);
    *bytes = json_unescape(raw, raw_bytes, text);
    text[*bytes] = '\0';
    return text;
}

static void read_ids(struct json *json, struct golden *golden) {
    int64_t value = 0;
    const char *key = NULL;
    size_t bytes = 0;
    golden->known = true;
    golden->few = json_peek(json) == JSON_ARRAY;
    golden->count = 0;
    if (golden->few) {
        json_array(json);
        while (json_item(json)) {
            assert_true(golden->count < 16 && json_int(json, &value));
            golden->first[golden->count++] = (int32_t)value;
        }
        return;
    }
    assert_true(json_object(json));
    while (json_key(json, &key, &bytes)) {
        assert_true(json_int(json, json_is(key, bytes, "count") ? &golden->count : &golden->crc32));
    }
}

static struct golden read_golden(char *line, const char *tokenizer) {
    struct golden golden = {0};
    struct json json;
    const char *key = NULL;
    size_t key_bytes = 0, id_bytes = 0;
    json_open(&json, line, strlen(line));
    assert_true(json_object(&json));
    while (json_key(&json, &key, &key_bytes)) {
        if (json_is(key, key_bytes, "id")) {
            golden.id = read_string(&json, &id_bytes);
        } else if (json_is(key, key_bytes, "text")) {
            golden.text = read_string(&json, &golden.text_bytes);
        } else if (json_is(key, key_bytes, tokenizer)) {
            read_ids(&json, &golden);
        } else {
            assert_true(json_skip(&json));
        }
    }
    return golden;
}

static void check_ids(const struct golden *golden, const struct ids *ids, const char *how) {
    bool same = (int64_t)ids->count == golden->count;
    if (same && golden->few) {
        same =
            golden->count == 0 || memcmp(ids->id, golden->first, ids->count * sizeof *ids->id) == 0;
    } else if (same) {
        same = crc32_of(ids->id, ids->count) == (uint32_t)golden->crc32;
    }
    if (!same) {
        fail_msg("%s, %s: %zu ids, not the %lld that Hugging Face gives", golden->id, how,
                 ids->count, (long long)golden->count);
    }
}

// utf8proc does all at once what the tokenizer does bit by bit.
static void check_text(struct tokenizer *tokenizer, const struct golden *golden,
                       const struct ids *ids, bool nfc) {
    size_t bytes = 0;
    char *back = decode_ids(tokenizer, ids, &bytes);
    utf8proc_uint8_t *want = NULL;
    utf8proc_ssize_t want_bytes = (utf8proc_ssize_t)golden->text_bytes;
    if (nfc) {
        want_bytes = utf8proc_map((const utf8proc_uint8_t *)golden->text, want_bytes, &want,
                                  UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        assert_true(want_bytes >= 0);
    }
    assert_int_equal(bytes, want_bytes);
    assert_memory_equal(back, nfc ? (const char *)want : golden->text, bytes);
    free(want);
    free(back);
}

// Added tokens stand between what NFC would join, and come back as they were added.
static bool has_added(const struct golden *golden) {
    for (size_t i = 0; i + 3 <= golden->text_bytes; i++) {
        if (memcmp(golden->text + i, "|>", 2) == 0 || memcmp(golden->text + i, "caf", 3) == 0) {
            return true;
        }
    }
    return false;
}

static void check_golden(struct tokenizer *tokenizer, const struct golden *golden, bool plain) {
    struct ids ids = {0};
    assert_int_equal(encode_text(tokenizer, golden->text, golden->text_bytes, NULL, &ids),
                     STATUS_OK);
    check_ids(golden, &ids, "in one go");
    if (!has_added(golden)) check_text(tokenizer, golden, &ids, !plain);
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        uint64_t cuts = seed;
        assert_int_equal(encode_text(tokenizer, golden->text, golden->text_bytes, &cuts, &ids),
                         STATUS_OK);
        check_ids(golden, &ids, "cut up");
    }
    ids_free(&ids);
}

// plain: it does not normalise.
static void check_all(const char *path, const char *name, bool plain) {
    struct tokenizer *tokenizer = NULL;
    char *line = NULL;
    size_t room = 0;
    int texts = 0;
    FILE *file = fopen(TESTS_FOLDER "/tokenizers/golden.jsonl", "rb");
    assert_non_null(file);
    assert_int_equal(bpe_tokenizer_open(path, TEXT_STRICT, &tokenizer), STATUS_OK);
    while (getline(&line, &room, file) > 0) {
        struct golden golden = read_golden(line, name);
        assert_true(golden.known);
        check_golden(tokenizer, &golden, plain);
        free(golden.id);
        free(golden.text);
        texts++;
    }
    assert_true(texts > 400);
    free(line);
    fclose(file);
    tokenizer->close(tokenizer);
}

static void gpt2_gives_the_same(void **state) {
    (void)state;
    check_all(TESTS_FOLDER "/tokenizers/gpt2", "gpt2", true);
}

static void neox_gives_the_same(void **state) {
    (void)state;
    check_all(TESTS_FOLDER "/tokenizers/neox", "neox", false);
}

static void a_pattern_gives_the_same(void **state) {
    (void)state;
    check_all(TESTS_FOLDER "/tokenizers/llama", "llama", true);
}

static void gpt_neox_20b_gives_the_same(void **state) {
    char path[4096];
    const char *shared = getenv("LONGSCAN_SHARED");
    (void)state;
    snprintf(path, sizeof path, "%s/data/gpt-neox-20b/tokenizer.json",
             shared == NULL ? TESTS_FOLDER "/../../shared" : shared);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        printf("skipped 'gpt-neox-20b: no %s'\n", path);
        skip();
    }
    fclose(file);
    check_all(path, "gpt-neox-20b", false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_gives_the_same),
        cmocka_unit_test(neox_gives_the_same),
        cmocka_unit_test(a_pattern_gives_the_same),
        cmocka_unit_test(gpt_neox_20b_gives_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
