#pragma once
// The layers of a Mamba-2 model on a backend, in the stages that the hand-over cuts them into. The
// model's loop (ops/model/forward.c) knows these only. Two implementations: ops/model/op_mixer.c
// composes the operators of any backend; a backend may bring one that fuses across operators.
//
// A layer, for each window of the step's rows:
//
//   project        norm, in_proj
//   tail           the convolution's last inputs, for the right neighbour    [needs nothing from
//                  the left unless a span is shorter than they are]
//   prepare        convolution, dt, decays, C.B, tile states                 [needs conv from left]
//   pass           the states before each tile, and the one for the right    [needs SSM from left]
//   scan           y
//   project_back   gate, gated norm, out_proj into the residual
//
// All are queued. Errors: PEER, NO_MEMORY.

#include "ops/backend.h"

C_BEGIN

// A layer's weights, in backend memory; NULL: the model has none (a bias that is off).
struct mixer_weights {
    float *norm, *in_bias, *conv, *conv_bias, *dt_bias, *a, *d, *gate_norm, *out_bias;
    struct packed_weight *in_proj, *out_proj;
};

struct mixer_shape {
    struct scan_shape scan;
    int64_t hidden, d_inner, d_conv, vocab;
    int64_t conv_width; // d_inner + 2 groups d_state
    int64_t proj_width; // z | x B C | dt: d_inner + conv_width + heads
    float epsilon, dt_least, dt_most;
    bool use_bias, norm_before_gate;
    int64_t norm_groups; // of the gated norm
    int64_t rows;        // most of a step
    int64_t asked;       // of those, most that are asked for their best token; 0: none
};

// One layer's work on one window. batch: rows, tiles and spans count from the window.
struct mixer_call {
    const struct mixer_weights *weights;
    const float *next_norm; // [hidden], of the norm behind this layer
    struct scan_batch batch;
    int64_t row; // the window's first, in the step
};

// What a step begins with: the rows of the embedding become the residual.
struct mixer_begin {
    const int32_t *token;    // [rows], backend memory
    struct matrix embedding; // [vocab, hidden]
    const float *norm;       // [hidden], of the first layer
    int64_t rows;
};

// What it ends with: the final norm and the head, as ops/op.h says of rms_norm and head.
struct mixer_head {
    const float *norm;
    const struct packed_weight *weight;
    const int32_t *target;
    float *nll;
    int64_t rows;
};

// Of some of its rows: what the model would go on with, by the operators rms_norm, linear and best. After
// the last layer, before the next begin; a row's answer does not depend on what else is asked. Its last
// digits may be others than those of head's logits.
struct mixer_ask {
    const float *norm;
    const struct packed_weight *weight;
    const int32_t *row;      // [rows] of the step, backend memory
    const int32_t *target;   // [rows], as best_args has it
    int64_t rows;            // at most mixer_shape.asked
    struct best_token *best; // [rows], backend memory
};

struct mixer;

struct mixer_table {
    void (*close)(struct mixer *mixer);
    enum status (*begin)(struct mixer *mixer, const struct mixer_begin *begin);
    enum status (*project)(struct mixer *mixer, const struct mixer_call *call);
    enum status (*tail)(struct mixer *mixer, const struct mixer_call *call);
    enum status (*prepare)(struct mixer *mixer, const struct mixer_call *call);
    enum status (*pass)(struct mixer *mixer, const struct mixer_call *call);
    enum status (*scan)(struct mixer *mixer, const struct mixer_call *call);
    enum status (*project_back)(struct mixer *mixer, const struct mixer_call *call);
    enum status (*head)(struct mixer *mixer, const struct mixer_head *head);
    enum status (*ask)(struct mixer *mixer, const struct mixer_ask *ask);
};

// An implementation's struct begins with this.
struct mixer {
    const struct mixer_table *table;
    int64_t tile_tokens;  // divides CHUNK_TOKENS
    int64_t window_rows;  // most rows of a window, a multiple of tile_tokens
    int64_t window_tiles; // most tiles of one
};

C_END
