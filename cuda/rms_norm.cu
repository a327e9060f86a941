// RMS norm of rows.

#include "cuda/cuda_backend.h"
#include "cuda/row_sum.cuh"

namespace {

constexpr int kThreads = 128;
constexpr int kRows = kThreads / kWarp; // of a block

// Grid: (blocks of kRows rows)  Block: (kThreads), a warp a row  Shared: none
// in and out may be the same rows: a thread writes what it has read.
__global__ void __launch_bounds__(kThreads) rms_norm_kernel(struct rms_norm_args a) {
    const int lane = threadIdx.x % kWarp;
    const int64_t row = (int64_t)blockIdx.x * kRows + threadIdx.x / kWarp;
    if (row >= a.in.rows) return; // the whole warp
    const float *in = a.in.data + row * a.in.stride;
    float *out = a.out.data + row * a.out.stride;
    float squares = 0.0f;
#pragma unroll 8
    for (int64_t first = 0; first < a.in.columns; first += kWarp) {
        const int64_t c = first + lane;
        const bool there = c < a.in.columns;
        squares = lanes_add_square(there ? in[c] : 0.0f, there, squares);
    }
    const float scale = row_scale(squares, a.in.columns, a.epsilon);
#pragma unroll 8
    for (int64_t c = lane; c < a.in.columns; c += kWarp) {
        out[c] = in[c] * scale * a.weight[c];
    }
}

} // namespace

enum status cuda_rms_norm(struct backend *backend, const struct rms_norm_args *args) {
    const unsigned blocks = (unsigned)((args->in.rows + kRows - 1) / kRows);
    rms_norm_kernel<<<blocks, kThreads, 0, cuda_backend_stream(backend)>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
