#pragma once
// The operators, each with its one checked caller. Shapes are checked here, once for all
// backends; implementations trust them. A wrong shape is a bug and stops the program.
// All are queued. Errors: PEER (device lost), NO_MEMORY.
//
// Bits: a row's result depends on its own inputs and on the tokens of its span before it only,
// never on its place in the batch, the other rows, threads or tiles of the implementation.

#include "ops/backend.h"

C_BEGIN

// out[t] = weight[token[t]]
enum status op_embedding(struct backend *backend, const struct embedding_args *args);

// out[t] = in[t] * rsqrt(mean(in[t]^2) + epsilon) * weight
enum status op_rms_norm(struct backend *backend, const struct rms_norm_args *args);

// out[t, n] (+)= sum over k ascending, one fma each, of in[t, k] * weight[n, k], then + bias[n];
// a backend of another dtype says how it rounds and adds (on the CPU: ops/cpu/bf16_kernels.h)
enum status op_linear(struct backend *backend, const struct linear_args *args);

// The last d_conv - 1 rows of `in` of each span with a state_out, older ones from state_in, into
// state_out's convolution part. Depends on nothing from the left if the span has that many rows.
enum status op_conv_tail(struct backend *backend, const struct conv_args *args);

// out[t, c] = silu(bias[c] + sum_{j < d_conv} weight[c, j] * in[t - (d_conv - 1) + j, c]);
// what lies before the span's first row comes from state_in's convolution part.
enum status op_causal_conv(struct backend *backend, const struct conv_args *args);

// out = clamp(softplus(in + bias), least, most)
enum status op_dt(struct backend *backend, const struct dt_args *args);

// The five stages of the SSD scan, named as in mamba_ssm/ops/triton/ssd_*.py. In tile c, local
// index i, s = cumsum:
//   chunk_cumsum   s_i = sum_{j <= i} dt_j A
//   chunk_cb       cb_ij = C_i . B_j (per group; only j <= i is defined)
//   chunk_state    states_c[n, p] = sum_i exp(s_last - s_i) dt_i B_i[n] x_i[p]
//   state_passing  H_0 = state_in; H_{c+1} = exp(s_last) H_c + states_c; states_c becomes H_c,
//                  the state before tile c; state_out = the H after the span's last tile
//   chunk_scan     y_i[p] = exp(s_i) C_i . H_c[:, p] + sum_{j <= i} cb_ij exp(s_i - s_j) dt_j x_j[p]
//                           + D x_i[p]
// An implementation may leave out what nobody sees: the states_c of a span's last tile without
// state_out, and the H_c of its first tile without state_in, which is zero.
enum status op_chunk_cumsum(struct backend *backend, const struct scan_args *args);
enum status op_chunk_cb(struct backend *backend, const struct scan_args *args);
enum status op_chunk_state(struct backend *backend, const struct scan_args *args);
enum status op_state_passing(struct backend *backend, const struct scan_args *args);
enum status op_chunk_scan(struct backend *backend, const struct scan_args *args);

// v = y * silu(z); out = v * rsqrt(mean over its group(v^2) + epsilon) * weight.
// norm_before_gate: out = norm(y) * weight * silu(z).
enum status op_gated_norm(struct backend *backend, const struct gated_norm_args *args);

// nll[t] = log(sum_v exp(logit_v)) - logit_target, logits = in[t] . weight; never all in memory.
enum status op_head(struct backend *backend, const struct head_args *args);

// best[t]: the lowest v of the greatest logit[t, v], and logit[t, target[t]] less the greatest of any
// other v. What is not a number counts as -infinity, so that the token is in the vocabulary whatever
// the logits are; as the target's logit it makes the margin no number either. Equal numbers, equal bits,
// on every backend.
enum status op_best(struct backend *backend, const struct best_args *args);

C_END
