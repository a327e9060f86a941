#pragma once
// Text into pieces, inside which merges stay.

#include "pipeline/bpe_characters.h"

#include <stdbool.h>

// Characters of a pattern's piece, at most: PCRE2 wants all of it at once.
#define PATTERN_PIECE_MOST ((size_t)1 << 20)

// What is known of a piece of text whose end has not come.
enum piece_run { RUN_NONE, RUN_OTHERS, RUN_LETTERS, RUN_NUMBERS, RUN_SPACES };

struct split {
    const struct characters *characters; // borrowed
    struct split_pattern *pattern;       // NULL: GPT-2's
};

struct piece {
    size_t bytes; // from the text's beginning that are sure to be of the piece
    bool ends;    // and it has no more
};

// The first piece of text, whole characters of valid UTF-8, bytes > 0. last: nothing follows the
// text, so its piece ends. With GPT-2's pattern a piece may be taken bit by bit: *run is RUN_NONE at
// its beginning, and what the last call set where it goes on. With a pattern of the file's own a
// piece that does not end is 0 bytes. Errors: NO_MEMORY; BAD_INPUT (not logged: *wrong).
enum status split_next(const struct split *split, const char *text, size_t bytes, bool last,
                       enum piece_run *run, struct piece *piece, const char **wrong);

// GPT-2's pattern: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
struct piece split_words(const struct characters *characters, const char *text, size_t bytes,
                         bool last, enum piece_run *run);

// Compiles a pattern written for Hugging Face's engine. path: for messages. Errors: MISMATCH
// (logged), NO_MEMORY.
enum status split_pattern_open(const char *path, const char *text, struct split_pattern **opened);
void split_pattern_close(struct split_pattern *pattern); // accepts NULL
enum status split_pattern_next(struct split_pattern *pattern, const char *text, size_t bytes,
                               bool last, struct piece *piece, const char **wrong);
// The pattern as PCRE2 writes the same; only what means the same to both engines is let through.
// out needs 64 * strlen(text) + 1. NULL: good; or what is not supported, at text[*at].
const char *pattern_translate(const char *text, char *out, size_t *at);
