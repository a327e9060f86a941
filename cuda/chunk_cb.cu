// C_i . B_j of the tokens of each tile, a group at a time.

#include "cuda/cuda_backend.h"
#include "cuda/scan_batch.cuh"
#include "cuda/tile_product.cuh"

namespace {

// Grid: (tiles, groups)  Block: (kTileThreads), 8 tokens i by 4 tokens j a thread
// Shared: two slabs of 32 state elements by 64 tokens, 17 KiB. Only j <= i is written.
__global__ void __launch_bounds__(kTileThreads) chunk_cb_kernel(struct scan_args a) {
    __shared__ struct tile_slabs slabs;
    const struct scan_tile tile = a.batch.tile[blockIdx.x];
    const int64_t group = blockIdx.y;
    const int64_t d_state = a.shape.d_state;
    struct tile_sums sums;
    tile_zero(sums);
    for (int64_t n = 0; n < d_state; n += kSlab) {
        const int count = d_state - n < kSlab ? (int)(d_state - n) : kSlab;
        slab_turned(slabs.left, c_of(a, tile.row, group) + n, a.xbc.stride, tile.rows, count);
        slab_turned(slabs.right, b_of(a, tile.row, group) + n, a.xbc.stride, tile.rows, count);
        __syncthreads();
        tile_add<false>(slabs, count, 0, sums);
        __syncthreads();
    }
    float *cb = a.cb + ((int64_t)blockIdx.x * a.shape.groups + group) * kTile * kTile;
    for (int r = 0; r < kTileRows; r++) {
        const int i = tile_row() + r;
        for (int c = 0; c < kTileColumns; c++) {
            const int j = tile_column() + c;
            if (i < tile.rows && j <= i) cb[i * kTile + j] = sums.at[r][c];
        }
    }
}

} // namespace

enum status cuda_chunk_cb(struct backend *backend, const struct scan_args *args) {
    const dim3 grid((unsigned)args->batch.tiles, (unsigned)args->shape.groups);
    chunk_cb_kernel<<<grid, kTileThreads, 0, cuda_backend_stream(backend)>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
