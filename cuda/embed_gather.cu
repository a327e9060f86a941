// The rows that a step starts with: the tokens' embeddings as f32, and what the first norm wants of
// them, in the form in which out_proj leaves it (hopper_gemm.h).

#include "cuda/cuda_check.h"
#include "cuda/hopper_gemm.h"

#include <cuda_bf16.h>

namespace {

constexpr int kThreads = 256;

// Grid: (ceil(rows * tiles / 8))  Block: (kThreads)
// A warp has one row's tile of GEMM_COLUMNS columns, a lane eight columns of it. A lane adds its
// squares by rising column, then the lanes are added in halves.
__global__ void __launch_bounds__(kThreads) gather_kernel(embed_gather a, int64_t tiles) {
    const int64_t piece = (int64_t)blockIdx.x * (kThreads / 32) + threadIdx.x / 32;
    const int64_t row = piece / tiles, tile = piece % tiles;
    const int64_t lane = threadIdx.x % 32, column = tile * GEMM_COLUMNS + lane * 8;
    float squares = 0.0f;
    if (row >= a.rows) return;
    if (column < a.columns) {
        const float4 *table =
            reinterpret_cast<const float4 *>(a.table + (int64_t)a.token[row] * a.columns + column);
        const float4 *norm = reinterpret_cast<const float4 *>(a.norm + column);
        float4 *r = reinterpret_cast<float4 *>(a.r + row * a.columns + column);
        alignas(16) __nv_bfloat162 u[4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float4 x = table[i], w = norm[i];
            squares = fmaf(x.w, x.w, fmaf(x.z, x.z, fmaf(x.y, x.y, fmaf(x.x, x.x, squares))));
            u[2 * i] = __floats2bfloat162_rn(x.x * w.x, x.y * w.y);
            u[2 * i + 1] = __floats2bfloat162_rn(x.z * w.z, x.w * w.w);
            r[i] = x;
        }
        *reinterpret_cast<uint4 *>((__nv_bfloat16 *)a.u + row * a.columns + column) =
            *reinterpret_cast<const uint4 *>(u);
    }
    for (int half = 16; half > 0; half /= 2)
        squares += __shfl_xor_sync(0xffffffffu, squares, half);
    if (lane == 0) a.squares[row * tiles + tile] = squares;
}

} // namespace

enum status cuda_embed_gather(cudaStream_t stream, const struct embed_gather *args) {
    const int64_t tiles = gemm_tiles(args->columns), warps = kThreads / 32;
    const int64_t blocks = (args->rows * tiles + warps - 1) / warps;
    if (args->rows == 0) return STATUS_OK;
    gather_kernel<<<(unsigned)blocks, kThreads, 0, stream>>>(*args, tiles);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
