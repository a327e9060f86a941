#include "pipeline/utf8_check.h"

#include "ops/base/utf8.h"

#define REPLACEMENT "\xEF\xBF\xBD"

// Bytes at text that belong together: a character's, or what can begin none and is replaced as one.
// *good: a character's. 0: it may become a character with what follows.
static size_t look(const unsigned char *text, size_t bytes, bool *good) {
    const size_t whole = utf8_sequence((const char *)text, bytes);
    *good = whole > 0;
    if (whole > 0) return whole;
    const unsigned char c = text[0];
    if (c < 0xC2 || c > 0xF4) return 1;
    const size_t count = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    const unsigned char least = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    const unsigned char most = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (bytes > 1 && (text[1] < least || text[1] > most)) return 1;
    for (size_t i = 2; i < bytes && i < count; i++) {
        if ((text[i] & 0xC0) != 0x80) return i;
    }
    return 0; // bytes < count, for otherwise it were whole
}

// Completes what is held, a byte at a time. *used: bytes of text that it took.
static enum status put_held(struct utf8_check *check, const char *text, size_t bytes, bool ends,
                            struct bytes *out, size_t *used, bool *good) {
    *used = 0;
    while (check->held_bytes > 0) {
        const size_t take = look(check->held, check->held_bytes, good);
        if (take == 0 && *used < bytes) {
            check->held[check->held_bytes++] = (unsigned char)text[(*used)++];
            continue;
        }
        if (take == 0 && !ends) {
            *good = true;
            return STATUS_OK;
        }
        const size_t gone = take == 0 ? check->held_bytes : take;
        if (!*good && check->errors == TEXT_STRICT) return STATUS_OK;
        TRY(*good ? bytes_put(out, (const char *)check->held, gone)
                  : bytes_put(out, REPLACEMENT, 3));
        check->offset += (int64_t)gone;
        check->held_bytes -= gone;
        memmove(check->held, check->held + gone, check->held_bytes);
    }
    *good = true;
    return STATUS_OK;
}

enum status utf8_check_put(struct utf8_check *check, const char *text, size_t bytes, bool ends,
                           struct bytes *out, bool *good) {
    size_t at = 0;
    TRY(put_held(check, text, bytes, ends, out, &at, good));
    while (*good && at < bytes) {
        const size_t begin = at;
        size_t take = 0;
        while (at < bytes) {
            at += bytes_below(text + at, bytes - at, 0x80);
            if (at == bytes) break;
            take = look((const unsigned char *)text + at, bytes - at, good);
            if (!*good) break;
            at += take;
        }
        TRY(bytes_put(out, text + begin, at - begin));
        check->offset += (int64_t)(at - begin);
        if (at == bytes) break;
        if (take > 0 || ends) { // never a character
            if (check->errors == TEXT_STRICT) return STATUS_OK;
            const size_t gone = take > 0 ? take : bytes - at;
            TRY(bytes_put(out, REPLACEMENT, 3));
            check->offset += (int64_t)gone;
            at += gone;
        } else {
            check->held_bytes = bytes - at;
            memcpy(check->held, text + at, check->held_bytes);
            at = bytes;
        }
        *good = true;
    }
    return STATUS_OK;
}
