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
// Shared: none. A thread goes down kRows rows of one channel; the chain over taps begins with the
// bias, the oldest row first.
__global__ void __launch_bounds__(kThreads) causal_conv_kernel(struct conv_args a) {
    const struct scan_tile tile = a.batch.tile[blockIdx.x];
    const struct scan_span *span = &a.batch.span[tile.span];
    const int64_t channel = (int64_t)blockIdx.y * kThreads + threadIdx.x;
    const int64_t first = blockIdx.z * kRows;
    const char *in = layer_in(a.batch, span);
    if (channel >= a.in.columns || first >= tile.rows) return;
    const float *tail = in == NULL ? NULL : (const float *)(in + a.batch.conv_offset);
    const float *tap = a.weight + channel * a.d_conv;
    const float bias = a.bias == NULL ? 0.0f : a.bias[channel];
    const int64_t end = first + kRows < tile.rows ? first + kRows : tile.rows;
    float *out = a.out.data + tile.row * a.out.stride + channel;
#pragma unroll 4
    for (int64_t i = first; i < end; i++) {
        const int64_t r = tile.row - span->row + i;
        float sum = bias;
        for (int64_t j = 0; j < a.d_conv; j++) {
            sum = fmaf(tap[j], conv_input(a, span, tail, r - (a.d_conv - 1) + j, channel), sum);
        }
        out[i * a.out.stride] = silu_f32(sum);
    }
}

} // namespace

enum status cuda_causal_conv(struct backend *backend, const struct conv_args *args) {
    const dim3 grid((unsigned)args->batch.tiles,
                    (unsigned)((args->in.columns + kThreads - 1) / kThreads),
                    (unsigned)((backend->tile_tokens + kRows - 1) / kRows));
    causal_conv_kernel<<<grid, kThreads, 0, cuda_backend_stream(backend)>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
