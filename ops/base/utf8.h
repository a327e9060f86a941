#pragma once
// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.

#include "ops/base/linkage.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

C_BEGIN

// The bytes of the sequence that begins at text, 1 to 4; 0: there is no valid one. bytes > 0.
static inline size_t utf8_sequence(const char *text, size_t bytes) {
    const unsigned char *c = (const unsigned char *)text;
    if (c[0] < 0x80) return 1;
    if (c[0] < 0xC2 || c[0] > 0xF4) return 0;
    const size_t count = c[0] < 0xE0 ? 2 : c[0] < 0xF0 ? 3 : 4;
    if (bytes < count) return 0;
    // What the second byte may be depends on the first; the others are plain continuations.
    const unsigned char least = c[0] == 0xE0 ? 0xA0 : c[0] == 0xF0 ? 0x90 : 0x80;
    const unsigned char most = c[0] == 0xED ? 0x9F : c[0] == 0xF4 ? 0x8F : 0xBF;
    if (c[1] < least || c[1] > most) return 0;
    for (size_t i = 2; i < count; i++) {
        if ((c[i] & 0xC0) != 0x80) return 0;
    }
    return count;
}

// Writes code, a Unicode scalar value, as UTF-8 and returns its bytes; out needs 4.
static inline size_t utf8_write(uint32_t code, char *out) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const size_t count = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    const uint32_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = count - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (char)(lead[count] | code);
    return count;
}

// Bytes at text that are all below limit, which is at least 0x80; ASCII eight at a time.
static inline size_t bytes_below(const char *text, size_t bytes, unsigned char limit) {
    size_t at = 0;
    for (; at + 8 <= bytes; at += 8) {
        uint64_t word;
        memcpy(&word, text + at, sizeof word);
        if ((word & UINT64_C(0x8080808080808080)) != 0) break;
    }
    while (at < bytes && (unsigned char)text[at] < limit) {
        at++;
    }
    return at;
}

C_END
