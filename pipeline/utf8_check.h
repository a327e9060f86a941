#pragma once
// Bytes as they come, checked and made whole characters of UTF-8.

#include "pipeline/bytes.h"
#include "pipeline/tokenizer.h"

// For a document: zero but for errors.
struct utf8_check {
    enum text_errors errors;
    unsigned char held[4]; // the beginning of a character whose rest has not come
    size_t held_bytes;
    int64_t offset; // bytes of the document so far
};

// Puts whole characters into out. ends: nothing follows. false: the byte at offset is wrong, and
// errors does not say to replace it. Errors: NO_MEMORY.
enum status utf8_check_put(struct utf8_check *check, const char *text, size_t bytes, bool ends,
                           struct bytes *out, bool *good);
