#pragma once
// One line of JSONL as a document: {"id", "text"} or {"id", "tokens"}, other members carried along.

#include "pipeline/record.h"

#define JSONL_KEYS_MOST (ATTRIBUTES_BYTES_MOST / 4) // "":0 and a comma: the shortest member

// The tokens of a line, still as text: read when they are needed, so that they take no memory.
struct jsonl_tokens {
    const char *at;
    int64_t left;
};

// Parts of the line, or of the parser, until its next line.
struct jsonl_document {
    const char *id; // NULL: the line has none
    size_t id_bytes;
    const char *text; // NULL: the line has tokens
    size_t text_bytes;
    struct jsonl_tokens tokens;
    const char *attributes; // members of an object, without braces
    size_t attributes_bytes;
};

struct jsonl {
    const char *id_field, *text_field; // borrowed
    char wrong[160];                   // why the last line cannot be used
    char attributes[ATTRIBUTES_BYTES_MOST];
    size_t attributes_bytes;
    char keys[ATTRIBUTES_BYTES_MOST]; // of the attributes, escapes undone, one behind another
    size_t key_end[JSONL_KEYS_MOST];
    size_t key_count;
};

void jsonl_open(struct jsonl *jsonl, const char *id_field, const char *text_field);
// Takes a line apart; strings lose their escapes in place. A null counts as missing, and so does an
// empty id. false: the line cannot be used, wrong says why, and it is as it was.
bool jsonl_parse(struct jsonl *jsonl, char *line, size_t bytes, struct jsonl_document *document);
// The next tokens, at most `most`. Returns how many; 0: none are left.
int64_t jsonl_tokens_next(struct jsonl_tokens *tokens, int32_t *token, int64_t most);
