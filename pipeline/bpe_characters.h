#pragma once
// What a tokenizer must know of every character: its kind, and how NFC treats it.

#include "ops/base/status.h"

#include <stddef.h>
#include <stdint.h>

enum character_kind { KIND_OTHER, KIND_LETTER, KIND_NUMBER, KIND_SPACE }; // \p{L}, \p{N}, \s

#define CHARACTER_KIND   0x03 // an enum character_kind
#define CHARACTER_STARTS 0x04 // NFC joins nothing from here on with what stands before
#define CHARACTER_STABLE 0x08 // by itself it is its own NFC, and it starts

#define CHARACTERS 0x110000

struct characters {
    uint8_t of[CHARACTERS];
};

// Errors: NO_MEMORY. Owns: release with free.
enum status characters_make(struct characters **made);

// The character at text, which is valid UTF-8. *bytes: its length.
static inline uint32_t character_at(const char *text, size_t *bytes) {
    const unsigned char *c = (const unsigned char *)text;
    if (c[0] < 0x80) {
        *bytes = 1;
        return c[0];
    }
    if (c[0] < 0xE0) {
        *bytes = 2;
        return (c[0] & 0x1FU) << 6 | (c[1] & 0x3FU);
    }
    if (c[0] < 0xF0) {
        *bytes = 3;
        return (c[0] & 0x0FU) << 12 | (c[1] & 0x3FU) << 6 | (c[2] & 0x3FU);
    }
    *bytes = 4;
    return (c[0] & 0x07U) << 18 | (c[1] & 0x3FU) << 12 | (c[2] & 0x3FU) << 6 | (c[3] & 0x3FU);
}
