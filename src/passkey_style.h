#pragma once
// How the task is worded and counted, by whom: strings equal to theirs, byte for byte, for what a model
// makes of others cannot be compared.

#include "pipeline/bytes.h"

#include <stdint.h>

struct passkey_style {
    const char *name;
    const char *prefix;
    const char *sentence; // of filler, when no --filler is given; also what --add-prefix repeats
    const char *key;      // the sentence that hides it; {k} stands for the key, {w} for its name
    const char *question; // likewise
    int64_t digits;       // of the key, if nothing else is said
    bool padded;          // keys from 00000 on; false: the first digit is not 0
    bool replaces;        // a block of filler gives way to the key's, and all are counted alone
    int64_t answer_room;  // tokens of the length that are kept free for the answer
    int64_t new_tokens;   // decoded at least
    bool first_number;    // the answer is the first number that comes; false: it is found anywhere
    int64_t lines,
        lines_of; // at most so many sentences in a prompt of so many tokens; 0, 0: as fit
};

const struct passkey_style *passkey_style_named(const char *name); // NULL: there is no such
// The text with key and word in their places, appended. Errors: NO_MEMORY.
enum status passkey_style_put(struct bytes *out, const char *text, const char *key,
                              const char *word);
bool passkey_style_correct(const struct passkey_style *style, const char *key, const char *text,
                           size_t bytes);
// What the key is called where a style names it; bits: of which it is a function.
void passkey_style_word(uint64_t bits, char *word, size_t bytes);
