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

enum status tokenizer_fits(const struct tokenizer *tokenizer, const char *name,
                           int64_t vocab_size) {
    if (strcmp(tokenizer->name, "byte") == 0 && vocab_size > 1024) {
        LOG(WARN,
            "--tokenizer byte: a token a byte, for a model of %lld tokens; is it one of bytes?",
            (long long)vocab_size);
    }
    if (tokenizer->vocab_size <= vocab_size) return STATUS_OK;
    return FAIL(MISMATCH, "tokenizer %s has %d ids, the model only %lld", name,
                tokenizer->vocab_size, (long long)vocab_size);
}

enum status tokenizer_for_text(const struct settings *settings, int64_t vocab_size,
                               struct tokenizer **opened) {
    const char *name = settings->tokenizer;
    const bool own =
        name == NULL && settings->model != NULL && tokenizer_in_folder(settings->model);
    if (name == NULL && !own && vocab_size != 256) {
        return FAIL(
            MISMATCH,
            "the input is text, and %s has no tokenizer.json; give --tokenizer, or token ids",
            settings->model != NULL ? settings->model : settings->shape);
    }
    if (own) {
        name = settings->model;
        TRY(tokenizer_of_folder(settings, opened));
    } else {
        if (name == NULL) name = "byte";
        TRY(tokenizer_named(settings, name, opened));
    }
    const enum status status = tokenizer_fits(*opened, name, vocab_size);
    if (status != STATUS_OK) {
        (*opened)->close(*opened);
        *opened = NULL;
    }
    return status;
}

bool tokenizer_in_folder(const char *model) {
    char path[4096];
    struct stat about;
    const int length = snprintf(path, sizeof path, "%s/tokenizer.json", model);
    return length < (int)sizeof path && stat(path, &about) == 0;
}
