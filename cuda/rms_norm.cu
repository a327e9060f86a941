// RMS norm of rows. A row is one block's work, its sum of squares is added in an order that
// depends on the row's length only, so a row's bits do not depend on the rows beside it.

#include "cuda/cuda_backend.h"

#include <stdint.h>

namespace {

constexpr int kThreads = 256; // a power of two: the sums are folded in halves

struct rms_norm_kernel_args {
    const float *in;     // [rows, columns]
    float *out;          // [rows, columns]
    const float *weight; // [columns]
    int64_t columns, in_stride, out_stride;
    float epsilon;
};

// Grid: (rows)  Block: (kThreads)  Shared: kThreads floats
// Thread t adds the squares of columns t, t + kThreads, ... in rising order; then the kThreads
// sums are folded in halves. in and out may be the same rows: a thread writes what it has read.
__global__ void __launch_bounds__(kThreads) rms_norm_kernel(rms_norm_kernel_args a) {
    __shared__ float sums[kThreads];
    const float *in = a.in + (int64_t)blockIdx.x * a.in_stride;
    float *out = a.out + (int64_t)blockIdx.x * a.out_stride;
    float sum = 0.0f;
    for (int64_t i = threadIdx.x; i < a.columns; i += kThreads) {
        sum = fmaf(in[i], in[i], sum);
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (unsigned half = kThreads / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    const float mean = sums[0] / (float)a.columns;
    const float scale = 1.0f / sqrtf(mean + a.epsilon);
    for (int64_t i = threadIdx.x; i < a.columns; i += kThreads) {
        out[i] = in[i] * scale * a.weight[i];
    }
}

} // namespace

enum status cuda_rms_norm(struct backend *backend, const struct rms_norm_args *args) {
    const rms_norm_kernel_args kernel_args = {args->in.data,    args->out.data,  args->weight,
                                              args->in.columns, args->in.stride, args->out.stride,
                                              args->epsilon};
    if (args->in.rows == 0) return STATUS_OK;
    rms_norm_kernel<<<(unsigned)args->in.rows, kThreads, 0, cuda_backend_stream(backend)>>>(
        kernel_args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
