#pragma once
// The inner kernels of the convolution and of the scan, compiled once an instruction set
// (scan_kernels.inc). One call works on one tile: of all channels' rows, a group, or a head.
//
// Bits: every number written is one chain of operations in an order these comments give. No chain
// is split or regrouped for speed, so the order of work, the width of vectors, the blocks of rows
// and the other tiles are free.

#include <stdbool.h>
#include <stdint.h>

#define SCAN_PASS_FLOATS 2048 // of a head's state that `pass` carries in one call

// Some channels of one tile's rows. Input row r, counted from the tile's first and reaching down to
// -(d_conv - 1), lies at in + r * in_stride if it is the span's own, which it is from -before on;
// else at tail, where [d_conv - 1] rows lie; without tail it is zero.
struct conv_part {
    const float *in;
    int64_t in_stride, before;
    const float *tail; // or NULL
    int64_t tail_stride;
    const float *taps; // [d_conv, taps_stride]
    int64_t taps_stride, d_conv;
    const float *bias; // or NULL
    float *out;
    int64_t out_stride;
    int64_t rows, channels;
};

// One group of a tile.
struct group_tile {
    const float *b, *c; // [rows, d_state]
    int64_t stride;     // of both
    int64_t rows, d_state;
    float *cb; // [CPU_TILE_TOKENS, CPU_TILE_TOKENS]
};

// One head of a tile. What a kernel does not name it does not touch.
struct head_tile {
    int64_t rows, head_dim, d_state;
    const float *x, *b, *c; // [rows, head_dim or d_state]
    int64_t xbc_stride;     // of the three
    const float *dt;        // [rows]
    int64_t dt_stride;
    const float *cumsum; // [rows]
    int64_t cumsum_stride;
    const float *cb; // [CPU_TILE_TOKENS, CPU_TILE_TOKENS]
    float *state;    // [d_state, head_dim]; NULL for chunk_scan: the state before the tile is zero
    float d;
    float *y; // [rows, head_dim]
    int64_t y_stride;
};

struct scan_kernels {
    // acc = bias; acc = fma(tap[j], in[r - (d_conv - 1) + j], acc) for j ascending; out = silu(acc)
    void (*conv)(const struct conv_part *part);

    // cb[i][j] = chain over n ascending of fma(c[i][n], b[j][n], acc), for j <= i at least.
    void (*chunk_cb)(const struct group_tile *tile);

    // w[i] = exp(min(s_last - s_i, 0)) * dt_i, xs = w[i] * x[i][p];
    // state[n][p] = chain over i ascending of fma(b[i][n], xs, acc)
    void (*chunk_state)(const struct head_tile *tile);

    // next = fma(exp(log_decay), h, state); state becomes h, h becomes next. own false: state has
    // no sum of its own to add and only takes h, and h stays. takes false: it keeps its own.
    void (*pass)(float log_decay, int64_t count, float *h, float *state, bool takes, bool own);

    // acc = chain over n ascending of fma(c[i][n], state[n][p], acc); acc = acc * exp(s_i);
    // acc = fma(cb[i][j] * exp(min(s_i - s_j, 0)) * dt_j, x[j][p], acc) for j = 0 ... i;
    // y[i][p] = fma(d, x[i][p], acc)
    void (*chunk_scan)(const struct head_tile *tile);
};
