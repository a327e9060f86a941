#include "pipeline/json_put.h"

#include "ops/base/json.h"
#include "pipeline/number_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum status json_put(struct bytes *out, const char *before) {
    return bytes_put(out, before, strlen(before));
}

enum status json_put_int(struct bytes *out, const char *before, int64_t value) {
    TRY(json_put(out, before));
    TRY(bytes_room(out, NUMBER_TEXT_BYTES));
    out->count += number_text_int(value, out->data + out->count);
    return STATUS_OK;
}

enum status json_put_count(struct bytes *out, const char *before, uint64_t value) {
    TRY(json_put(out, before));
    TRY(bytes_room(out, NUMBER_TEXT_BYTES));
    const int digits = snprintf(out->data + out->count, NUMBER_TEXT_BYTES, "%" PRIu64, value);
    out->count += (size_t)digits;
    return STATUS_OK;
}

enum status json_put_double(struct bytes *out, const char *before, double value) {
    TRY(json_put(out, before));
    TRY(bytes_room(out, NUMBER_TEXT_BYTES));
    out->count += number_text_double(value, out->data + out->count);
    return STATUS_OK;
}

enum status json_put_short(struct bytes *out, const char *before, double value) {
    int bytes = 0;
    TRY(json_put(out, before));
    TRY(bytes_room(out, NUMBER_TEXT_BYTES));
    for (int digits = 15; digits <= 17; digits++) {
        bytes = snprintf(out->data + out->count, NUMBER_TEXT_BYTES, "%.*g", digits, value);
        if (strtod(out->data + out->count, NULL) == value) break;
    }
    out->count += (size_t)bytes;
    return STATUS_OK;
}

enum status json_put_string(struct bytes *out, const char *before, const char *string,
                            size_t string_bytes) {
    size_t most = 0;
    if (!size_multiply(string_bytes, 6, &most)) {
        return FAIL(NO_MEMORY, "a string of %zu bytes", string_bytes);
    }
    TRY(json_put(out, before));
    TRY(bytes_room(out, most + 2));
    out->data[out->count++] = '"';
    if (string_bytes > 0) {
        out->count += json_escape(string, string_bytes, out->data + out->count);
    }
    out->data[out->count++] = '"';
    return STATUS_OK;
}
