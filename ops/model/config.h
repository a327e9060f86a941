#pragma once
// What a checkpoint's config.json says of the model: the HF Mamba-2 fields that change a result,
// checked against each other, and the sizes that follow from them.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

C_BEGIN

struct mamba2_config {
    int64_t hidden_size, layers, d_state, head_dim, heads, groups, d_conv, vocab_size;
    double expand;
    double epsilon;
    double dt_least, dt_most; // dt_most may be infinite
    bool tied, tied_given;    // the head is the embedding; does the file say so?
    bool norm_before_gate, use_bias, use_conv_bias;
    bool residual_in_f32;  // as the model was trained; ours is f32 always
    int64_t bos, eos, pad; // -1: none

    // What follows.
    int64_t d_inner;    // heads * head_dim
    int64_t conv_width; // x | B | C: d_inner + 2 groups d_state
    int64_t proj_width; // z | x B C | dt: d_inner + conv_width + heads
};

// Reads config.json's text; `path` is for messages only. Absent fields get HF's defaults, unknown
// ones are ignored. Errors: MISMATCH, by name.
enum status config_parse(const char *path, const char *text, size_t bytes,
                         struct mamba2_config *config);
// Errors: USAGE (no such file) and IO besides.
enum status config_read(const char *path, struct mamba2_config *config);

C_END
