// What stands between a JSON string's quotes, and the bytes it means.

#include "ops/base/json.h"
#include "ops/base/utf8.h"

#include <string.h>

static uint32_t hex4(const char *text) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        const uint32_t c = (unsigned char)text[i];
        value = value * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

// The escape at raw (well formed: the reader has checked it) as UTF-8; *used: its bytes in raw.
static size_t undo_escape(const char *raw, size_t raw_bytes, char *out, size_t *used) {
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    *used = 2;
    if (raw[1] != 'u') {
        const char *at = strchr(from, raw[1]);
        out[0] = at != NULL ? to[at - from] : raw[1];
        return 1;
    }
    *used = 6;
    uint32_t code = hex4(raw + 2);
    if (code >= 0xD800 && code <= 0xDFFF) {
        const bool pair = code < 0xDC00 && raw_bytes >= 12 && raw[6] == '\\' && raw[7] == 'u';
        const uint32_t low = pair ? hex4(raw + 8) : 0;
        if (low >= 0xDC00 && low <= 0xDFFF) {
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
            *used = 12;
        } else {
            code = 0xFFFD;
        }
    }
    return utf8_write(code, out);
}

size_t json_unescape(const char *raw, size_t raw_bytes, char *out) {
    size_t at = 0, written = 0;
    while (at < raw_bytes) {
        const char *slash = memchr(raw + at, '\\', raw_bytes - at);
        const size_t plain = slash == NULL ? raw_bytes - at : (size_t)(slash - raw) - at;
        memmove(out + written, raw + at, plain);
        written += plain;
        at += plain;
        if (at == raw_bytes) break;
        size_t used;
        written += undo_escape(raw + at, raw_bytes - at, out + written, &used);
        at += used;
    }
    return written;
}

bool json_is(const char *key, size_t bytes, const char *name) {
    const size_t name_bytes = strlen(name);
    if (memchr(key, '\\', bytes) == NULL) {
        return bytes == name_bytes && memcmp(key, name, bytes) == 0;
    }
    size_t at = 0, same = 0;
    while (at < bytes) {
        char text[4] = {key[at]};
        size_t used = 1;
        const size_t count =
            key[at] == '\\' ? undo_escape(key + at, bytes - at, text, &used) : used;
        if (name_bytes - same < count || memcmp(name + same, text, count) != 0) return false;
        same += count;
        at += used;
    }
    return same == name_bytes;
}

size_t json_escape(const char *bytes, size_t count, char *out) {
    static const char from[] = "\b\f\n\r\t\"\\", to[] = "bfnrt\"\\";
    size_t written = 0;
    for (size_t at = 0; at < count;) {
        const size_t sequence = utf8_sequence(bytes + at, count - at);
        const unsigned char c = (unsigned char)bytes[at];
        const char *escape = c == 0 ? NULL : strchr(from, c);
        if (sequence == 0) {
            written += utf8_write(0xFFFD, out + written);
        } else if (escape != NULL) {
            out[written++] = '\\';
            out[written++] = to[escape - from];
        } else if (c < 0x20) {
            static const char hex[] = "0123456789abcdef";
            memcpy(out + written, "\\u00", 4);
            out[written + 4] = hex[c >> 4];
            out[written + 5] = hex[c & 15];
            written += 6;
        } else {
            memcpy(out + written, bytes + at, sequence);
            written += sequence;
        }
        at += sequence == 0 ? 1 : sequence;
    }
    return written;
}

bool utf8_valid(const char *bytes, size_t count) {
    size_t at = 0;
    while (at < count) {
        at += bytes_below(bytes + at, count - at, 0x80);
        if (at == count) break;
        const size_t sequence = utf8_sequence(bytes + at, count - at);
        if (sequence == 0) return false;
        at += sequence;
    }
    return true;
}
