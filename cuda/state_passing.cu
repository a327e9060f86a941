// The states before each tile of a span, from the tiles' own sums, and the state it leaves.

#include "cuda/cuda_backend.h"
#include "cuda/float_math.cuh"
#include "cuda/scan_batch.cuh"

namespace {

constexpr int kThreads = 256;
constexpr int kAhead = 8; // tiles whose sums are fetched before the chain needs them

// Grid: (spans, heads, blocks of kThreads state elements)  Block: (kThreads)
// Shared: the decays of kThreads tiles at a time, each computed by one thread for all
// A thread carries one element h of a head's state from tile to tile: the tile's place gets h, unless
// the tile starts from zero; then h = fma(exp(s_last), h, own), unless nobody sees the sum. state_in
// is read before state_out is written, by the same thread, so they may be the same memory.
__global__ void __launch_bounds__(kThreads) state_passing_kernel(struct scan_args a) {
    __shared__ float decay[kThreads];
    const struct scan_span *span = &a.batch.span[blockIdx.x];
    const int64_t head = blockIdx.y;
    const int64_t floats = a.shape.d_state * a.shape.head_dim;
    const int64_t element = (int64_t)blockIdx.z * kThreads + threadIdx.x;
    const bool there = element < floats;
    const char *in = layer_in(a.batch, span);
    char *out = layer_out(a.batch, span);
    const int64_t step = a.shape.heads * floats; // from a tile's states to the next's
    float *state = head_state(a, span->first_tile, head) + element;
    float h = in == NULL || !there ? 0.0f : ((const float *)in)[head * floats + element];
    const int64_t tiles = span->tiles;
    const int64_t seen = out != NULL ? tiles : tiles - 1; // so many have a sum
    for (int64_t first = 0; first < tiles; first += kThreads) {
        const int64_t left = tiles - first < kThreads ? tiles - first : kThreads;
        __syncthreads(); // nobody reads the decays before these
        if (threadIdx.x < left) {
            const struct scan_tile tile = a.batch.tile[span->first_tile + first + threadIdx.x];
            const int64_t last = tile.row + tile.rows - 1;
            decay[threadIdx.x] = exp_f32(a.cumsum.data[last * a.cumsum.stride + head]);
        }
        __syncthreads();
        for (int64_t some = 0; there && some < left; some += kAhead) {
            float own[kAhead];
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                own[k] = some + k < left && first + some + k < seen ? state[k * step] : 0.0f;
            }
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                const int64_t t = first + some + k;
                if (some + k >= left) continue;
                if (t > 0 || in != NULL) state[k * step] = h;
                if (t < seen) h = fmaf(decay[some + k], h, own[k]);
            }
            state += kAhead * step;
        }
    }
    if (out != NULL && there) ((float *)out)[head * floats + element] = h;
}

} // namespace

enum status cuda_state_passing(struct backend *backend, const struct scan_args *args) {
    const int64_t floats = args->shape.d_state * args->shape.head_dim;
    const dim3 grid((unsigned)args->batch.spans, (unsigned)args->shape.heads,
                    (unsigned)((floats + kThreads - 1) / kThreads));
    state_passing_kernel<<<grid, kThreads, 0, cuda_backend_stream(backend)>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
