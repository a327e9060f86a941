#include "pipeline/letter_json.h"

#include "pipeline/json_put.h"

// RFC 4648, with padding.
static enum status put_base64(struct bytes *out, const uint8_t *data, size_t bytes) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    TRY(bytes_room(out, bytes / 3 * 4 + 4));
    for (size_t i = 0; i < bytes; i += 3) {
        const size_t left = bytes - i;
        const uint32_t three = (uint32_t)data[i] << 16 |
                               (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                               (left > 2 ? data[i + 2] : 0);
        char *at = out->data + out->count;
        at[0] = digits[three >> 18];
        at[1] = digits[three >> 12 & 63];
        at[2] = left > 1 ? digits[three >> 6 & 63] : '=';
        at[3] = left > 2 ? digits[three & 63] : '=';
        out->count += 4;
    }
    return STATUS_OK;
}

static enum status put_letter(const struct dead_letter *letter, struct bytes *out) {
    if (letter->id == NULL) {
        TRY(json_put(out, "{\"id\":null"));
    } else {
        TRY(json_put_string(out, "{\"id\":", letter->id, letter->id_bytes));
    }
    TRY(json_put_string(out, ",\"reason\":", letter->reason, strlen(letter->reason)));
    TRY(json_put_string(out, ",\"topic\":", letter->topic, strlen(letter->topic)));
    TRY(json_put_int(out, ",\"partition\":", letter->partition));
    TRY(json_put_int(out, ",\"offset\":", letter->offset));
    TRY(json_put_int(out, ",\"expected_first\":", letter->expected_first));
    TRY(json_put_int(out, ",\"found_first\":", letter->found_first));
    TRY(json_put_int(out, ",\"message_bytes\":", letter->message_bytes));
    if (letter->record_bytes > 0) {
        TRY(json_put(out, ",\"record\":\""));
        TRY(put_base64(out, letter->record, letter->record_bytes));
        TRY(json_put(out, "\""));
    }
    return json_put(out, "}");
}

enum status letter_json(const struct dead_letter *letter, struct bytes *out) {
    const size_t before = out->count;
    const enum status status = put_letter(letter, out);
    if (status != STATUS_OK) out->count = before;
    return status;
}
