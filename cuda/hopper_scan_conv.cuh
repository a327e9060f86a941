#pragma once
// The causal convolution of W neighbouring channels, row after row, as hopper_scan_prep.cu (B and
// C) and hopper_scan_state.cu (x) do it: four taps from the oldest, one fma each, from the bias
// on; then SiLU, as silu() does it. W is 4 or 8: 8 or 16 bytes of a row.

#include "cuda/hopper_scan_ptx.cuh"
#include "cuda/hopper_scan_shared.h"

namespace ssd {

constexpr float kLog2E = 1.44269504f;

template <int W>
struct conv {
    // Halved: the sum is h = x / 2, and SiLU is h + h tanh h.
    float weight[4][W]; // [tap][channel]; a shorter convolution has zeros for its oldest taps
    float bias[W];
};

// `channel` among conv_width.
template <int W>
__device__ inline void conv_load(conv<W> &conv, const float *weight, const float *bias,
                                 int64_t channel, int d_conv) {
    const bool whole = W == 4 && d_conv == 4; // a channel's taps at once
    if (whole) {
#pragma unroll
        for (int c = 0; c < W; c++) {
            const float4 taps = __ldg(reinterpret_cast<const float4 *>(weight) + channel + c);
            conv.weight[0][c] = taps.x * 0.5f;
            conv.weight[1][c] = taps.y * 0.5f;
            conv.weight[2][c] = taps.z * 0.5f;
            conv.weight[3][c] = taps.w * 0.5f;
        }
    }
#pragma unroll
    for (int c = 0; c < W; c++) {
        conv.bias[c] = bias != nullptr ? __ldg(bias + channel + c) * 0.5f : 0.0f;
        if (whole) continue;
#pragma unroll
        for (int tap = 0; tap < 4; tap++) {
            const int at = tap - (4 - d_conv);
            conv.weight[tap][c] =
                at >= 0 ? __ldg(weight + (channel + c) * d_conv + at) * 0.5f : 0.0f;
        }
    }
}

template <int W>
struct piece_of; // a row's W channels
template <>
struct piece_of<4> {
    using type = uint2;
};
template <>
struct piece_of<8> {
    using type = uint4;
};
template <int W>
using piece = typename piece_of<W>::type;

__device__ inline void unpack(float (&out)[4], uint2 in) {
    out[0] = low(in.x), out[1] = high(in.x), out[2] = low(in.y), out[3] = high(in.y);
}
__device__ inline void unpack(float (&out)[8], uint4 in) {
    out[0] = low(in.x), out[1] = high(in.x), out[2] = low(in.y), out[3] = high(in.y);
    out[4] = low(in.z), out[5] = high(in.z), out[6] = low(in.w), out[7] = high(in.w);
}
__device__ inline uint2 pack(const float (&in)[4]) {
    return make_uint2(pack(in[0], in[1]), pack(in[2], in[3]));
}
__device__ inline uint4 pack(const float (&in)[8]) {
    return make_uint4(pack(in[0], in[1]), pack(in[2], in[3]), pack(in[4], in[5]),
                      pack(in[6], in[7]));
}

// Rows t - 3 to t give row t.
template <int W>
__device__ inline void conv_row(float (&out)[W], const conv<W> &conv, const float (&in0)[W],
                                const float (&in1)[W], const float (&in2)[W],
                                const float (&in3)[W]) {
#pragma unroll
    for (int c = 0; c < W; c++) {
        float sum = fmaf(conv.weight[0][c], in0[c], conv.bias[c]);
        sum = fmaf(conv.weight[1][c], in1[c], sum);
        sum = fmaf(conv.weight[2][c], in2[c], sum);
        sum = fmaf(conv.weight[3][c], in3[c], sum);
        out[c] = fmaf(sum, tanh_fast(sum), sum);
    }
}

// A span's convolution part of a layer's state, or NULL for zeros.
__device__ inline const float *conv_state(const scan_batch &batch, const scan_span &span) {
    if (span.state_in == nullptr) return nullptr;
    return reinterpret_cast<const float *>(span.state_in + batch.layer * span.in_layer_bytes +
                                           batch.conv_offset);
}

// Row `back` (1 to 3) before a span's first. Loaded as any memory: the kernel that writes it may
// still have run when the caller's began (overlap.cuh), and what __ldg reads must not change.
template <int W>
__device__ inline void halo(float (&out)[W], const float *state, int64_t conv_width,
                            int64_t channel, int d_conv, int back) {
    const int row = d_conv - 1 - back;
#pragma unroll
    for (int c = 0; c < W; c++) {
        out[c] = state != nullptr && row >= 0 ? state[row * conv_width + channel + c] : 0.0f;
    }
}

} // namespace ssd
