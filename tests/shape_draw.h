#pragma once
// What random_shapes_test draws: a model's shape, the model, and documents for it.

#include "ops/model/mamba2.h"
#include "tests/random_model.h"

#include <stdlib.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define WORK_MOST       4e7 // multiplications of the float64 model along a model's documents
#define DOCUMENTS_MOST  6
#define TOKENS_MOST     3000 // of a document
#define ALL_TOKENS_MOST (DOCUMENTS_MOST * TOKENS_MOST)
#define TOKENS_LEAST    8    // that every model is worth
#define TOKENS_LONG     2100 // that a third of them are worth: more than one chunk
#define HIDDEN_LEAST    16   // a norm over fewer values makes too much of their last digits
#define WEIGHTS_MOST    (INT64_C(4) << 20)

struct document {
    int64_t tokens, done;
    int32_t token[TOKENS_MOST];
    float nll[2][TOKENS_MOST]; // by each of the two packings
    char *slot;                // its state between steps; NULL: none yet
};

struct trial { // large
    struct random random;
    struct model_shape shape;
    enum gated_norm norm;
    struct mamba2_config config;
    struct mamba2_weights weights;
    char *config_text, *weights_bytes;
    size_t config_size, weights_size;
    struct document document[DOCUMENTS_MOST];
    int documents;
    int64_t tokens;                // of all documents
    double exact[ALL_TOKENS_MOST]; // of a document after the other
    double work;                   // of one token
};

static inline int64_t draw_below(struct random *random, int64_t end) {
    return (int64_t)(random_bits(random) % (uint64_t)end);
}

static inline bool draw_one_in(struct random *random, int64_t many) {
    return draw_below(random, many) == 0;
}

// Small ones as often as large ones.
static inline int64_t draw_size(struct random *random, int64_t least, int64_t most) {
    return (int64_t)log_uniform(random, (double)least, (double)most + 0.999);
}

// Half of them as trained models have them, which kernels are made for.
static inline int64_t draw_width(struct random *random, int64_t least, int64_t most) {
    const int64_t any = draw_size(random, least, most);
    if (draw_one_in(random, 2)) return any;
    int64_t power = least;
    while (power * 2 <= any) {
        power *= 2;
    }
    return power;
}

static inline void draw_hidden(struct random *random, struct model_shape *shape) {
    const int64_t expand = 1 + draw_below(random, 4);
    shape->hidden = draw_size(random, HIDDEN_LEAST, 256);
    if (!draw_one_in(random, 3) && shape->inner % expand == 0) {
        shape->hidden = shape->inner / expand;
    }
}

static inline double work_of(const struct model_shape *s) {
    const int64_t layer = s->hidden * (s->proj + s->inner) + 3 * s->inner * s->state;
    return (double)(layer * s->layers + s->vocab * s->hidden);
}

static inline int64_t weights_of(const struct model_shape *s) {
    return s->layers * s->hidden * (s->proj + s->inner) + 2 * s->vocab * s->hidden;
}

// expand is a quotient in the file, and the width the whole part of its product, as in HF's code.
static inline bool is_model(struct model_shape *s, int64_t tokens) {
    const double expand = (double)s->inner / (double)s->hidden;
    return model_shape_complete(s) && s->hidden >= HIDDEN_LEAST && expand >= 0.0625 &&
           expand <= 64 && (int64_t)(expand * (double)s->hidden) == s->inner &&
           work_of(s) * (double)tokens <= WORK_MOST && weights_of(s) <= WEIGHTS_MOST;
}

static inline void draw_shape(struct random *random, struct model_shape *shape) {
    static const char *const dtypes[] = {"f32", "f32", "bf16", "f16"};
    const int64_t tokens = draw_one_in(random, 3) ? TOKENS_LONG : TOKENS_LEAST;
    do {
        // One after the other: an initializer's parts are drawn in the order that the compiler likes.
        *shape = (struct model_shape){.dt_most = HUGE_VAL, .d_varies = true};
        shape->layers = draw_size(random, 1, 64);
        shape->vocab = draw_size(random, 17, 100000);
        shape->state = draw_width(random, 8, 256);
        shape->head_dim = draw_width(random, 8, 128);
        shape->groups = (int64_t)1 << draw_below(random, 4);
        shape->taps = 2 + draw_below(random, 3);
        shape->seed = (int64_t)(random_bits(random) >> 2);
        shape->dtype = dtypes[draw_below(random, 4)];
        shape->untied = draw_one_in(random, 2);
        shape->bias = draw_one_in(random, 2);
        shape->no_conv_bias = draw_one_in(random, 3);
        shape->inner = shape->head_dim * shape->groups * (1 + draw_below(random, 4));
        draw_hidden(random, shape);
    } while (!is_model(shape, tokens));
    if (draw_one_in(random, 2)) shape->dt_least = log_uniform(random, 0.001, 0.5);
    if (draw_one_in(random, 2)) shape->dt_most = shape->dt_least + random_unit(random);
}

static inline FILE *in_memory(char **bytes, size_t *size) {
    FILE *file = open_memstream(bytes, size);
    assert_non_null(file);
    return file;
}

// The model goes the way of a file: its config is parsed, its weights are checked.
static inline void make_model(struct trial *trial) {
    FILE *file = in_memory(&trial->config_text, &trial->config_size);
    assert_true(random_model_config(&trial->shape, file));
    fclose(file);
    file = in_memory(&trial->weights_bytes, &trial->weights_size);
    assert_true(random_model_weights(&trial->shape, file));
    fclose(file);
    assert_int_equal(
        config_parse("config.json", trial->config_text, trial->config_size, &trial->config),
        STATUS_OK);
    config_set_gated_norm(&trial->config, trial->norm);
    assert_int_equal(weights_parse("model.safetensors", trial->weights_bytes, trial->weights_size,
                                   &trial->config, &trial->weights),
                     STATUS_OK);
}

// As many tokens as the work allows; now and then all in one document, which may be cut at its chunks.
static inline void draw_documents(struct trial *trial) {
    int64_t left = (int64_t)(WORK_MOST / trial->work);
    const bool one = draw_one_in(&trial->random, 3);
    while (left > 0 && trial->documents < DOCUMENTS_MOST) {
        struct document *document = &trial->document[trial->documents++];
        const int64_t most = left < TOKENS_MOST ? left : TOKENS_MOST;
        const int64_t tokens = one ? most : draw_size(&trial->random, 1, most);
        document->tokens = tokens;
        for (int64_t i = 0; i < tokens; i++) {
            document->token[i] = (int32_t)draw_below(&trial->random, trial->shape.vocab);
        }
        left -= one ? left : tokens;
        trial->tokens += tokens;
    }
}

static inline void describe(const struct trial *trial, uint64_t seed, char *text, size_t bytes) {
    const struct model_shape *s = &trial->shape;
    static const char *const norms[] = {"auto", "grouped", "whole", "before-gate"};
    snprintf(text, bytes,
             "seed %llu: %s, hidden %lld, inner %lld, layers %lld, vocab %lld, state %lld, "
             "head_dim %lld, groups %lld, taps %lld, dt %g to %g, norm %s%s%s%s, %d documents",
             (unsigned long long)seed, s->dtype, (long long)s->hidden, (long long)s->inner,
             (long long)s->layers, (long long)s->vocab, (long long)s->state, (long long)s->head_dim,
             (long long)s->groups, (long long)s->taps, s->dt_least, s->dt_most, norms[trial->norm],
             s->untied ? ", untied" : "", s->bias ? ", biases" : "",
             s->no_conv_bias ? ", no bias of the convolution" : "", trial->documents);
}

static inline void close_trial(struct trial *trial) {
    weights_close(&trial->weights);
    free(trial->config_text);
    free(trial->weights_bytes);
}
