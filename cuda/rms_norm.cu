// RMS norm of rows.

#include "cuda/cuda_backend.h"
#include "cuda/row_sum.cuh"

namespace {

constexpr int kThreads = 128;
constexpr int kRows = kThreads / kWarp; // of a block
constexpr int kAhead = 8;               // columns of a thread fetched at once

// Grid: (blocks of kRows rows)  Block: (kThreads), a warp a row  Shared: none
// in and out may be the same rows: a thread writes what it has read.
__global__ void __launch_bounds__(kThreads) rms_norm_kernel(struct rms_norm_args a) {
    const int lane = threadIdx.x % kWarp;
    const int64_t row = (int64_t)blockIdx.x * kRows + threadIdx.x / kWarp;
    if (row >= a.in.rows) return; // the whole warp
    const float *in = a.in.data + row * a.in.stride;
    float *out = a.out.data + row * a.out.stride;
    float squares = 0.0f;
    for (int64_t first = lane; first - lane < a.in.columns; first += kAhead * kWarp) {
        float v[kAhead];
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            const int64_t c = first + i * kWarp;
            v[i] = c < a.in.columns ? in[c] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            squares = lanes_add_square(v[i], first + i * kWarp < a.in.columns, squares);
        }
    }
    const float scale = row_scale(squares, a.in.columns, a.epsilon);
    for (int64_t first = lane; first < a.in.columns; first += kAhead * kWarp) {
        float v[kAhead];
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            const int64_t c = first + i * kWarp;
            v[i] = c < a.in.columns ? in[c] * scale * a.weight[c] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            const int64_t c = first + i * kWarp;
            if (c < a.in.columns) out[c] = v[i];
        }
    }
}

} // namespace

enum status cuda_rms_norm(struct backend *backend, const struct rms_norm_args *args) {
    const unsigned blocks = (unsigned)((args->in.rows + kRows - 1) / kRows);
    rms_norm_kernel<<<blocks, kThreads, 0, cuda_backend_stream(backend)>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
