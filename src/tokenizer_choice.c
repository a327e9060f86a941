#include "src/tokenizer_choice.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum status tokenizer_named(const struct settings *settings, const char *name,
                            struct tokenizer **opened) {
    if (strcmp(name, "byte") == 0) return byte_tokenizer_open(opened);
    const bool replace = strcmp(settings->errors, "replace") == 0;
    return bpe_tokenizer_open(name, replace ? TEXT_REPLACE : TEXT_STRICT, opened);
}

bool tokenizer_in_folder(const char *model) {
    char path[4096];
    struct stat about;
    const int length = snprintf(path, sizeof path, "%s/tokenizer.json", model);
    return length < (int)sizeof path && stat(path, &about) == 0;
}
