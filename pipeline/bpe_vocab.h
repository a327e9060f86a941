#pragma once
// What a tokenizer.json says, checked: the tokens, their merges, and how text is prepared for them.

#include "pipeline/bpe_merges.h"

#include <stdbool.h>

#define VOCAB_FILE_MOST   ((size_t)100 * 1000 * 1000) // bytes
#define VOCAB_IDS_MOST    (1 << 20)                   // ids are below; the largest known are 2^18
#define VOCAB_TOKEN_BYTES 1024                        // of one token
#define PATTERN_BYTES     4096                        // of the pattern that splits text

struct vocab_token {
    const char *text; // NULL: no token has this id
    uint32_t bytes;
    bool added;      // found in the text as it is, not made by merges
    bool normalized; // of an added one: found in the normalised text
    bool of_merges;  // in model.vocab: merges may make it
};

struct vocab {
    struct vocab_token *token; // [ids]; owned, as all here
    int32_t ids;               // the highest id and one
    char *text;                // of all tokens
    struct merges merges;
    int32_t byte[256]; // the token of a byte by itself; -1: none, and the byte is in no UTF-8
    bool nfc;
    bool ignore_merges; // a piece that is a token is taken as it is
    char *pattern;      // NULL: that of GPT-2
    uint64_t hash;      // of all above
};

// path is for messages. Errors: MISMATCH (logged: the field and what is wrong), NO_MEMORY.
enum status vocab_parse(const char *path, const char *text, size_t bytes, struct vocab **parsed);
void vocab_free(struct vocab *vocab); // accepts NULL
