// The convolution over time, and SiLU.

#include "cuda/cuda_backend.h"
#include "cuda/float_math.cuh"
#include "cuda/scan_batch.cuh"

namespace {

constexpr int kThreads = 128;
constexpr int kRows = 16; // of a tile that a block works on

// Input row r of a span, one channel; what lies before the span comes from its state.
__device__ float conv_input(const struct conv_args &a, const struct scan_span *span,
                            const float *tail, int64_t r, int64_t channel) {
    if (r >= 0) return a.in.data[(span->row + r) * a.in.stride + channel];
    if (tail == NULL) return 0.0f;
    return tail[(a.d_conv - 1 + r) * a.in.columns + channel];
}

// Grid: (tiles, blocks of kThreads channels, blocks of kRows rows)  Block: (kThreads)
// Shared: none. A thread goes down kRows rows of one channel with the last inputs in registers; the
// chain over taps begins with the bias, the oldest row first. Taps 0: any number of them.
template <int Taps>
__global__ void __launch_bounds__(kThreads) causal_conv_kernel(struct conv_args a) {
    const struct scan_tile tile = a.batch.tile[blockIdx.x];
    const struct scan_span *span = &a.batch.span[tile.span];
    const int64_t channel = (int64_t)blockIdx.y * kThreads + threadIdx.x;
    const int64_t first = blockIdx.z * kRows;
    const int64_t taps = Taps > 0 ? Taps : a.d_conv;
    const char *state = layer_in(a.batch, span);
    if (channel >= a.in.columns || first >= tile.rows) return;
    const float *tail = state == NULL ? NULL : (const float *)(state + a.batch.conv_offset);
    const float *tap = a.weight + channel * taps;
    const float bias = a.bias == NULL ? 0.0f : a.bias[channel];
    const int64_t before = tile.row - span->row + first; // rows of the span above the first
    float *out = a.out.data + (tile.row + first) * a.out.stride + channel;
    float in[kRows + Taps];
    if (Taps > 0) {
#pragma unroll
        for (int i = 0; i < kRows + Taps - 1; i++) {
            const bool there = first + i - (Taps - 1) < tile.rows;
            in[i] = there ? conv_input(a, span, tail, before + i - (Taps - 1), channel) : 0.0f;
        }
    }
#pragma unroll
    for (int i = 0; i < kRows; i++) {
        if (first + i >= tile.rows) return;
        float sum = bias;
#pragma unroll
        for (int j = 0; j < (Taps > 0 ? Taps : taps); j++) {
            const float x = Taps > 0
                                ? in[i + j]
                                : conv_input(a, span, tail, before + i - (taps - 1) + j, channel);
            sum = fmaf(tap[j], x, sum);
        }
        out[i * a.out.stride] = silu_f32(sum);
    }
}

} // namespace

enum status cuda_causal_conv(struct backend *backend, const struct conv_args *args) {
    const dim3 grid((unsigned)args->batch.tiles,
                    (unsigned)((args->in.columns + kThreads - 1) / kThreads),
                    (unsigned)((backend->tile_tokens + kRows - 1) / kRows));
    cudaStream_t stream = cuda_backend_stream(backend);
    switch (args->d_conv) {
    case 2: causal_conv_kernel<2><<<grid, kThreads, 0, stream>>>(*args); break;
    case 3: causal_conv_kernel<3><<<grid, kThreads, 0, stream>>>(*args); break;
    case 4: causal_conv_kernel<4><<<grid, kThreads, 0, stream>>>(*args); break;
    default: causal_conv_kernel<0><<<grid, kThreads, 0, stream>>>(*args);
    }
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
