#pragma once
// Random Mamba-2 models of any shape in HF's layout, and the random numbers they are made of.

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct model_shape {
    int64_t hidden, layers, vocab, state, head_dim, groups, expand, taps, seed;
    int64_t inner;             // 0: expand times hidden
    int64_t heads, conv, proj; // what follows
    double dt_least, dt_most;
    const char *dtype; // f32, f16 or bf16
    bool untied, bias, no_conv_bias;
    bool d_varies; // else D is 1, as models begin
};

// A small one to begin with.
#define MODEL_SHAPE                                                                         \
    {                                                                                       \
        .hidden = 256, .layers = 4, .vocab = 256, .state = 64, .head_dim = 32, .groups = 1, \
        .expand = 2, .taps = 4, .seed = 1, .dt_most = HUGE_VAL, .dtype = "f32"              \
    }

// Fills in what follows from the rest; false: that is no model.
bool model_shape_complete(struct model_shape *shape);

// config.json and model.safetensors of a complete shape; the same shape gives the same bytes. The file
// begins empty and can be sought in. false: it could not be written.
bool random_model_config(const struct model_shape *shape, FILE *file);
bool random_model_weights(const struct model_shape *shape, FILE *file);

struct random {
    uint64_t state;
};

// splitmix64
static inline uint64_t random_bits(struct random *random) {
    uint64_t z = random->state += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

static inline double random_unit(struct random *random) {
    return (double)(random_bits(random) >> 11) * 0x1p-53;
}

static inline double log_uniform(struct random *random, double least, double most) {
    return exp(log(least) + random_unit(random) * (log(most) - log(least)));
}
