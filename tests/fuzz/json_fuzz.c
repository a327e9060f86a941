// Any bytes as JSON: walking value by value and skipping in one go must agree on good and bad,
// and what is taken must survive unescaping and escaping.

#include "ops/base/json.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void check(bool condition) {
    if (!condition) abort();
}

static bool walk(struct json *json);

static bool walk_string(const char *raw, size_t raw_bytes) {
    char *bytes = malloc(raw_bytes + 1), *again = malloc(6 * raw_bytes + 1);
    char *back = malloc(6 * raw_bytes + 1);
    if (bytes == NULL || again == NULL || back == NULL) abort();
    const size_t count = json_unescape(raw, raw_bytes, bytes);
    check(count <= raw_bytes && utf8_valid(bytes, count));
    const size_t escaped = json_escape(bytes, count, again);
    check(escaped <= 6 * count);
    check(json_unescape(again, escaped, back) == count && memcmp(back, bytes, count) == 0);
    json_is(raw, raw_bytes, "key");
    free(bytes);
    free(again);
    free(back);
    return true;
}

static bool walk_number(struct json *json) {
    struct json copy = *json;
    int64_t whole;
    double value = 0;
    if (json_int(&copy, &whole)) {
        check(json_number(json, &value) && json->at == copy.at);
        check((double)whole == value);
        return true;
    }
    return json_number(json, &value);
}

static bool walk(struct json *json) {
    const char *text;
    size_t bytes;
    bool truth;
    switch (json_peek(json)) {
    case JSON_NULL: return json_null(json);
    case JSON_BOOL: return json_bool(json, &truth);
    case JSON_NUMBER: return walk_number(json);
    case JSON_STRING: return json_string(json, &text, &bytes) && walk_string(text, bytes);
    case JSON_ARRAY:
        json_array(json);
        while (json_item(json)) {
            walk(json);
        }
        return json->wrong == NULL;
    case JSON_OBJECT:
        json_object(json);
        while (json_key(json, &text, &bytes)) {
            walk_string(text, bytes);
            walk(json);
        }
        return json->wrong == NULL;
    case JSON_BAD: break;
    }
    return json_skip(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct json walked, skipped;
    json_open(&walked, (const char *)data, size);
    json_open(&skipped, (const char *)data, size);
    skipped.infinities = true;
    const bool good = walk(&walked) && json_end(&walked);
    const bool same = json_skip(&skipped) && json_end(&skipped);
    // Skipping does not convert, so it may take a number too large to be a double.
    check(!good || same);
    check(same || !good);
    check(walked.at <= size && skipped.at <= size && skipped.wrong_at <= size);
    return 0;
}
