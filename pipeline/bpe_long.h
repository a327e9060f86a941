#pragma once
// The tokens of a piece of any length, in bounded memory, the same as by merging all of it.
//
// A row of tokens is what merging gives if and only if it is so for every two neighbours by
// themselves: merges go by rank, and as long as none has crossed the border of two of them, what
// happens between its outer borders is what happens to the two alone. So the last token of every
// beginning of the piece can be found one after another: of the tokens that end there, it is the one
// that keeps beside the last token of the beginning it leaves. Walking back from the ends of all
// tokens that may come next, the ways soon meet, and all before that point is settled.

#include "pipeline/bpe_trie.h"
#include "pipeline/bpe_words.h"

// Bytes whose tokens may be open at once. Ordinary text settles within a hundred.
#define LONG_OPEN_MOST ((size_t)1 << 20)

struct long_piece {
    const struct vocab *vocab; // borrowed
    struct words *words;       // borrowed, to work in
    struct trie ends;          // tokens by their bytes, the last first; made when first needed
    size_t token_bytes;        // of the longest token
    uint64_t *neighbours;      // [NEIGHBOURS] pairs that have been tried, and what came out

    char *text;     // [open_room] since the last settled point
    int32_t *token; // [open_room + 1] the last of the beginning that ends here; [0]: settled, or -1
    bool *met;      // [open_room + 1]
    size_t open, open_room;
    size_t look; // settle when so many are open
};

void long_init(const struct vocab *vocab, struct words *words, struct long_piece *piece);
void long_free(struct long_piece *piece);
void long_begin(struct long_piece *piece);
// More of the piece. Errors: NO_MEMORY; BAD_INPUT (not logged: more than LONG_OPEN_MOST are open).
enum status long_put(struct long_piece *piece, const char *text, size_t bytes,
                     struct token_queue *out);
enum status long_end(struct long_piece *piece, struct token_queue *out);
