#pragma once
// A whole Mamba-2 model, token by token in float64: what every backend's scores are tested against.
// It shares no code and no formula with the fast path: no tiles, no packed weights, no batches.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stdint.h>

C_BEGIN

struct oracle_layer {
    const float *norm;          // [d_model]
    const float *in_proj;       // [2 d_inner + 2 groups d_state + heads, d_model]: z, x, B, C, dt
    const float *in_proj_bias;  // one a row of in_proj, or NULL
    const float *conv;          // [conv_width, d_conv], the last tap hits the current token
    const float *conv_bias;     // [conv_width] or NULL
    const float *dt_bias;       // [heads]
    const float *a_log;         // [heads]: A = -exp(a_log)
    const float *d;             // [heads]
    const float *gate_norm;     // [d_inner]
    const float *out_proj;      // [d_model, d_inner]
    const float *out_proj_bias; // [d_model] or NULL
};

// All pointers are borrowed and must outlive the oracle.
struct oracle_weights {
    int64_t vocab, d_model, layers, heads, head_dim, d_state, groups, d_conv;
    double epsilon;
    double dt_least, dt_most;
    bool norm_before_gate;
    int64_t norm_groups;              // of the gated norm: groups, or 1
    const float *embedding;           // [vocab, d_model]
    const float *head;                // [vocab, d_model]; the embedding where tied
    const float *final_norm;          // [d_model]
    const struct oracle_layer *layer; // [layers]
};

struct oracle;

// At the start of a document. Errors: NO_MEMORY.
enum status oracle_open(const struct oracle_weights *weights, struct oracle **opened);
// Takes one token. The logits [vocab] of the next one stay valid until the next call.
const double *oracle_step(struct oracle *oracle, int32_t token);
// The SSM state [heads, d_state, head_dim] of a layer, after the tokens taken.
const double *oracle_state(const struct oracle *oracle, int64_t layer);
void oracle_close(struct oracle *oracle); // accepts NULL

// Nats of `token` under logits.
double oracle_nll(const double *logits, int64_t vocab, int32_t token);

// nll[i] = nats of token[i + 1] given token[0..i], for i < tokens - 1. Errors: NO_MEMORY.
enum status oracle_score(const struct oracle_weights *weights, const int32_t *token, int64_t tokens,
                         double *nll);

C_END
