#pragma once
// What a warpgroup does with 64 rows of one head in hopper_scan.cu. Compiled for sm_90a only.

#include "cuda/hopper_scan_ptx.cuh"
#include "cuda/hopper_scan_shared.h"

namespace ssd {

struct alignas(1024) panel { // 64 rows of 64 columns, swizzled: hopper_scan_ptx.cuh
    __nv_bfloat16 element[64 * 64];
};

// A thread's place in the accumulators of its warpgroup: rows top = 16 warp + lane / 4 and top + 8,
// columns 8 j + 2 quad and the next one. d[4 j + 0, 1]: row top, d[4 j + 2, 3]: row top + 8. Packed as
// a left operand, m[2 j + 0, 1] are the same pairs.
struct place {
    int thread, warp, top, quad;
    uint32_t matrices; // offset of the 8 x 8 matrices that fit the accumulator
};

__device__ inline place place_of(int thread) {
    const int lane = thread % 32;
    const int warp = thread / 32;
    const int row = warp * 16 + lane % 16;
    return {thread, warp, warp * 16 + lane / 4, lane % 4,
            (uint32_t)(row * 128 + (lane / 16 ^ lane % 8) * 16)};
}

__device__ inline float2 load2(const float *from) {
    return *reinterpret_cast<const float2 *>(from);
}

// Rows from `rows` on are the next span's: 0 * NaN is NaN, so they must not reach the product.
__device__ inline void clear_rows(panel &x, int rows, int thread) {
    for (int i = rows * 8 + thread; i < SCAN_SUBTILE * 8; i += 128) {
        reinterpret_cast<uint4 *>(x.element)[i] = make_uint4(0, 0, 0, 0);
    }
    __syncwarp(); // the next instruction wants the warp as one
}

// --- M as a left operand, from scores that were rounded to bf16 ----------------------------------
__device__ inline float kept(float value, uint32_t mask) { // a select would become a branch
    return __uint_as_float(__float_as_uint(value) & mask);
}

// 16 columns left of the warp's rows, M_ij = score_ij e_j 2^(s_i - s_end) with `end` the last of these
// columns: s falls, so neither factor is above 1, but for dt. e: from the thread's first column on.
__device__ inline void mask_block(uint32_t *m, const uint32_t *score, const float *e, float2 rise) {
    const float2 near = load2(e);
    const float2 far = load2(e + 8);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float up = i % 2 == 0 ? rise.x : rise.y;
        const float2 column = i < 2 ? near : far;
        m[i] = multiply_pairs(score[i], pack(up * column.x, up * column.y));
    }
}

// The 16 columns on the diagonal, M_ij = score_ij 2^(s_i - s_j) dt_j for j <= i, and D more for j = i.
// What is right of the diagonal may be NaN, so it is cut out, not multiplied.
__device__ inline void mask_diagonal(uint32_t *m, const uint32_t *score, const scan_decay &decay,
                                     int column, float s_top, float s_low, float d,
                                     const place &me) {
    const int row = me.top % 16;
    const uint32_t left = 2 * me.quad <= row ? ~0u : 0u;
    const uint32_t right = 2 * me.quad < row ? ~0u : 0u;
    const float d_left = 2 * me.quad == row ? d : 0.0f;
    const float d_right = 2 * me.quad + 1 == row ? d : 0.0f;
    // M_ij / score_ij of row top, columns 0 to 7; of row top + 8, columns 0 to 7 and 8 to 15
    float top[2], low_left[2], low_right[2];
    const float2 s_near = load2(decay.s + column), dt_near = load2(decay.dt + column);
    const float2 s_far = load2(decay.s + column + 8), dt_far = load2(decay.dt + column + 8);
    top[0] = exp2_fast(s_top - s_near.x) * dt_near.x;
    top[1] = exp2_fast(s_top - s_near.y) * dt_near.y;
    low_left[0] = exp2_fast(s_low - s_near.x) * dt_near.x;
    low_left[1] = exp2_fast(s_low - s_near.y) * dt_near.y;
    low_right[0] = exp2_fast(s_low - s_far.x) * dt_far.x;
    low_right[1] = exp2_fast(s_low - s_far.y) * dt_far.y;
    m[0] = pack(kept(low(score[0]) * top[0], left) + d_left,
                kept(high(score[0]) * top[1], right) + d_right);
    m[1] = multiply_pairs(score[1], pack(low_left[0], low_left[1]));
    m[2] = 0;
    m[3] = pack(kept(low(score[3]) * low_right[0], left) + d_left,
                kept(high(score[3]) * low_right[1], right) + d_right);
}

// M of a half's own rows and columns.
__device__ inline void mask_own(uint32_t (&m)[16], const uint32_t (&score)[16],
                                const scan_decay &decay, float d, const place &me) {
    const float s_top = decay.s[me.top];
    const float s_low = decay.s[me.top + 8];
#pragma unroll
    for (int k = 0; k < 4; k++) { // 16 columns at a time
        const int column = 16 * k + 2 * me.quad;
        if (k < me.warp) {
            const float end = decay.s[16 * k + 15];
            mask_block(m + 4 * k, score + 4 * k, decay.e + column,
                       make_float2(exp2_fast(s_top - end), exp2_fast(s_low - end)));
        } else if (k == me.warp) {
            mask_diagonal(m + 4 * k, score + 4 * k, decay, column, s_top, s_low, d, me);
        } else {
            m[4 * k] = m[4 * k + 1] = m[4 * k + 2] = m[4 * k + 3] = 0;
        }
    }
}

// M of upper rows and lower columns. rise: the decay from the upper half's start to the rows top and
// top + 8; w_j is that from column j to it, with dt_j.
__device__ inline void mask_left(uint32_t (&m)[16], const uint4 *score, const scan_decay &lower,
                                 float2 rise, const place &me) {
#pragma unroll
    for (int k = 0; k < 4; k++) { // 16 columns at a time
        const float *w = lower.w + 16 * k + 2 * me.quad;
        const float2 near = load2(w);
        const float2 far = load2(w + 8);
        const uint4 four = score[128 * k];
        const uint32_t pair[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float up = i % 2 == 0 ? rise.x : rise.y;
            const float2 column = i < 2 ? near : far;
            m[4 * k + i] = multiply_pairs(pair[i], pack(up * column.x, up * column.y));
        }
    }
}

__device__ inline void pack_scores(uint32_t (&m)[16], const float (&score)[32]) {
#pragma unroll
    for (int i = 0; i < 16; i++) {
        m[i] = pack(score[2 * i], score[2 * i + 1]);
    }
}

// --- y -------------------------------------------------------------------------------------------
// up: of the rows top and top + 8.
__device__ inline void scale_rows(float (&y)[32], float2 up) {
#pragma unroll
    for (int i = 0; i < 32; i++) {
        y[i] *= i % 4 < 2 ? up.x : up.y;
    }
}

// The thread's entries, in pairs.
__device__ inline void load_rows(uint32_t (&m)[16], const panel &from, const place &me) {
    const uint32_t at = shared_address(&from) + me.matrices;
#pragma unroll
    for (int j = 0; j < 4; j++) { // 16 columns at a time
        uint32_t four[4];
        load_matrices(four, at ^ (j * 32));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            m[4 * j + i] = four[i];
        }
    }
}

// h += factor t, both images of a state. factor: a pair.
__device__ inline void add_state(panel (&h)[2], uint32_t factor, const panel (&t)[2], int thread) {
    uint4 *to = reinterpret_cast<uint4 *>(h) + thread;
    const uint4 *from = reinterpret_cast<const uint4 *>(t) + thread;
#pragma unroll
    for (int i = 0; i < SCAN_STATE / 8 / 128; i++) {
        const uint4 tile = from[i * 128];
        uint4 sum = to[i * 128];
        sum.x = add_pairs(sum.x, factor, tile.x);
        sum.y = add_pairs(sum.y, factor, tile.y);
        sum.z = add_pairs(sum.z, factor, tile.z);
        sum.w = add_pairs(sum.w, factor, tile.w);
        to[i * 128] = sum;
    }
}

// silu of 32 columns of z.
__device__ inline void open_gate(float (&gate)[16], const uint32_t *z) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        gate[2 * i] = silu(low(z[i]));
        gate[2 * i + 1] = silu(high(z[i]));
    }
}

// v = y gate, times the norm's weight, to where z was, 32 columns; the two rows' v^2 go onto `sum`.
// to: of z's panel, at the thread's matrices; column: 0 or 32.
__device__ inline void gate_columns(float2 &sum, const float *y, const float (&gate)[16],
                                    const float *norm_weight, uint32_t to, int column,
                                    const place &me) {
#pragma unroll
    for (int j = 0; j < 2; j++) { // 16 columns at a time
        uint32_t m[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int at = 8 * j + 2 * i;
            const float v0 = y[at] * gate[at];
            const float v1 = y[at + 1] * gate[at + 1];
            float &row = i % 2 == 0 ? sum.x : sum.y;
            row = fmaf(v0, v0, row);
            row = fmaf(v1, v1, row);
            const float2 weight = load2(norm_weight + column + 16 * j + i / 2 * 8 + 2 * me.quad);
            m[i] = pack(v0 * weight.x, v1 * weight.y);
        }
        store_matrices(to ^ (2 * column + 32 * j), m);
    }
}

// sq, [rows][heads], from one head's column on: the four threads of a row, in pairs.
__device__ inline void store_squares(float *sq, int64_t heads, int rows, float2 sum,
                                     const place &me) {
    sum.x += __shfl_xor_sync(~0u, sum.x, 1);
    sum.y += __shfl_xor_sync(~0u, sum.y, 1);
    sum.x += __shfl_xor_sync(~0u, sum.x, 2);
    sum.y += __shfl_xor_sync(~0u, sum.y, 2);
    if (me.quad != 0) return;
    if (me.top < rows) sq[me.top * heads] = sum.x;
    if (me.top + 8 < rows) sq[(me.top + 8) * heads] = sum.y;
}

// --- products; each is started, not waited for ---------------------------------------------------
// The right operand of product_over_state: 64 rows of 128, in two panels.
struct operand {
    uint64_t first, next_panel; // of the descriptor
};
__device__ inline operand operand_of(const panel (&p)[2]) {
    return {descriptor(p, 0), sizeof(panel) >> 4};
}

__device__ inline operand operand_of_zeros(const uint4 (&eight_rows)[64]) {
    return {descriptor(eight_rows, 0) & ~(0xffffull << 32), 0}; // again and again
}

// d[i][j] = sum over n of a[i][n] b[j][n]
__device__ inline void product_over_state(float (&d)[32], const panel (&a)[2], operand b) {
    const uint64_t left = descriptor(a, 0);
#pragma unroll
    for (int k = 0; k < 8; k++) {
        product_n64(d, left + k / 4 * (sizeof(panel) >> 4) + k % 4 * kNext16Columns,
                    b.first + k / 4 * b.next_panel + k % 4 * kNext16Columns, k > 0);
    }
}

// y[i][p] += sum over rows j of m[i][j] x[j][p]
__device__ inline void add_rows(float (&y)[32], const uint32_t (&m)[16], const panel &x) {
    const uint64_t right = descriptor(&x, 0);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        product_n64_turned(y, m + 4 * k, right + k * kNext16Rows, 1);
    }
}

} // namespace ssd
