// What each tile adds to the state: the sum over its tokens of B x, decayed to the tile's end.

#include "cuda/cuda_backend.h"
#include "cuda/float_math.cuh"
#include "cuda/scan_batch.cuh"
#include "cuda/tile_product.cuh"

namespace {

// Grid: (tiles, heads, blocks of 64 state elements by blocks of 64 channels)
// Block: (kTileThreads), 8 state elements by 4 channels a thread
// Shared: a tile's weights, and two slabs of 32 tokens, 18 KiB
__global__ void __launch_bounds__(kTileThreads) chunk_state_kernel(struct scan_args a) {
    __shared__ struct tile_slabs slabs;
    __shared__ float scale[kTile];
    if (!sum_is_seen(a.batch, blockIdx.x)) return; // the whole block
    const struct scan_tile tile = a.batch.tile[blockIdx.x];
    const int64_t head = blockIdx.y;
    const int64_t group = head / (a.shape.heads / a.shape.groups);
    const int64_t head_dim = a.shape.head_dim;
    const int64_t columns = (head_dim + kTile - 1) / kTile;
    const int64_t first_n = blockIdx.z / columns * kTile;
    const int64_t first_p = blockIdx.z % columns * kTile;
    if (threadIdx.x < tile.rows) {
        const float *s = a.cumsum.data + tile.row * a.cumsum.stride + head;
        const float left = s[(tile.rows - 1) * a.cumsum.stride] - s[threadIdx.x * a.cumsum.stride];
        scale[threadIdx.x] = exp_f32(take_least(0.0f, left)) *
                             a.dt.data[(tile.row + threadIdx.x) * a.dt.stride + head];
    }
    __syncthreads();
    struct tile_sums sums;
    tile_zero(sums);
    for (int first = 0; first < tile.rows; first += kSlab) {
        const int count = tile.rows - first < kSlab ? tile.rows - first : kSlab;
        slab_straight<false>(slabs.left, b_of(a, tile.row + first, group) + first_n, a.xbc.stride,
                             count, a.shape.d_state - first_n, NULL);
        slab_straight<true>(slabs.right, x_of(a, tile.row + first, head) + first_p, a.xbc.stride,
                            count, head_dim - first_p, scale + first);
        __syncthreads();
        tile_add<false>(slabs, count, 0, sums);
        __syncthreads();
    }
    float *state = head_state(a, blockIdx.x, head);
    const int64_t p = first_p + tile_column();
    for (int r = 0; r < kTileRows; r++) {
        const int64_t n = first_n + tile_row() + r;
        if (n >= a.shape.d_state) break;
        tile_store(state + n * head_dim + p, sums.at[r], head_dim - p, head_dim % 4 == 0);
    }
}

} // namespace

enum status cuda_chunk_state(struct backend *backend, const struct scan_args *args) {
    const int64_t blocks =
        (args->shape.d_state + kTile - 1) / kTile * ((args->shape.head_dim + kTile - 1) / kTile);
    const dim3 grid((unsigned)args->batch.tiles, (unsigned)args->shape.heads, (unsigned)blocks);
    chunk_state_kernel<<<grid, kTileThreads, 0, cuda_backend_stream(backend)>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
