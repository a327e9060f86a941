#pragma once
// What a checkpoint's config says of the model: the fields that change a result, checked against
// each other, and the sizes that follow from them. Three layouts are read, whatever the file's
// name: HF's config.json, the original code's config.json, and Mistral's params.json (Codestral).

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

C_BEGIN

// How a layer's output is gated and normed. Trained weights do not say it; implementations differ.
enum gated_norm {
    GATED_NORM_AUTO,        // grouped, unless an original config asks to norm before the gate
    GATED_NORM_GROUPED,     // gate, then norm within each group: mamba_ssm, vLLM, llama.cpp
    GATED_NORM_WHOLE,       // gate, then norm over the whole width: transformers
    GATED_NORM_BEFORE_GATE, // norm within each group, then gate
};
#define GATED_NORMS "auto|grouped|whole|before-gate"

struct mamba2_config {
    int64_t hidden_size, layers, d_state, head_dim, heads, groups, d_conv, vocab_size;
    int64_t vocab_unpadded; // rows that are tokens; vocab_size has those that pad them besides
    double expand;
    double epsilon;
    double dt_least, dt_most; // dt_most may be infinite
    bool tied, tied_given;    // the head is the embedding; does the file say so?
    bool norm_before_gate, use_bias, use_conv_bias;
    bool residual_in_f32;  // as the model was trained; ours is f32 always
    int64_t bos, eos, pad; // -1: none

    // What follows.
    int64_t norm_groups; // of the gated norm: groups or 1
    int64_t d_inner;     // heads * head_dim
    int64_t conv_width;  // x | B | C: d_inner + 2 groups d_state
    int64_t proj_width;  // z | x B C | dt: d_inner + conv_width + heads
};

// Reads a config's text; `path` is for messages only. Absent fields get the layout's defaults,
// unknown ones are ignored; what says that the model is no plain Mamba-2 is refused by its name.
// Errors: MISMATCH.
enum status config_parse(const char *path, const char *text, size_t bytes,
                         struct mamba2_config *config);
// Errors: USAGE (no such file) and IO besides.
enum status config_read(const char *path, struct mamba2_config *config);
// dir/config.json, or dir/params.json if there is none.
enum status config_find(const char *dir, struct mamba2_config *config);

// One of GATED_NORMS; another word is a bug. NULL: auto.
enum gated_norm gated_norm_of(const char *name);
void config_set_gated_norm(struct mamba2_config *config, enum gated_norm norm);

C_END
