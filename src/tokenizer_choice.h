#pragma once
// Which tokenizer --tokenizer and --errors ask for.

#include "pipeline/tokenizer.h"
#include "src/settings.h"

#include <stdbool.h>

// settings->tokenizer: "byte", or the path of a tokenizer.json or of its folder. Owns: close it.
// Errors: those of the tokenizers' open functions.
enum status tokenizer_named(const struct settings *settings, const char *name,
                            struct tokenizer **opened);
// Is there a tokenizer.json in the model's folder?
bool tokenizer_in_folder(const char *model);
