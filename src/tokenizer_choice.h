#pragma once
// Which tokenizer --tokenizer and --errors ask for.

#include "pipeline/tokenizer.h"
#include "src/settings.h"

#include <stdbool.h>

// name: "byte", or the path of a tokenizer.json or of its folder. The caller closes what is opened.
// Errors: those of the tokenizers' open functions.
enum status tokenizer_named(const struct settings *settings, const char *name,
                            struct tokenizer **opened);
// That of the model's folder, whatever the folder is called.
enum status tokenizer_of_folder(const struct settings *settings, struct tokenizer **opened);
// For text of a model with this vocabulary: --tokenizer, the one in the model's folder, or byte for 256.
// Errors: theirs; MISMATCH, none of them, or it has more ids than the model.
enum status tokenizer_for_text(const struct settings *settings, int64_t vocab_size,
                               struct tokenizer **opened);
// MISMATCH if it has ids that the model has not. name: for messages.
enum status tokenizer_fits(const struct tokenizer *tokenizer, const char *name, int64_t vocab_size);
// Is there a tokenizer.json in the model's folder?
bool tokenizer_in_folder(const char *model);
