#pragma once
// The operators once more, each as the plainest loop in double: what the fast ones are tested
// against. Same argument structs as ops/backend.h, in host memory; the shapes are the caller's word.
// Every result is computed in double from the f32 inputs and rounded to f32 once, when stored.

#include "ops/backend.h"

C_BEGIN

void ref_embedding(const struct embedding_args *args);
void ref_rms_norm(const struct rms_norm_args *args);
// weight [outputs, inputs] takes the place of args->weight, which is packed.
void ref_linear(const struct linear_args *args, const float *weight);
void ref_conv_tail(const struct conv_args *args);
void ref_causal_conv(const struct conv_args *args);
void ref_dt(const struct dt_args *args);
void ref_gated_norm(const struct gated_norm_args *args);
// weight [vocab, d_model] takes the place of args->weight.
void ref_head(const struct head_args *args, const float *weight, int64_t vocab);
void ref_best(const struct best_args *args);

// The five stages by their formulas in ops/op.h, each from its predecessor's stored results.
void ref_chunk_cumsum(const struct scan_args *args);
void ref_chunk_cb(const struct scan_args *args, int64_t tile_tokens);
void ref_chunk_state(const struct scan_args *args);
void ref_state_passing(const struct scan_args *args);
void ref_chunk_scan(const struct scan_args *args, int64_t tile_tokens);

// The whole scan as its definition, token by token:
//   h = exp(dt A) h + dt B (x) x;  y = C . h + D x
// Reads xbc, dt, a, d and every span's state_in; writes y and every span's state_out. Knows nothing
// of tiles. Errors: NO_MEMORY.
enum status ref_scan(const struct scan_args *args);

double ref_silu(double x);
double ref_softplus(double x);

C_END
