#pragma once
// Passkey tasks made for a test.

#include "src/passkey_task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

static inline struct settings settings_of(const char *lengths) {
    return (struct settings){
        .lengths = lengths, .depths = "10", .samples = 10, .style = "paper", .seed = 1};
}

static inline struct tokenizer *bytes_tokenizer(void) {
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(byte_tokenizer_open(&tokenizer), STATUS_OK);
    return tokenizer;
}

static inline struct passkey_task *open_task(const struct settings *settings,
                                             struct tokenizer *tokenizer, int32_t bos) {
    struct passkey_task *task = NULL;
    assert_int_equal(passkey_task_open(settings, tokenizer, bos, &task), STATUS_OK);
    return task;
}
