#pragma once
// What a warpgroup does with one subtile of one head in hopper_scan.cu. Compiled for sm_90a only.

#include "cuda/hopper_scan_ptx.cuh"
#include "cuda/hopper_scan_shared.h"

namespace ssd {

struct panel { // 64 rows of 64 columns, swizzled: hopper_scan_ptx.cuh
    __nv_bfloat16 element[64 * 64];
};

// A thread's place in the accumulators of its warpgroup: rows top = 16 warp + lane / 4 and top + 8,
// columns 8 j + 2 quad and the next one. d[4 j + 0, 1]: row top, d[4 j + 2, 3]: row top + 8.
struct place {
    int thread, warp, top, quad;
    uint32_t matrices;        // offset of the 8 x 8 matrices that fit the accumulator
    uint32_t turned_matrices; // of those that fit x^T as a left operand: rows p, columns tokens
};

__device__ inline place place_of(int thread) {
    const int lane = thread % 32;
    const int warp = thread / 32;
    const int seven = lane % 8;
    const int row = warp * 16 + lane % 16;
    const int token = seven + lane / 16 * 8;
    const int column = warp * 2 + lane / 8 % 2;
    return {thread,
            warp,
            warp * 16 + lane / 4,
            lane % 4,
            (uint32_t)(row * 128 + (lane / 16 ^ seven) * 16),
            (uint32_t)(token * 128 + (column ^ seven) * 16)};
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

// H as bf16, rows p, n along the row.
__device__ inline void store_state(const float (&h)[64], panel (&to)[2], const place &me) {
    const uint32_t base = shared_address(to) + me.matrices;
#pragma unroll
    for (int j = 0; j < 8; j++) { // 16 of n at a time
        uint32_t m[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            m[i] = pack(h[8 * j + 2 * i], h[8 * j + 2 * i + 1]);
        }
        store_matrices((base + j / 4 * (uint32_t)sizeof(panel)) ^ (j % 4 * 32), m);
    }
}

// (w x)^T as the left operand of the state's product: rows p, columns tokens.
__device__ inline void weigh_x(uint32_t (&wx)[16], const panel &x, const float4 *decay,
                               const place &me) {
    const uint32_t base = shared_address(&x) + me.turned_matrices;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        uint32_t m[4];
        const float4 *row = decay + 16 * k + 2 * me.quad;
        const float2 w0 = make_float2(row[0].z, row[1].z);
        const float2 w1 = make_float2(row[8].z, row[9].z);
        load_matrices_turned(m, base + k * 2048);
        wx[4 * k + 0] = pack(low(m[0]) * w0.x, high(m[0]) * w0.y);
        wx[4 * k + 1] = pack(low(m[1]) * w0.x, high(m[1]) * w0.y);
        wx[4 * k + 2] = pack(low(m[2]) * w1.x, high(m[2]) * w1.y);
        wx[4 * k + 3] = pack(low(m[3]) * w1.x, high(m[3]) * w1.y);
    }
}

// M_ij = score_ij f_ij. The factors f_ij = 2^(s_i - s_j) dt_j of the thread's entries, in the order
// of the accumulator, of 16 columns left of the warp's rows: s falls, so with any row between them
// both of 2^(s_i - s_ref) and 2^(s_ref - s_j) are at most 1. rise: of the rows top and top + 8.
__device__ inline void factors_left(float *f, const float4 *decay, float reference, float2 rise) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float4 column = decay[i / 2 * 8 + i % 2];
        const float fall = exp2_fast(reference - column.x) * column.y;
        f[i / 2 * 4 + i % 2] = fall * rise.x;
        f[i / 2 * 4 + i % 2 + 2] = fall * rise.y;
    }
}

// Of the 16 columns on the diagonal. Entries above it may overflow: they are never used.
__device__ inline void factors_diagonal(float *f, const float4 *decay, float s_top, float s_low) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float4 column = decay[i / 2 * 8 + i % 2];
        f[i / 2 * 4 + i % 2] = i < 2 ? exp2_fast(s_top - column.x) * column.y : 0.0f;
        f[i / 2 * 4 + i % 2 + 2] = exp2_fast(s_low - column.x) * column.y;
    }
}

__device__ inline void factors(float (&f)[32], const float4 *decay, const place &me) {
    const float s_top = decay[me.top].x;
    const float s_low = decay[me.top + 8].x;
    const float reference = decay[me.warp > 0 ? me.warp * 16 - 1 : 0].x;
    const float2 rise = make_float2(exp2_fast(s_top - reference), exp2_fast(s_low - reference));
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const float4 *column = decay + 16 * k + 2 * me.quad;
        if (k < me.warp) {
            factors_left(f + 8 * k, column, reference, rise);
        } else if (k == me.warp) {
            factors_diagonal(f + 8 * k, column, s_top, s_low);
        }
    }
}

__device__ inline float kept(float value, uint32_t mask) { // a select would become a branch
    return __uint_as_float(__float_as_uint(value) & mask);
}

// M as a left operand. What is right of the diagonal may be NaN, so it is cut out, not multiplied.
__device__ inline void mask_scores(uint32_t (&m)[16], const float (&score)[32],
                                   const float (&f)[32], const place &me) {
    const uint32_t left = 2 * me.quad <= me.top % 16 ? ~0u : 0u; // in a block on the diagonal
    const uint32_t right = 2 * me.quad < me.top % 16 ? ~0u : 0u;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        if (k > me.warp) {
            m[4 * k] = m[4 * k + 1] = m[4 * k + 2] = m[4 * k + 3] = 0;
            continue;
        }
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            v[i] = score[8 * k + i] * f[8 * k + i];
        }
        if (k == me.warp) {
            v[0] = kept(v[0], left), v[1] = kept(v[1], right);
            v[4] = v[5] = 0.0f;
            v[6] = kept(v[6], left), v[7] = kept(v[7], right);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            m[4 * k + i] = pack(v[2 * i], v[2 * i + 1]);
        }
    }
}

// silu(z) of the thread's entries.
__device__ inline void load_gate(float (&gate)[32], const panel &z, const place &me) {
    const uint32_t at = shared_address(&z) + me.matrices;
    uint32_t m[4][4];
#pragma unroll
    for (int j = 0; j < 4; j++) { // 16 columns at a time
        load_matrices(m[j], at ^ (j * 32));
    }
#pragma unroll
    for (int i = 0; i < 16; i++) {
        gate[2 * i] = silu(low(m[i / 4][i % 4]));
        gate[2 * i + 1] = silu(high(m[i / 4][i % 4]));
    }
}

// v, which goes where z was. Returns the sums of v^2 of the thread's two rows.
__device__ inline float2 store_gated(const float (&carried)[32], const float (&inner)[32],
                                     const float (&gate)[32], float2 rise, float d,
                                     const float *norm_weight, const panel &x, panel &z,
                                     const place &me) {
    const uint32_t x_at = shared_address(&x) + me.matrices;
    const uint32_t z_at = shared_address(&z) + me.matrices;
    float sum[2] = {0.0f, 0.0f};
    uint32_t m[4][4]; // x, then v
#pragma unroll
    for (int j = 0; j < 4; j++) {
        load_matrices(m[j], x_at ^ (j * 32));
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int at = 8 * j + 2 * i;
            const float up = i % 2 == 0 ? rise.x : rise.y;
            float y0 = fmaf(up, carried[at], inner[at]);
            float y1 = fmaf(up, carried[at + 1], inner[at + 1]);
            y0 = fmaf(d, low(m[j][i]), y0);
            y1 = fmaf(d, high(m[j][i]), y1);
            const float v0 = y0 * gate[at];
            const float v1 = y1 * gate[at + 1];
            sum[i % 2] = fmaf(v0, v0, sum[i % 2]);
            sum[i % 2] = fmaf(v1, v1, sum[i % 2]);
            const float2 weight = load2(norm_weight + 16 * j + i / 2 * 8 + 2 * me.quad);
            m[j][i] = pack(v0 * weight.x, v1 * weight.y);
        }
        store_matrices(z_at ^ (j * 32), m[j]);
    }
    return make_float2(sum[0], sum[1]);
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

// --- the products of a subtile; each is started, not waited for ----------------------------------
// d[i][j] = sum over n of a[i][n] b[j][n]
__device__ inline void product_over_state(float (&d)[32], const panel (&a)[2],
                                          const panel (&b)[2]) {
    const uint64_t left = descriptor(a, 0);
    const uint64_t right = descriptor(b, 0);
#pragma unroll
    for (int k = 0; k < 8; k++) {
        const uint64_t on = k / 4 * (sizeof(panel) >> 4) + k % 4 * kNext16Columns;
        product_n64(d, left + on, right + on, k > 0);
    }
}

// d[i][p] = sum over rows j of m[i][j] x[j][p]
__device__ inline void product_over_rows(float (&d)[32], const uint32_t (&m)[16], const panel &x) {
    const uint64_t right = descriptor(&x, 0);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        product_n64_turned(d, m + 4 * k, right + k * kNext16Rows, k > 0);
    }
}

// h[p][n] += sum over rows j of wx[p][j] b[j][n]
__device__ inline void add_product_over_rows(float (&h)[64], const uint32_t (&wx)[16],
                                             const panel (&b)[2]) {
    const uint64_t right = descriptor(b, sizeof(panel));
#pragma unroll
    for (int k = 0; k < 4; k++) {
        product_n128_turned(h, wx + 4 * k, right + k * kNext16Rows);
    }
}

} // namespace ssd
