// The rows that a step starts with: the tokens' embeddings as f32, and what the first norm wants of
// them, in the form in which out_proj leaves it (hopper_gemm.h). And rows of the residual as they lie
// everywhere else, for what is asked at its end.

#include "cuda/cuda_check.h"
#include "cuda/hopper_gemm.h"
#include "cuda/hopper_panels.h"

#include <cuda_bf16.h>

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

// Grid: (tiles * ceil(rows / kWarps))  Block: (kThreads): a tile of kWarps rows, so that they fill
// pieces of panels.
// A warp has one row's tile of GEMM_COLUMNS columns, a lane eight columns of it. A lane adds its
// squares by rising column, then the lanes are added in halves.
__global__ void __launch_bounds__(kThreads) gather_kernel(embed_gather a, int64_t tiles) {
    const int64_t row = blockIdx.x / tiles * kWarps + threadIdx.x / 32, tile = blockIdx.x % tiles;
    const int64_t lane = threadIdx.x % 32, column = tile * GEMM_COLUMNS + lane * 8;
    float squares = 0.0f;
    if (row >= a.rows) return;
    if (column < a.columns) {
        const float4 *table =
            reinterpret_cast<const float4 *>(a.table + (int64_t)a.token[row] * a.columns + column);
        const float4 *norm = reinterpret_cast<const float4 *>(a.norm + column);
        float4 *r = reinterpret_cast<float4 *>(a.r + panel_float_at(a.pitch, row, column));
        __nv_bfloat16 *to = (__nv_bfloat16 *)a.u + panel_at(a.pitch, row, column);
        alignas(16) __nv_bfloat162 u[4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float4 x = table[i], w = norm[i];
            squares = fmaf(x.w, x.w, fmaf(x.z, x.z, fmaf(x.y, x.y, fmaf(x.x, x.x, squares))));
            u[2 * i] = __floats2bfloat162_rn(x.x * w.x, x.y * w.y);
            u[2 * i + 1] = __floats2bfloat162_rn(x.z * w.z, x.w * w.w);
            r[i] = x;
        }
        *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(u);
    }
    for (int half = 16; half > 0; half /= 2)
        squares += __shfl_xor_sync(0xffffffffu, squares, half);
    if (lane == 0) a.squares[row * tiles + tile] = squares;
}

// Grid: (rows)  Block: (kThreads), a thread copies every kThreads-th column
__global__ void __launch_bounds__(kThreads) residual_kernel(residual_gather a) {
    const int64_t row = a.row[blockIdx.x];
    float *out = a.out + blockIdx.x * a.columns;
    for (int64_t c = threadIdx.x; c < a.columns; c += kThreads)
        out[c] = a.r[panel_float_at(a.pitch, row, c)];
}

} // namespace

enum status cuda_embed_gather(cudaStream_t stream, const struct embed_gather *args) {
    const int64_t tiles = gemm_tiles(args->columns);
    const int64_t blocks = (args->rows + kWarps - 1) / kWarps * tiles;
    if (args->rows == 0) return STATUS_OK;
    gather_kernel<<<(unsigned)blocks, kThreads, 0, stream>>>(*args, tiles);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}

enum status cuda_residual_gather(cudaStream_t stream, const struct residual_gather *args) {
    if (args->rows == 0) return STATUS_OK;
    residual_kernel<<<(unsigned)args->rows, kThreads, 0, stream>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
