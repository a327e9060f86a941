#pragma once
// Text to token ids, a piece at a time.

#include "ops/base/status.h"

#include <stddef.h>
#include <stdint.h>

// encode: tokens of `bytes` of text into token[0 .. *tokens), at most one a byte. A piece boundary
// may fall anywhere (text goes in pieces); `end` is set with a document's last piece.
struct tokenizer {
    const char *name;
    uint64_t hash;      // of what makes its output; part of the settings id
    int32_t vocab_size; // ids are below this
    enum status (*encode)(struct tokenizer *tokenizer, const char *text, size_t bytes, int end,
                          int32_t *token, int64_t *tokens);
    void (*close)(struct tokenizer *tokenizer);
};

// token = byte. Any bytes are text to it.
enum status byte_tokenizer_open(struct tokenizer **opened);
