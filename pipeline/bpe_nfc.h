#pragma once
// NFC of a text that comes in pieces.

#include "pipeline/bpe_characters.h"
#include "pipeline/bytes.h"

// Characters that may hang together, as a letter and its marks do. NFC sorts the marks, so all of
// them must be there; no language has more than a few.
#define NFC_TOGETHER_MOST 16384

struct nfc {
    const struct characters *characters; // borrowed
    int32_t *code;                       // [NFC_TOGETHER_MOST] of the characters not put out yet
    size_t count;
    int32_t *part, *sorted; // [4 * NFC_TOGETHER_MOST] to work in
};

// Errors: NO_MEMORY.
enum status nfc_open(const struct characters *characters, struct nfc *nfc);
// Whole characters of valid UTF-8; puts what is sure into out. Errors: NO_MEMORY, BAD_INPUT (not
// logged: more than NFC_TOGETHER_MOST hang together).
enum status nfc_put(struct nfc *nfc, const char *text, size_t bytes, struct bytes *out);
enum status nfc_end(struct nfc *nfc, struct bytes *out); // and the rest
void nfc_close(struct nfc *nfc);
