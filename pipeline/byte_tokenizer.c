// The tokenizer of byte-level models: a token is a byte, and any bytes are text.
#include "pipeline/tokenizer.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct byte_tokenizer {
    struct tokenizer base;
    char byte[256];
};

static void byte_begin(struct tokenizer *tokenizer) {
    (void)tokenizer; // a byte needs none of its neighbours
}

static enum status byte_encode(struct tokenizer *tokenizer, struct tokenizer_turn *turn) {
    const size_t room = (size_t)turn->room;
    const size_t bytes = turn->bytes < room ? turn->bytes : room;
    (void)tokenizer;
    for (size_t i = 0; i < bytes; i++) {
        turn->token[i] = (unsigned char)turn->text[i];
    }
    turn->used = bytes;
    turn->tokens = (int64_t)bytes;
    turn->done = turn->ends && bytes == turn->bytes;
    return STATUS_OK;
}

static const char *byte_bytes_of(struct tokenizer *base, int32_t token, size_t *bytes) {
    const struct byte_tokenizer *tokenizer = (const struct byte_tokenizer *)base;
    *bytes = 1;
    return token < 0 || token > 255 ? NULL : &tokenizer->byte[token];
}

static void byte_close(struct tokenizer *tokenizer) {
    free(tokenizer);
}

enum status byte_tokenizer_open(struct tokenizer **opened) {
    struct byte_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer == NULL) return FAIL(NO_MEMORY, "the byte tokenizer");
    tokenizer->base = (struct tokenizer){
        .name = "byte",
        .hash = XXH3_64bits("byte", 4),
        .vocab_size = 256,
        .begin = byte_begin,
        .encode = byte_encode,
        .bytes_of = byte_bytes_of,
        .close = byte_close,
    };
    for (int i = 0; i < 256; i++) {
        tokenizer->byte[i] = (char)(unsigned char)i;
    }
    *opened = &tokenizer->base;
    return STATUS_OK;
}
