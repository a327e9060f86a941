// A tile's outputs: what its tokens read from the state before it, and from each other.

#include "cuda/cuda_backend.h"
#include "cuda/float_math.cuh"
#include "cuda/scan_batch.cuh"
#include "cuda/tile_product.cuh"

namespace {

struct scan_shared {
    struct tile_slabs slabs;
    float sum[kTile], dt[kTile]; // of the tile's tokens
};

// acc_i = exp(s_i) C_i . H, n ascending.
__device__ void read_state(const struct scan_args &a, const struct scan_tile &tile, int64_t head,
                           int64_t first_p, struct scan_shared &shared, struct tile_sums &sums) {
    const int64_t group = head / (a.shape.heads / a.shape.groups);
    const int64_t head_dim = a.shape.head_dim;
    const float *state = head_state(a, blockIdx.x, head);
    for (int64_t n = 0; n < a.shape.d_state; n += kSlab) {
        const int count = a.shape.d_state - n < kSlab ? (int)(a.shape.d_state - n) : kSlab;
        slab_turned(shared.slabs.left, c_of(a, tile.row, group) + n, a.xbc.stride, tile.rows,
                    count);
        slab_straight<false>(shared.slabs.right, state + n * head_dim + first_p, head_dim, count,
                             head_dim - first_p, NULL);
        __syncthreads();
        tile_add<false>(shared.slabs, count, 0, sums);
        __syncthreads();
    }
    for (int r = 0; r < kTileRows; r++) {
        const float decay = exp_f32(shared.sum[tile_row() + r]);
        for (int c = 0; c < kTileColumns; c++) {
            sums.at[r][c] = sums.at[r][c] * decay;
        }
    }
}

// left[k][i] = cb_ij exp(s_i - s_j) dt_j for token j = first + k; zero for j > i.
__device__ void weigh_tokens(const float *cb, int rows, int first, struct scan_shared &shared) {
    const int k = threadIdx.x / 32 * 8 + threadIdx.x % 8;
    const int j = first + k;
    const int first_i = threadIdx.x % 32 / 8;
    float value[kFills];
#pragma unroll
    for (int n = 0; n < kFills; n++) {
        const int i = first_i + 4 * n;
        value[n] = j <= i && i < rows ? cb[i * kTile + j] : 0.0f;
    }
#pragma unroll
    for (int n = 0; n < kFills; n++) {
        const int i = first_i + 4 * n;
        const float decay = exp_f32(take_least(0.0f, shared.sum[i] - shared.sum[j]));
        shared.slabs.left[k][i] = j <= i && i < rows ? value[n] * decay * shared.dt[j] : 0.0f;
    }
}

// acc_i = fma(cb_ij exp(s_i - s_j) dt_j, x_j, acc_i), j = 0 ... i.
__device__ void read_tile(const struct scan_args &a, const struct scan_tile &tile, int64_t head,
                          int64_t first_p, struct scan_shared &shared, struct tile_sums &sums) {
    const int64_t group = head / (a.shape.heads / a.shape.groups);
    const float *cb = a.cb + ((int64_t)blockIdx.x * a.shape.groups + group) * kTile * kTile;
    for (int first = 0; first < tile.rows; first += kSlab) {
        const int count = tile.rows - first < kSlab ? tile.rows - first : kSlab;
        weigh_tokens(cb, tile.rows, first, shared);
        slab_straight<false>(shared.slabs.right, x_of(a, tile.row + first, head) + first_p,
                             a.xbc.stride, count, a.shape.head_dim - first_p, NULL);
        __syncthreads();
        tile_add<true>(shared.slabs, count, first, sums);
        __syncthreads();
    }
}

// Grid: (tiles, heads, blocks of 64 channels)  Block: (kTileThreads), 8 tokens by 4 channels a
// thread  Shared: the tile's decays and steps, and two slabs, 18 KiB
__global__ void __launch_bounds__(kTileThreads) chunk_scan_kernel(struct scan_args a) {
    __shared__ struct scan_shared shared;
    const struct scan_tile tile = a.batch.tile[blockIdx.x];
    const int64_t head = blockIdx.y;
    const int64_t first_p = (int64_t)blockIdx.z * kTile;
    if (threadIdx.x < kTile) {
        const bool there = threadIdx.x < tile.rows;
        const int64_t row = tile.row + threadIdx.x;
        shared.sum[threadIdx.x] = there ? a.cumsum.data[row * a.cumsum.stride + head] : 0.0f;
        shared.dt[threadIdx.x] = there ? a.dt.data[row * a.dt.stride + head] : 0.0f;
    }
    __syncthreads();
    struct tile_sums sums;
    tile_zero(sums);
    if (!starts_from_zero(a.batch, blockIdx.x)) read_state(a, tile, head, first_p, shared, sums);
    read_tile(a, tile, head, first_p, shared, sums);
    const int64_t p = first_p + tile_column();
    const int64_t left = a.shape.head_dim - p;
    float *y = a.y.data + tile.row * a.y.stride + head * a.shape.head_dim + p;
    const bool aligned =
        a.y.stride % 4 == 0 && a.shape.head_dim % 4 == 0 && (uintptr_t)a.y.data % 16 == 0;
    for (int r = 0; r < kTileRows; r++) {
        const int i = tile_row() + r;
        if (i >= tile.rows) break;
        const float *x = x_of(a, tile.row + i, head) + p;
        for (int c = 0; c < kTileColumns; c++) {
            if (c < left) sums.at[r][c] = fmaf(a.d[head], x[c], sums.at[r][c]);
        }
        tile_store(y + i * a.y.stride, sums.at[r], left, aligned);
    }
}

} // namespace

enum status cuda_chunk_scan(struct backend *backend, const struct scan_args *args) {
    const dim3 grid((unsigned)args->batch.tiles, (unsigned)args->shape.heads,
                    (unsigned)((args->shape.head_dim + kTile - 1) / kTile));
    chunk_scan_kernel<<<grid, kTileThreads, 0, cuda_backend_stream(backend)>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
