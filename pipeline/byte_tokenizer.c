// The tokenizer of byte-level models: a token is a byte, and any bytes are text.
#include "pipeline/tokenizer.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static enum status byte_encode(struct tokenizer *tokenizer, const char *text, size_t bytes, int end,
                               int32_t *token, int64_t *tokens) {
    (void)tokenizer;
    (void)end; // a byte needs none of its neighbours
    for (size_t i = 0; i < bytes; i++) {
        token[i] = (unsigned char)text[i];
    }
    *tokens = (int64_t)bytes;
    return STATUS_OK;
}

static void byte_close(struct tokenizer *tokenizer) {
    free(tokenizer);
}

enum status byte_tokenizer_open(struct tokenizer **opened) {
    struct tokenizer *tokenizer = malloc(sizeof *tokenizer);
    if (tokenizer == NULL) return FAIL(NO_MEMORY, "the byte tokenizer");
    *tokenizer = (struct tokenizer){
        .name = "byte",
        .hash = XXH3_64bits("byte", 4),
        .vocab_size = 256,
        .encode = byte_encode,
        .close = byte_close,
    };
    *opened = tokenizer;
    return STATUS_OK;
}
