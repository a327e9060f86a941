#include "src/tokenizer_choice.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static enum text_errors errors_of(const struct settings *settings) {
    return strcmp(settings->errors, "replace") == 0 ? TEXT_REPLACE : TEXT_STRICT;
}

enum status tokenizer_named(const struct settings *settings, const char *name,
                            struct tokenizer **opened) {
    if (strcmp(name, "byte") == 0) return byte_tokenizer_open(opened);
    return bpe_tokenizer_open(name, errors_of(settings), opened);
}

enum status tokenizer_of_folder(const struct settings *settings, struct tokenizer **opened) {
    return bpe_tokenizer_open(settings->model, errors_of(settings), opened);
}

bool tokenizer_in_folder(const char *model) {
    char path[4096];
    struct stat about;
    const int length = snprintf(path, sizeof path, "%s/tokenizer.json", model);
    return length < (int)sizeof path && stat(path, &about) == 0;
}
