#pragma once
// Byte-level BPE from the text of a tokenizer.json in memory; bpe_tokenizer_open reads the file.

#include "pipeline/tokenizer.h"

// path: for messages. Errors: MISMATCH (logged), NO_MEMORY.
enum status bpe_tokenizer_make(const char *path, const char *text, size_t bytes,
                               enum text_errors errors, struct tokenizer **made);
