// Any bytes as a record and as a score: what is taken keeps its promises and survives a round trip.

#include "ops/base/json.h"
#include "pipeline/codec.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void check(bool condition) {
    if (!condition) abort();
}

// Attributes are members of a JSON object, or "".
static void check_attributes(const char *members, size_t bytes) {
    char text[ATTRIBUTES_BYTES_MOST + 2];
    struct json json;
    check(bytes <= ATTRIBUTES_BYTES_MOST);
    text[0] = '{';
    memcpy(text + 1, members, bytes);
    text[bytes + 1] = '}';
    json_open(&json, text, bytes + 2);
    check(json_skip(&json) && json_end(&json));
}

static void check_again(const struct record *record) {
    struct codec_bytes packed = {0};
    struct record *again = NULL;
    check(codec_encode_record(record, 4, &packed) == STATUS_OK);
    check(codec_decode_record(packed.data, packed.bytes, record->id, record->id_bytes, &again) ==
          STATUS_OK);
    check(again->kind == RECORD_TOKENS && again->tokens == record->tokens);
    check(again->first == record->first && again->last == record->last);
    check(again->version == record->version && again->id_bytes == record->id_bytes);
    check(memcmp(again->id, record->id, record->id_bytes) == 0);
    check(record->tokens == 0 ||
          memcmp(again->token, record->token, (size_t)record->tokens * 4) == 0);
    check(again->attributes_bytes == record->attributes_bytes);
    record_free(again);
    codec_bytes_free(&packed);
}

static void try_record(const uint8_t *data, size_t size) {
    struct record *record = NULL;
    check(codec_decode_record(data, size, NULL, 0, &record) == STATUS_OK);
    if (record->kind == RECORD_FAULT) {
        check(record->fault[0] != '\0');
    } else {
        check(record->kind == RECORD_TOKENS && record->tokens >= 0);
        check(record->tokens <= RECORD_TOKENS_MOST);
        check(record->first >= 0 && record->first <= INT64_MAX - record->tokens);
        check(record->id_bytes > 0 && record->id_bytes <= ID_BYTES_MOST);
        check(utf8_valid(record->id, record->id_bytes));
        check(memchr(record->id, 0, record->id_bytes) == NULL);
        for (int64_t i = 0; i < record->tokens; i++) {
            check(record->token[i] >= 0);
        }
        check_attributes(record->attributes, record->attributes_bytes);
        check_again(record);
    }
    record_free(record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct codec_score *score = NULL;
    try_record(data, size);
    if (codec_decode_score(data, size, &score) == STATUS_OK) {
        check(score->score.id_bytes > 0 && score->score.id_bytes <= ID_BYTES_MOST);
        check_attributes(score->score.attributes, score->score.attributes_bytes);
        codec_score_free(score);
    }
    return 0;
}
