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

static enum status make(enum record_kind kind, const char *id, size_t id_bytes,
                        const char *attributes, size_t attributes_bytes, int64_t tokens,
                        const char *fault, struct record **made) {
    CHECK(tokens >= 0);
    size_t bytes = 0;
    size_t fault_bytes = fault == NULL ? 0 : strlen(fault) + 1;
    if (__builtin_mul_overflow((uint64_t)tokens, sizeof(int32_t), &bytes) ||
        __builtin_add_overflow(bytes, sizeof(struct record), &bytes) ||
        __builtin_add_overflow(bytes, id_bytes, &bytes) ||
        __builtin_add_overflow(bytes, attributes_bytes, &bytes) ||
        __builtin_add_overflow(bytes, fault_bytes, &bytes)) {
        return FAIL(NO_MEMORY, "a record of %lld tokens", (long long)tokens);
    }
    struct record *record = malloc(bytes);
    if (record == NULL) return FAIL(NO_MEMORY, "a record of %zu bytes", bytes);
    *record = (struct record){.kind = kind, .tokens = tokens, .text_bytes = -1};
    int32_t *token = record_tokens(record);
    char *at = (char *)(token + tokens);
    record->token = token;
    record->id = put(&at, id, id_bytes);
    record->id_bytes = id_bytes;
    record->attributes = put(&at, attributes, attributes_bytes);
    record->attributes_bytes = attributes_bytes;
    record->fault = fault == NULL ? NULL : put(&at, fault, fault_bytes);
    *made = record;
    return STATUS_OK;
}

enum status record_make(enum record_kind kind, const char *id, size_t id_bytes,
                        const char *attributes, size_t attributes_bytes, int64_t tokens,
                        struct record **made) {
    return make(kind, id, id_bytes, attributes, attributes_bytes, tokens, NULL, made);
}

enum status record_make_fault(const char *id, size_t id_bytes, const char *fault,
                              struct record **made) {
    return make(RECORD_FAULT, id, id_bytes, NULL, 0, 0, fault, made);
}

int32_t *record_tokens(struct record *record) {
    return (int32_t *)(void *)(record + 1);
}

void record_free(struct record *record) {
    free(record);
}
