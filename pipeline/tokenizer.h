#pragma once
// Text to token ids, a piece at a time.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// One call's share of a document: some text in, some tokens out.
struct tokenizer_turn {
    const char *text; // what follows in the document, cut anywhere
    size_t bytes;
    bool ends;      // and nothing follows that
    int32_t *token; // [room]
    int64_t room;   // > 0

    size_t used;    // out: bytes of the text that were taken in; all, unless the room is full
    int64_t tokens; // out: given; those of text taken in may come with later turns
    bool done;      // out: the document's last token is given
};

struct tokenizer {
    const char *name;
    uint64_t hash; // of what makes its output, the libraries' tables too; part of the settings id
    int32_t vocab_size; // ids are below this
    char wrong[240];    // after BAD_INPUT: what is wrong with the text
    // A new document; the one before is forgotten wherever it stood.
    void (*begin)(struct tokenizer *tokenizer);
    // The tokens do not depend on how the text is cut into turns. Errors: NO_MEMORY; BAD_INPUT (not
    // logged; the document has no tokens that may be used).
    enum status (*encode)(struct tokenizer *tokenizer, struct tokenizer_turn *turn);
    // The bytes of a token, which may be less than a character; NULL: there is no such token.
    const char *(*bytes_of)(struct tokenizer *tokenizer, int32_t token, size_t *bytes);
    void (*close)(struct tokenizer *tokenizer);
};

// What becomes of bytes that are not UTF-8, where a tokenizer reads characters.
enum text_errors {
    TEXT_STRICT,  // the document is bad
    TEXT_REPLACE, // U+FFFD for each maximal part that cannot begin a character, as WHATWG decodes
};

// token = byte. Any bytes are text to it.
enum status byte_tokenizer_open(struct tokenizer **opened);
// Byte-level BPE of a Hugging Face tokenizer.json; path: the file, or the folder it is in. Errors:
// USAGE (no such file, or built without it), MISMATCH (a kind that is not supported, by field, or
// damaged), NO_MEMORY.
enum status bpe_tokenizer_open(const char *path, enum text_errors errors,
                               struct tokenizer **opened);
