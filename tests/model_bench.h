#pragma once
// What the tests of the whole model share: golden files, a model on a backend, scoring with it.

#include "ops/base/json.h"
#include "ops/cpu/cpu_backend.h"
#include "ops/model/mapped_file.h"
#include "ops/model/model.h"
#include "tests/queue_backend.h"

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

#define NLL_ABSOLUTE 1e-4 // the published tolerance of f32
#define NLL_RELATIVE 1e-5 // of NLLs above 10, where f32 logits have fewer digits left

// How far from float64 one NLL may be.
static inline double nll_allowed(double exact) {
    return exact > 10 ? NLL_RELATIVE * exact : NLL_ABSOLUTE;
}

#define STEP_TOKENS 8192
#define TEXT_MOST   STEP_TOKENS

static inline void shared_path(char *path, size_t room, const char *name) {
    const char *folder = getenv("LONGSCAN_SHARED");
    if (folder != NULL) {
        snprintf(path, room, "%s/%s", folder, name);
    } else {
        snprintf(path, room, "%s/../../shared/%s", TESTS_FOLDER, name);
    }
}

// Tokens, and the NLL of tokens[i + 1] given those before it.
struct golden {
    int64_t tokens, predictions;
    int32_t token[TEXT_MOST];
    double nll[TEXT_MOST];
};

static inline void read_text(struct json *json, struct golden *golden) {
    char text[TEXT_MOST * 6];
    const char *raw;
    size_t raw_bytes;
    assert_true(json_string(json, &raw, &raw_bytes) && raw_bytes <= sizeof text);
    golden->tokens = (int64_t)json_unescape(raw, raw_bytes, text);
    if (golden->tokens > TEXT_MOST) golden->tokens = TEXT_MOST;
    for (int64_t i = 0; i < golden->tokens; i++) {
        golden->token[i] = (unsigned char)text[i];
    }
}

static inline void parse_golden(const char *text, size_t bytes, struct golden *golden) {
    struct json json;
    const char *key;
    size_t key_bytes;
    int64_t value;
    memset(golden, 0, sizeof *golden);
    json_open(&json, text, bytes);
    json_object(&json);
    while (json_key(&json, &key, &key_bytes)) {
        if (json_is(key, key_bytes, "tokens")) {
            json_array(&json);
            while (json_item(&json) && json_int(&json, &value)) {
                assert_true(golden->tokens < TEXT_MOST);
                golden->token[golden->tokens++] = (int32_t)value;
            }
        } else if (json_is(key, key_bytes, "token_nll")) {
            json_array(&json);
            while (json_item(&json) && golden->predictions < TEXT_MOST) {
                json_number(&json, &golden->nll[golden->predictions++]);
            }
        } else if (json_is(key, key_bytes, "text")) {
            read_text(&json, golden);
        } else {
            json_skip(&json);
        }
    }
    assert_true(json_end(&json));
}

// Skips the test if there is no such file.
static inline void read_golden(const char *name, struct golden *golden) {
    char path[4096];
    struct mapped_file file = {0};
    shared_path(path, sizeof path, name);
    FILE *there = fopen(path, "r");
    if (there == NULL) {
        print_message("skipped: no %s\n", path);
        skip();
    } else {
        fclose(there);
    }
    assert_int_equal(mapped_file_open(path, (size_t)1 << 30, &file), STATUS_OK);
    parse_golden(file.bytes, file.size, golden);
    mapped_file_close(&file);
}

struct bench {
    struct backend *backend;
    struct model *model;
};

static inline struct bench open_queued_bench(const char *name, int64_t window_tokens,
                                             int64_t threads, bool queued) {
    char path[4096];
    struct bench bench = {0};
    const struct cpu_backend_settings cpu = {.threads = threads, .window_tokens = window_tokens};
    const struct model_settings settings = {.step_tokens = STEP_TOKENS};
    shared_path(path, sizeof path, name);
    assert_int_equal(cpu_backend_open(&cpu, &bench.backend), STATUS_OK);
    if (queued) {
        struct backend *inner = bench.backend;
        assert_int_equal(queue_backend_open(inner, 1, 200, &bench.backend), STATUS_OK);
    }
    assert_int_equal(model_open(path, bench.backend, &settings, &bench.model), STATUS_OK);
    return bench;
}

static inline struct bench open_bench(const char *name, int64_t window_tokens, int64_t threads) {
    return open_queued_bench(name, window_tokens, threads, false);
}

static inline void close_bench(struct bench *bench) {
    model_close(bench->model);
    bench->backend->table->close(bench->backend);
}

// All layers' states, filled with what no right result can come from.
static inline char *make_slot(const struct bench *bench) {
    const struct model_info *info = model_info(bench->model);
    void *slot = NULL;
    const size_t bytes = (size_t)info->layers * info->layer_bytes;
    assert_int_equal(bench->backend->table->alloc(bench->backend, bytes, &slot), STATUS_OK);
    memset(slot, 0xFF, bytes);
    return slot;
}

static inline void drop_slot(const struct bench *bench, char *slot) {
    bench->backend->table->release(bench->backend, slot);
}

static inline void run(const struct bench *bench, const int32_t *token, const int32_t *target,
                       const struct model_span *spans, int64_t span_count,
                       struct boundary *boundary, float *nll) {
    struct model_step step = {.token = token,
                              .target = target,
                              .spans = spans,
                              .span_count = span_count,
                              .boundary = boundary,
                              .nll = nll};
    for (int64_t i = 0; i < span_count; i++) {
        step.rows += spans[i].rows;
    }
    assert_int_equal(model_run(bench->model, &step), STATUS_OK);
    assert_int_equal(bench->backend->table->wait(bench->backend), STATUS_OK);
}

// What each row predicts: the token after it.
static inline void make_targets(const struct golden *golden, int32_t *target) {
    for (int64_t i = 0; i < golden->tokens; i++) {
        target[i] = i + 1 < golden->tokens ? golden->token[i + 1] : -1;
    }
}

static inline void score_whole(const struct bench *bench, const struct golden *golden, float *nll) {
    int32_t target[TEXT_MOST];
    make_targets(golden, target);
    const struct model_span span = {.rows = golden->tokens};
    run(bench, golden->token, target, &span, 1, NULL, nll);
}

static inline void assert_same_bits(const char *what, const float *got, const float *expected,
                                    int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (memcmp(&got[i], &expected[i], sizeof *got) != 0) {
            fail_msg("%s: position %d: %.9g, expected the bits of %.9g", what, (int)i,
                     (double)got[i], (double)expected[i]);
        }
    }
}
