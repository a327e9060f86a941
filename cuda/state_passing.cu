// The states before each tile of a span, from the tiles' own sums, and the state it leaves.

#include "cuda/cuda_backend.h"
#include "cuda/float_math.cuh"
#include "cuda/scan_batch.cuh"

namespace {

constexpr int kThreads = 64;
constexpr int kAhead = 4; // tiles whose sums are on their way while the chain goes on

template <int Width>
struct alignas(Width * sizeof(float)) piece {
    float at[Width];
};

// decay[i] = exp(s_last) of tile first + i, each computed by one thread for all.
__device__ void fetch_decays(const struct scan_args &a, int64_t first, int64_t count, int64_t head,
                             float (&decay)[kThreads]) {
    __syncthreads(); // nobody reads those before
    if (threadIdx.x < count) {
        const struct scan_tile tile = a.batch.tile[first + threadIdx.x];
        const int64_t last = tile.row + tile.rows - 1;
        decay[threadIdx.x] = exp_f32(a.cumsum.data[last * a.cumsum.stride + head]);
    }
    __syncthreads();
}

// Grid: (spans, heads, blocks of kThreads * Width state elements)  Block: (kThreads)
// Shared: the decays of kThreads tiles at a time
// A thread carries Width elements h of a head's state from tile to tile: the tile's place gets h,
// unless the tile starts from zero; then h = fma(exp(s_last), h, own), unless nobody sees the sum.
// state_in is read before state_out is written, by the same thread, so they may be the same memory.
template <int Width>
__global__ void __launch_bounds__(kThreads) state_passing_kernel(struct scan_args a) {
    using piece = piece<Width>;
    __shared__ float decay[kThreads];
    const struct scan_span *span = &a.batch.span[blockIdx.x];
    const int64_t head = blockIdx.y;
    const int64_t floats = a.shape.d_state * a.shape.head_dim;
    const int64_t element = ((int64_t)blockIdx.z * kThreads + threadIdx.x) * Width;
    const bool there = element < floats;
    const float *in = (const float *)layer_in(a.batch, span);
    float *out = (float *)layer_out(a.batch, span);
    const int64_t step = a.shape.heads * floats; // from a tile's states to the next's
    float *state = head_state(a, span->first_tile, head) + element;
    const int64_t tiles = span->tiles;
    const int64_t seen = !there ? 0 : out != NULL ? tiles : tiles - 1; // so many have a sum
    piece h = {}, own[kAhead];
    for (int w = 0; w < Width && there && in != NULL; w++) {
        h.at[w] = in[head * floats + element + w];
    }
#pragma unroll
    for (int k = 0; k < kAhead; k++) {
        if (k < seen) own[k] = *(const piece *)(state + k * step);
    }
    for (int64_t first = 0; first < tiles; first += kThreads) {
        const int64_t left = tiles - first < kThreads ? tiles - first : kThreads;
        fetch_decays(a, span->first_tile + first, left, head, decay);
        for (int64_t some = 0; there && some < left; some += kAhead, state += kAhead * step) {
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                const int64_t t = first + some + k;
                if (some + k >= left) continue;
                const piece sum = own[k];
                if (t + kAhead < seen) own[k] = *(const piece *)(state + (k + kAhead) * step);
                if (t > 0 || in != NULL) *(piece *)(state + k * step) = h;
                for (int w = 0; w < Width && t < seen; w++) {
                    h.at[w] = fmaf(decay[some + k], h.at[w], sum.at[w]);
                }
            }
        }
    }
    for (int w = 0; w < Width && there && out != NULL; w++) {
        out[head * floats + element + w] = h.at[w];
    }
}

template <int Width>
void launch(cudaStream_t stream, const struct scan_args *args) {
    const int64_t floats = args->shape.d_state * args->shape.head_dim;
    const int64_t block = kThreads * Width;
    const dim3 grid((unsigned)args->batch.spans, (unsigned)args->shape.heads,
                    (unsigned)((floats + block - 1) / block));
    state_passing_kernel<Width><<<grid, kThreads, 0, stream>>>(*args);
}

} // namespace

enum status cuda_state_passing(struct backend *backend, const struct scan_args *args) {
    cudaStream_t stream = cuda_backend_stream(backend);
    if (args->shape.d_state * args->shape.head_dim % 4 == 0) {
        launch<4>(stream, args);
    } else {
        launch<1>(stream, args);
    }
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
