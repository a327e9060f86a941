// out_proj: r += scale * (v W^T) + bias, in place in f32, and what the next norm wants of the new r:
// u = bf16(r * norm) and the sum of squares over the tile's columns.

#include "cuda/hopper_launch.cuh"

namespace hopper {

template <bool kBias>
struct out_proj_work {
    struct args {
        float *r;
        __nv_bfloat16 *u;
        float *squares;
        const float *bias, *norm;
        int32_t columns, tiles;
    };
    static constexpr int kGroup = 16; // a thread's four columns lie side by side: 16 bytes of f32
    static constexpr bool kNarrowTiles = false;

    // The tile's part of r's row, long before the epilogue reads it.
    __device__ static void prefetch(const args &a, const tile &t, int64_t row) {
        const int32_t first = t.column * kColumns, left = a.columns - first;
        hopper::prefetch(a.r + row * a.columns + first, (uint32_t)min(left, kColumns) * 4);
    }
    __device__ static void finish(const args &a, const place &here, const float (&sum)[128]);
    __device__ static void finish_narrow(const args &, const place &, const float (&)[48]) {}
};

constexpr int kAtOnce = 4; // loads of r in flight

// Columns 16j + 4 * quad .. + 3 of the tile are sum[8j + 4i + 2h + e], i = 0..1, e = 0..1. A row's
// squares are added by rising column in a thread, then over the quad's four threads.
template <bool kBias>
__device__ __forceinline__ void out_proj_work<kBias>::finish(const args &a, const place &here,
                                                             const float (&sum)[128]) {
    const int32_t first = here.column * kColumns + 4 * (int32_t)here.quad;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int64_t row = here.row + 8 * h;
        const bool valid = row < here.rows;
        float *r = a.r + row * a.columns + first;
        __nv_bfloat16 *u = a.u + row * a.columns + first;
        const float scale = here.scale[h];
        float squares = 0.0f;
#pragma unroll
        for (int j0 = 0; j0 < 16; j0 += kAtOnce) {
            float4 old[kAtOnce];
#pragma unroll
            for (int j = 0; j < kAtOnce; j++) {
                const int column = 16 * (j0 + j);
                old[j] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                if (valid && first + column < a.columns)
                    old[j] = *reinterpret_cast<float4 *>(r + column);
            }
#pragma unroll
            for (int j = 0; j < kAtOnce; j++) {
                const int column = 16 * (j0 + j), at = 8 * (j0 + j) + 2 * h;
                if (!valid || first + column >= a.columns) continue;
                const float4 norm = *reinterpret_cast<const float4 *>(a.norm + first + column);
                float4 x = old[j];
                if (kBias) {
                    const float4 bias = *reinterpret_cast<const float4 *>(a.bias + first + column);
                    x = make_float4(x.x + bias.x, x.y + bias.y, x.z + bias.z, x.w + bias.w);
                }
                x.x = fmaf(sum[at], scale, x.x);
                x.y = fmaf(sum[at + 1], scale, x.y);
                x.z = fmaf(sum[at + 4], scale, x.z);
                x.w = fmaf(sum[at + 5], scale, x.w);
                squares = fmaf(x.x, x.x, squares);
                squares = fmaf(x.y, x.y, squares);
                squares = fmaf(x.z, x.z, squares);
                squares = fmaf(x.w, x.w, squares);
                *reinterpret_cast<float4 *>(r + column) = x;
                const __nv_bfloat162 low = __floats2bfloat162_rn(x.x * norm.x, x.y * norm.y);
                const __nv_bfloat162 high = __floats2bfloat162_rn(x.z * norm.z, x.w * norm.w);
                *reinterpret_cast<uint2 *>(u + column) =
                    make_uint2(*reinterpret_cast<const uint32_t *>(&low),
                               *reinterpret_cast<const uint32_t *>(&high));
            }
        }
        squares += __shfl_xor_sync(0xffffffffu, squares, 1);
        squares += __shfl_xor_sync(0xffffffffu, squares, 2);
        if (valid && here.quad == 0) a.squares[row * a.tiles + here.column] = squares;
    }
}

} // namespace hopper

enum status hopper_out_proj(const struct gemm_queue *queue, const struct gemm_out_proj *args) {
    using namespace hopper;
    const problem p =
        make_problem(queue, args->v, args->weight, args->scale, args->rows, args->n, args->k);
    const auto start = [&](auto work) {
        return launch<decltype(work)>(queue, p,
                                      {args->r, (__nv_bfloat16 *)args->u, args->squares, args->bias,
                                       args->norm, (int32_t)args->n, p.column_tiles});
    };
    return args->bias == nullptr ? start(out_proj_work<false>{}) : start(out_proj_work<true>{});
}
