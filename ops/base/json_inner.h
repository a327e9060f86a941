#pragma once
// What the files of the JSON reader share; nobody else includes it.

#include "ops/base/json.h"

#include <string.h>

// The first error stays; always false, so that a reader can return it.
static inline bool json_refuse(struct json *json, const char *what) {
    if (json->wrong == NULL) {
        json->wrong = what;
        json->wrong_at = json->at;
    }
    return false;
}

// The next character that is not space, or -1 at the end.
static inline int json_next_char(struct json *json) {
    size_t at = json->at;
    while (at < json->bytes) {
        const char c = json->text[at];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r') {
            json->at = at;
            return (unsigned char)c;
        }
        at++;
    }
    json->at = at;
    return -1;
}

static inline bool is_digit(int c) {
    return c >= '0' && c <= '9';
}

// The word itself, if it stands here.
static inline bool json_take_word(struct json *json, const char *word) {
    const size_t bytes = strlen(word);
    if (json->bytes - json->at < bytes || memcmp(json->text + json->at, word, bytes) != 0) {
        return false;
    }
    json->at += bytes;
    json->begun = true;
    return true;
}

// In json_number.c: a number as the grammar has it, checked and not converted.
bool json_skip_number(struct json *json);
