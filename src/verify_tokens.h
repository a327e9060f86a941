#pragma once
// The document that `longscan verify` tries a model with.

#include "ops/model/mapped_file.h"
#include "src/settings.h"

#define VERIFY_TOKENS 2405 // two chunks, and 357 tokens: five tiles and a part of one

// So many of --input's, or fewer if it has no more: token ids of *.u16 and *.u32, text through the model's
// tokenizer; without --input a text of our own, or ids at random for a model that is not of bytes.
// Shapes: token [VERIFY_TOKENS]. Errors: USAGE, BAD_INPUT (text that has no tokens), the tokenizer's.
enum status verify_tokens(const struct settings *settings, int64_t vocab_size,
                          const struct mapped_file *input, int32_t *token, int64_t *tokens);
