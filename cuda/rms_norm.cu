// RMS norm of rows.

#include "cuda/cuda_backend.h"
#include "cuda/row_sum.cuh"

namespace {

constexpr int kThreads = 256;
constexpr int kRows = kThreads / kLanes; // of a block

// Grid: (blocks of kRows rows)  Block: (kThreads), 16 threads a row  Shared: none
// Rows past the last are computed as the last again and not written: shuffles need all threads.
// in and out may be the same rows: a thread writes what it has read.
__global__ void __launch_bounds__(kThreads) rms_norm_kernel(struct rms_norm_args a) {
    const int lane = threadIdx.x % kLanes;
    const int64_t wanted = (int64_t)blockIdx.x * kRows + threadIdx.x / kLanes;
    const int64_t row = wanted < a.in.rows ? wanted : a.in.rows - 1;
    const float *in = a.in.data + row * a.in.stride;
    float *out = a.out.data + row * a.out.stride;
    float squares = 0.0f;
#pragma unroll 4
    for (int64_t c = lane; c < a.in.columns; c += kLanes) {
        squares = fmaf(in[c], in[c], squares);
    }
    const float scale = lanes_scale(squares, a.in.columns, a.epsilon);
    if (row != wanted) return;
#pragma unroll 4
    for (int64_t c = lane; c < a.in.columns; c += kLanes) {
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
