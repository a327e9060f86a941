// Records: one block each, the tokens right behind the struct (so that they are aligned), then id,
// attributes and fault.
#include "pipeline/record.h"

#include "ops/base/check.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct record) % _Alignof(int32_t) == 0, "tokens follow the struct");

// Copies bytes to *at and moves *at behind them.
static const char *put(char **at, const char *bytes, size_t count) {
    char *start = *at;
    if (count > 0) memcpy(start, bytes, count);
    *at = start + count;
    return start;
}

// What is copied behind the tokens.
struct texts {
    const char *id, *attributes;
    size_t id_bytes, attributes_bytes;
    const char *fault; // NULL: none
};

static enum status make(enum record_kind kind, int64_t tokens, const struct texts *texts,
                        struct record **made) {
    CHECK(tokens >= 0);
    size_t bytes = 0;
    size_t fault_bytes = texts->fault == NULL ? 0 : strlen(texts->fault) + 1;
    if (__builtin_mul_overflow((uint64_t)tokens, sizeof(int32_t), &bytes) ||
        __builtin_add_overflow(bytes, sizeof(struct record), &bytes) ||
        __builtin_add_overflow(bytes, texts->id_bytes, &bytes) ||
        __builtin_add_overflow(bytes, texts->attributes_bytes, &bytes) ||
        __builtin_add_overflow(bytes, fault_bytes, &bytes)) {
        return FAIL(NO_MEMORY, "a record of %lld tokens", (long long)tokens);
    }
    struct record *record = malloc(bytes);
    if (record == NULL) return FAIL(NO_MEMORY, "a record of %zu bytes", bytes);
    *record = (struct record){.kind = kind, .tokens = tokens, .text_bytes = -1, .time_ms = -1};
    int32_t *token = record_tokens(record);
    char *at = (char *)(token + tokens);
    record->token = token;
    record->id = put(&at, texts->id, texts->id_bytes);
    record->id_bytes = texts->id_bytes;
    record->attributes = put(&at, texts->attributes, texts->attributes_bytes);
    record->attributes_bytes = texts->attributes_bytes;
    record->fault = texts->fault == NULL ? NULL : put(&at, texts->fault, fault_bytes);
    *made = record;
    return STATUS_OK;
}

enum status record_make(enum record_kind kind, const char *id, size_t id_bytes,
                        const char *attributes, size_t attributes_bytes, int64_t tokens,
                        struct record **made) {
    const struct texts texts = {.id = id,
                                .id_bytes = id_bytes,
                                .attributes = attributes,
                                .attributes_bytes = attributes_bytes};
    return make(kind, tokens, &texts, made);
}

enum status record_make_fault(const char *id, size_t id_bytes, const char *fault,
                              struct record **made) {
    const struct texts texts = {.id = id, .id_bytes = id_bytes, .fault = fault};
    TRY(make(RECORD_FAULT, 0, &texts, made));
    (*made)->first = -1;
    return STATUS_OK;
}

int32_t *record_tokens(struct record *record) {
    return (int32_t *)(void *)(record + 1);
}

enum status record_keep(struct record *record, const void *message, size_t bytes) {
    record->message = malloc(bytes + 1);
    if (record->message == NULL) return FAIL(NO_MEMORY, "a message of %zu bytes", bytes);
    if (bytes > 0) memcpy(record->message, message, bytes);
    record->message_bytes = bytes;
    return STATUS_OK;
}

void record_free(struct record *record) {
    if (record != NULL) free(record->message);
    free(record);
}
