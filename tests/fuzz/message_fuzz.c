// Any bytes as a message of a topic that `longscan read` looks at: what comes out is one line of JSON,
// or nothing. The first byte says what kind the message claims to be, the second how many of those that
// follow are its key; the rest is its value.

#include "ops/base/check.h"
#include "ops/base/json.h"
#include "pipeline/kafka_consumer.h"
#include "src/message_json.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { SOURCE_TIME = 32, NO_VALUE = 64, NO_KEY = 128 };

typedef enum status print_message(const struct kafka_message *message, struct bytes *out);

static void check_line(print_message *print, const struct kafka_message *message) {
    struct bytes out = {.data = malloc(6), .room = 6, .count = 6};
    struct json json;
    CHECK(out.data != NULL);
    memcpy(out.data, "before", 6);
    const enum status status = print(message, &out);
    CHECK(status == STATUS_OK || status == STATUS_BAD_INPUT);
    CHECK(memcmp(out.data, "before", 6) == 0);
    if (status == STATUS_OK) {
        json_open(&json, out.data + 6, out.count - 6);
        CHECK(json_skip(&json) && json_end(&json));
        CHECK(memchr(out.data, '\n', out.count) == NULL);
    } else {
        CHECK(out.count == 6);
    }
    bytes_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    const size_t left = size - 2, key_bytes = data[1] < left ? data[1] : left;
    const bool no_key = (data[0] & NO_KEY) != 0, no_value = (data[0] & NO_VALUE) != 0;
    const struct kafka_message message = {
        .type = (enum kafka_type)(data[0] % KAFKA_TYPES),
        .time_ms = -1,
        .source_time_ms = data[0] & SOURCE_TIME ? 12345 : -1,
        .key = no_key ? NULL : data + 2,
        .key_bytes = no_key ? 0 : key_bytes,
        .value = no_value ? NULL : data + 2 + key_bytes,
        .value_bytes = no_value ? 0 : left - key_bytes,
    };
    check_line(message_json, &message);
    check_line(message_json_envelope, &message);
    return 0;
}
