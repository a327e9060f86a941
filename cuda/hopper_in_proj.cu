// in_proj: raw | dt = scale * (u W^T) + bias. The columns of raw are full tiles and go out as bf16, the
// few of dt are narrow tiles of their own and stay f32.

#include "cuda/hopper_launch.cuh"

namespace hopper {

struct in_proj_work {
    struct args {
        __nv_bfloat16 *raw;
        float *dt;
        const float *bias;
        int64_t raw_pitch;
        int32_t raw_columns, dt_columns;
    };
    static constexpr int kGroup = 32; // a thread's eight columns lie side by side: 16 bytes of bf16
    static constexpr bool kNarrowTiles = true;

    __device__ static void prefetch(const args &, const tile &, int64_t) {}
    __device__ static void finish(const args &a, const place &here, const float (&sum)[128]);
    __device__ static void finish_narrow(const args &a, const place &here, const float (&sum)[48]);
};

__device__ __forceinline__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 two = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&two);
}

// Columns 32j + 8 * quad .. + 7 of the tile are sum[16j + 4i + 2h + e], i = 0..3, e = 0..1.
__device__ __forceinline__ void in_proj_work::finish(const args &a, const place &here,
                                                     const float (&sum)[128]) {
    const int32_t first = here.column * kColumns + 8 * (int32_t)here.quad;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int64_t row = here.row + 8 * h;
        __nv_bfloat16 *out = a.raw + row * a.raw_pitch + first;
        const float scale = here.scale[h];
        if (row >= here.rows) return;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            uint32_t word[4];
            float bias[8] = {};
            if (first + 32 * j >= a.raw_columns) break;
            if (a.bias != nullptr) {
#pragma unroll
                for (int c = 0; c < 8; c++)
                    bias[c] = a.bias[first + 32 * j + c];
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                word[i] = pack(fmaf(sum[16 * j + 4 * i + 2 * h], scale, bias[2 * i]),
                               fmaf(sum[16 * j + 4 * i + 2 * h + 1], scale, bias[2 * i + 1]));
            }
            *reinterpret_cast<uint4 *>(out + 32 * j) =
                make_uint4(word[0], word[1], word[2], word[3]);
        }
    }
}

__device__ __forceinline__ void in_proj_work::finish_narrow(const args &a, const place &here,
                                                            const float (&sum)[48]) {
    const int32_t first = here.column * kNarrow + 2 * (int32_t)here.quad;
#pragma unroll
    for (int i = 0; i < 48; i++) {
        const int32_t column = first + 8 * (i / 4) + i % 2;
        const int64_t row = here.row + 8 * (i / 2 % 2);
        if (row >= here.rows || column >= a.dt_columns) continue;
        const float bias = a.bias != nullptr ? a.bias[a.raw_columns + column] : 0.0f;
        a.dt[row * a.dt_columns + column] = fmaf(sum[i], here.scale[i / 2 % 2], bias);
    }
}

} // namespace hopper

enum status hopper_in_proj(const struct gemm_queue *queue, const struct gemm_in_proj *args) {
    using namespace hopper;
    problem p = make_problem(queue, args->u, args->weight, args->scale, args->rows,
                             args->raw_columns, args->k);
    p.b_narrow = args->weight->narrow;
    p.narrow_tiles = ceil_div(args->dt_columns, kNarrow);
    return launch<in_proj_work>(queue, p,
                                {(__nv_bfloat16 *)args->raw, args->dt, args->bias, args->raw_pitch,
                                 (int32_t)args->raw_columns, (int32_t)args->dt_columns});
}
