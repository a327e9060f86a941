#pragma once
// What the tests of the file source share: a folder, a source on it, and what comes next.

#include "ops/base/clock.h"
#include "pipeline/file_source.h"
#include "tests/temp_folder.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

struct fixture {
    struct temp_folder folder;
    struct inputs inputs;
    struct tokenizer *tokenizer;
    struct file_source_settings settings;
    struct source *source;
};

static inline int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    temp_folder_make(&f->folder);
    assert_int_equal(byte_tokenizer_open(&f->tokenizer), STATUS_OK);
    f->settings.shard.tokenizer = f->tokenizer;
    f->settings.shard.max_line = 1 << 20;
    *state = f;
    return 0;
}

static inline void close_source(struct fixture *f) {
    if (f->source != NULL) assert_int_equal(f->source->table->close(f->source), STATUS_OK);
    f->source = NULL;
    inputs_free(&f->inputs);
}

static inline int tear_down(void **state) {
    struct fixture *f = *state;
    close_source(f);
    f->tokenizer->close(f->tokenizer);
    temp_folder_remove(&f->folder);
    free(f);
    return 0;
}

static inline void open_source(struct fixture *f, const char *input) {
    close_source(f);
    assert_int_equal(inputs_expand(input, &f->inputs), STATUS_OK);
    assert_int_equal(file_source_open(&f->inputs, &f->settings, &f->source), STATUS_OK);
}

static inline struct record *next(struct fixture *f) {
    struct record *record = NULL;
    assert_int_equal(f->source->table->next(f->source, 10000, &record), STATUS_OK);
    assert_non_null(record);
    return record;
}

static inline void expect_end(struct fixture *f) {
    struct record *record = NULL;
    assert_int_equal(f->source->table->next(f->source, 10000, &record), STATUS_END);
    assert_int_equal(f->source->table->next(f->source, 0, &record), STATUS_END);
}

static inline void expect_partition_end(struct fixture *f, int32_t partition) {
    struct record *record = next(f);
    assert_int_equal(record->kind, RECORD_PARTITION_END);
    assert_int_equal(record->partition, partition);
    record_free(record);
}

static inline bool is_text(const char *bytes, size_t count, const char *text) {
    return count == strlen(text) && memcmp(bytes, text, count) == 0;
}

// A document of one record whose tokens are these bytes.
static inline void expect_document(struct fixture *f, int64_t offset, const char *id,
                                   const char *text) {
    struct record *record = next(f);
    if (record->kind == RECORD_FAULT) fail_msg("%s", record->fault);
    assert_int_equal(record->kind, RECORD_TOKENS);
    assert_true(is_text(record->id, record->id_bytes, id));
    assert_int_equal(record->offset, offset);
    assert_int_equal(record->serial, offset + 1);
    assert_int_equal(record->first, 0);
    assert_int_equal(record->tokens, strlen(text));
    assert_int_equal(record->text_bytes, strlen(text));
    for (int64_t i = 0; i < record->tokens; i++) {
        assert_int_equal(record->token[i], (unsigned char)text[i]);
    }
    assert_true(record->last);
    record_free(record);
}

static inline void expect_fault(struct fixture *f, int64_t offset, const char *first,
                                const char *second) {
    struct record *record = next(f);
    assert_int_equal(record->kind, RECORD_FAULT);
    if (strstr(record->fault, first) == NULL || strstr(record->fault, second) == NULL) {
        fail_msg("\"%s\" does not say \"%s\" and \"%s\"", record->fault, first, second);
    }
    assert_int_equal(record->offset, offset);
    assert_true(record->serial != 0);
    record_free(record);
}

// A file that cannot be used, or not to its end.
static inline void expect_lost(struct fixture *f, const char *first, const char *second) {
    struct record *record = next(f);
    assert_int_equal(record->kind, RECORD_FAULT);
    if (strstr(record->fault, first) == NULL || strstr(record->fault, second) == NULL) {
        fail_msg("\"%s\" does not say \"%s\" and \"%s\"", record->fault, first, second);
    }
    assert_true(record->last);
    assert_true(record->serial != 0);
    assert_true(f->inputs.input[record->partition].unreadable);
    record_free(record);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
