#pragma once
// Byte-level BPE from the text of a tokenizer.json in memory; bpe_tokenizer_open reads the file.

#include "pipeline/tokenizer.h"

// path: for messages. Errors: MISMATCH (logged), NO_MEMORY.
enum status bpe_tokenizer_make(const char *path, const char *text, size_t bytes,
                               enum text_errors errors, struct tokenizer **made);

// What makes the tokens beside the file, in words: the Unicode of utf8proc's tables, and which PCRE2 it
// is where the file has a pattern of its own. Characters that are younger than one of them would have
// other ids with the next.
void bpe_tables(bool own_pattern, char *text, size_t bytes);
