#pragma once
// What the readers of a tokenizer.json share. Errors: those of vocab_parse.

#include "ops/base/json.h"
#include "pipeline/bpe_vocab.h"

// A member of an object, as it is written. raw NULL: it is not there.
struct vocab_member {
    const char *name;
    const char *raw;
    size_t bytes;
};

struct vocab_name { // a token as model.vocab writes it, in the letters that stand for bytes
    const char *text;
    uint32_t bytes;
    int32_t id;
};

struct vocab_parsing {
    const char *path; // borrowed
    struct vocab *vocab;
    char *name_text;
    struct vocab_name *name; // [names]
    size_t names;
    uint32_t *slot; // [slots], a power of two: where a name is, one added; 0: free
    size_t slots;
    bool *odd; // [ids] it has letters that stand for no byte
    char *text_at;
};

// Fills in those of the object's members that are named; others are left alone.
enum status vocab_members(const struct vocab_parsing *parsing, const char *where, const char *raw,
                          size_t bytes, struct vocab_member *member, int members);
bool vocab_is_null(const struct vocab_member *member); // or not there
bool vocab_is_text(const struct vocab_member *member, const char *text);
enum status vocab_flag(const struct vocab_parsing *parsing, const char *where,
                       const struct vocab_member *member, bool otherwise, bool *value);
// Of what is written, as much as a message has room for.
int vocab_shown(const struct vocab_member *member);

enum status vocab_read_tokens(struct vocab_parsing *parsing, const struct vocab_member *vocab,
                              size_t added_bytes);
enum status vocab_read_merges(struct vocab_parsing *parsing, const struct vocab_member *merges);
enum status vocab_read_added(struct vocab_parsing *parsing, const struct vocab_member *added);
// No token may have letters that stand for no byte, and every byte of UTF-8 needs a token.
enum status vocab_check_tokens(struct vocab_parsing *parsing);
