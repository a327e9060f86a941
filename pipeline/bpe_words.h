#pragma once
// The tokens of a piece of text, short ones from a cache.

#include "pipeline/bpe_tokens.h"
#include "pipeline/bpe_vocab.h"

#include <stdbool.h>

// Longer pieces go through bpe_long.h: merging takes time that grows with the square.
#define WORD_BYTES_MOST 256

#define CACHED_BYTES  26
#define CACHED_TOKENS 7
#define CACHED_WORDS  ((size_t)1 << 15)

struct cached_word { // one cache line
    uint32_t hash;
    unsigned char bytes, tokens; // bytes 0: free
    char text[CACHED_BYTES];
    int32_t token[CACHED_TOKENS];
    int32_t unused;
};

struct words {
    const struct vocab *vocab;  // borrowed
    struct cached_word *cached; // [CACHED_WORDS]; a word has one place, the last one holds it
    uint32_t *whole;            // with ignore_merges: tokens by their bytes; ids, one added
    size_t whole_room;          // a power of two
    int32_t token[2 * VOCAB_TOKEN_BYTES], rank[2 * VOCAB_TOKEN_BYTES]; // to work in
};

// Errors: NO_MEMORY.
enum status words_open(const struct vocab *vocab, struct words *words);
void words_close(struct words *words);
// Tokens of a piece of 1 to WORD_BYTES_MOST bytes. Errors: NO_MEMORY.
enum status words_encode(struct words *words, const char *text, size_t bytes,
                         struct token_queue *out);
// The token that the whole piece is, with ignore_merges; -1: none, or merges count.
int32_t words_whole(const struct words *words, const char *text, size_t bytes);
// By merges alone, into words->token; at most 2 * VOCAB_TOKEN_BYTES bytes. Returns how many.
size_t words_merge(struct words *words, const char *text, size_t bytes);
