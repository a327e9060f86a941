// Time steps: softplus of the projection's last columns, bounded.

#include "cuda/cuda_backend.h"
#include "cuda/float_math.cuh"

namespace {

constexpr int kThreads = 256;

// Grid: (blocks of kThreads numbers)  Block: (kThreads), a number a thread  Shared: none
__global__ void __launch_bounds__(kThreads) dt_kernel(struct dt_args a) {
    const int64_t index = (int64_t)blockIdx.x * kThreads + threadIdx.x;
    if (index >= a.in.rows * a.in.columns) return;
    const int64_t row = index / a.in.columns;
    const int64_t head = index % a.in.columns;
    const float dt = softplus_f32(a.in.data[row * a.in.stride + head] + a.bias[head]);
    a.out.data[row * a.out.stride + head] = take_least(a.most, take_most(a.least, dt));
}

} // namespace

enum status cuda_dt(struct backend *backend, const struct dt_args *args) {
    const int64_t count = args->in.rows * args->in.columns;
    const unsigned blocks = (unsigned)((count + kThreads - 1) / kThreads);
    dt_kernel<<<blocks, kThreads, 0, cuda_backend_stream(backend)>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
