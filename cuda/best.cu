// What each row of logits says the next token is, and how far the target leads.

#include "cuda/cuda_backend.h"

#include <math.h>

namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;

// Of some of a row's logits. What is not a number counts as -infinity.
struct found {
    float most, other; // other: the greatest that is not the target's
    int32_t token;     // the lowest with the greatest
};

// The same in whatever order parts are joined.
__device__ __forceinline__ void join(found &all, const found &part) {
    const bool lower = part.most == all.most && part.token < all.token;
    if (part.most > all.most || lower) {
        all.most = part.most;
        all.token = part.token;
    }
    if (part.other > all.other) all.other = part.other;
}

// Threads whose lanes differ in bit `half` exchange what they have.
__device__ __forceinline__ void join_halves(found &all) {
    for (int half = kWarp / 2; half > 0; half /= 2) {
        found part;
        part.most = __shfl_xor_sync(0xffffffffu, all.most, half);
        part.other = __shfl_xor_sync(0xffffffffu, all.other, half);
        part.token = __shfl_xor_sync(0xffffffffu, all.token, half);
        join(all, part);
    }
}

// Grid: (rows)  Block: (kThreads), a thread looks at every kThreads-th logit  Shared: a warp's each
__global__ void __launch_bounds__(kThreads) best_kernel(struct best_args a) {
    __shared__ found warps[kThreads / kWarp];
    const float *logit = a.logits.data + blockIdx.x * a.logits.stride;
    const int32_t vocab = (int32_t)a.logits.columns, target = a.target[blockIdx.x];
    const int lane = threadIdx.x % kWarp;
    found all = {-INFINITY, -INFINITY, INT32_MAX};
    for (int64_t v = threadIdx.x; v < vocab; v += kThreads) {
        const float value = isnan(logit[v]) ? -INFINITY : logit[v];
        join(all, {value, v == target ? -INFINITY : value, (int32_t)v});
    }
    join_halves(all);
    if (lane == 0) warps[threadIdx.x / kWarp] = all;
    __syncthreads();
    if (threadIdx.x >= kWarp) return;
    all = lane < kThreads / kWarp ? warps[lane] : found{-INFINITY, -INFINITY, INT32_MAX};
    join_halves(all);
    if (lane != 0) return;
    a.best[blockIdx.x].token = all.token;
    a.best[blockIdx.x].margin = target < 0 ? NAN : logit[target] - all.other;
}

} // namespace

enum status cuda_best(struct backend *backend, const struct best_args *args) {
    const unsigned rows = (unsigned)args->logits.rows;
    best_kernel<<<rows, kThreads, 0, cuda_backend_stream(backend)>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
