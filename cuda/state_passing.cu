// The states before each tile of a span, from the tiles' own sums, and the state it leaves.

#include "cuda/cuda_backend.h"
#include "cuda/float_math.cuh"
#include "cuda/scan_batch.cuh"

namespace {

constexpr int kThreads = 256;
constexpr int kAhead = 4; // tiles whose sums are fetched before the chain needs them

// Grid: (spans, heads, blocks of kThreads state elements)  Block: (kThreads)  Shared: none
// A thread carries one element h of a head's state from tile to tile:
// next = fma(exp(s_last), h, own); the tile's place gets h. state_in is read before state_out is
// written, by the same thread, so they may be the same memory.
__global__ void __launch_bounds__(kThreads) state_passing_kernel(struct scan_args a) {
    const struct scan_span *span = &a.batch.span[blockIdx.x];
    const int64_t head = blockIdx.y;
    const int64_t floats = a.shape.d_state * a.shape.head_dim;
    const int64_t element = (int64_t)blockIdx.z * kThreads + threadIdx.x;
    if (element >= floats) return;
    const int64_t place = head * floats + element;
    const char *in = layer_in(a.batch, span);
    char *out = layer_out(a.batch, span);
    float h = in == NULL ? 0.0f : ((const float *)in)[place];
    const int64_t end = span->first_tile + span->tiles;
    for (int64_t first = span->first_tile; first < end; first += kAhead) {
        float own[kAhead], decay[kAhead];
#pragma unroll
        for (int k = 0; k < kAhead; k++) {
            const int64_t t = first + k;
            if (t >= end || !sum_is_seen(a.batch, t)) continue;
            const int64_t last = a.batch.tile[t].row + a.batch.tile[t].rows - 1;
            own[k] = head_state(a, t, head)[element];
            decay[k] = exp_f32(a.cumsum.data[last * a.cumsum.stride + head]);
        }
#pragma unroll
        for (int k = 0; k < kAhead; k++) {
            const int64_t t = first + k;
            if (t >= end) continue;
            if (!starts_from_zero(a.batch, t)) head_state(a, t, head)[element] = h;
            if (sum_is_seen(a.batch, t)) h = fmaf(decay[k], h, own[k]);
        }
    }
    if (out != NULL) ((float *)out)[place] = h;
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
