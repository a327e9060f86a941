// Any bytes as a dead letter: what is taken lies in its block, survives a round trip, and is one line
// of JSON with the record in it.

#include "ops/base/check.h"
#include "ops/base/json.h"
#include "pipeline/codec.h"
#include "pipeline/letter_json.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void check_again(const struct dead_letter *letter) {
    struct codec_bytes packed = {0};
    struct dead_letter *again = NULL;
    CHECK(codec_encode_dead_letter(letter, &packed) == STATUS_OK);
    CHECK(codec_decode_dead_letter(packed.data, packed.bytes, &again) == STATUS_OK);
    CHECK((again->id == NULL) == (letter->id == NULL) && again->id_bytes == letter->id_bytes);
    CHECK(letter->id == NULL || memcmp(again->id, letter->id, letter->id_bytes) == 0);
    CHECK(strcmp(again->reason, letter->reason) == 0 && strcmp(again->topic, letter->topic) == 0);
    CHECK(again->partition == letter->partition && again->offset == letter->offset);
    CHECK(again->expected_first == letter->expected_first);
    CHECK(again->found_first == letter->found_first);
    CHECK(again->message_bytes == letter->message_bytes);
    CHECK(again->record_bytes == letter->record_bytes);
    CHECK(memcmp(again->record, letter->record, letter->record_bytes) == 0);
    free(again);
    codec_bytes_free(&packed);
}

static int digit_value(char digit) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = digit == '\0' ? NULL : strchr(digits, digit);
    CHECK(found != NULL);
    return (int)(found - digits);
}

static void check_base64(const char *text, size_t bytes, const struct dead_letter *letter) {
    const uint8_t *record = letter->record;
    CHECK(bytes == (letter->record_bytes + 2) / 3 * 4);
    for (size_t i = 0; i < letter->record_bytes; i++) {
        const char *four = text + i / 3 * 4 + i % 3; // the byte lies in two digits from here on
        const int bits = digit_value(four[0]) << 6 | digit_value(four[1]);
        CHECK(record[i] == (bits >> (4 - 2 * (i % 3)) & 0xFF));
    }
}

static void check_json(const struct dead_letter *letter) {
    struct bytes out = {0};
    struct json json;
    const char *key = NULL, *text = NULL;
    size_t key_bytes = 0, text_bytes = 0;
    int members = 0;
    CHECK(letter_json(letter, &out) == STATUS_OK);
    CHECK(memchr(out.data, '\n', out.count) == NULL);
    json_open(&json, out.data, out.count);
    CHECK(json_object(&json));
    for (; json_key(&json, &key, &key_bytes); members++) {
        if (json_is(key, key_bytes, "record")) {
            CHECK(json_string(&json, &text, &text_bytes));
            check_base64(text, text_bytes, letter);
        } else {
            CHECK(json_skip(&json));
        }
    }
    CHECK(json_end(&json) && members == 8 + (letter->record_bytes > 0));
    bytes_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct dead_letter *letter = NULL;
    if (codec_decode_dead_letter(data, size, &letter) != STATUS_OK) return 0;
    CHECK(letter->reason != NULL && letter->topic != NULL && letter->record != NULL);
    CHECK(letter->record_bytes <= size);
    check_again(letter);
    check_json(letter);
    free(letter);
    return 0;
}
