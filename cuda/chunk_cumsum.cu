// The log decay from a tile's first token to each of its tokens.

#include "cuda/cuda_backend.h"

namespace {

constexpr int kThreads = 32;
constexpr int kAhead = 32; // tokens fetched before the sum needs them

// Grid: (tiles, blocks of kThreads heads)  Block: (kThreads), a head a thread  Shared: none
// One after the other: the order of a sum is part of its bits.
__global__ void __launch_bounds__(kThreads) chunk_cumsum_kernel(struct scan_args a) {
    const struct scan_tile tile = a.batch.tile[blockIdx.x];
    const int64_t head = (int64_t)blockIdx.y * kThreads + threadIdx.x;
    if (head >= a.shape.heads) return;
    const float *dt = a.dt.data + tile.row * a.dt.stride + head;
    float *cumsum = a.cumsum.data + tile.row * a.cumsum.stride + head;
    const float rate = a.a[head];
    float sum = 0.0f;
    for (int64_t first = 0; first < tile.rows; first += kAhead) {
        float step[kAhead];
#pragma unroll
        for (int k = 0; k < kAhead; k++) {
            if (first + k < tile.rows) step[k] = dt[(first + k) * a.dt.stride] * rate;
        }
#pragma unroll
        for (int k = 0; k < kAhead; k++) {
            const int64_t i = first + k;
            if (i >= tile.rows) continue;
            sum = i == 0 ? step[k] : sum + step[k];
            cumsum[i * a.cumsum.stride] = sum;
        }
    }
}

} // namespace

enum status cuda_chunk_cumsum(struct backend *backend, const struct scan_args *args) {
    const dim3 grid((unsigned)args->batch.tiles,
                    (unsigned)((args->shape.heads + kThreads - 1) / kThreads));
    chunk_cumsum_kernel<<<grid, kThreads, 0, cuda_backend_stream(backend)>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
