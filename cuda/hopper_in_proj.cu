// in_proj: raw | dt = scale * (u W^T) + bias. The columns of raw are tiles of their own and go out as
// bf16. The few of dt ride along as extra columns of the last tiles, and stay f32.

#include "cuda/hopper_held.cuh"
#include "cuda/hopper_launch.cuh"

namespace hopper {

struct in_proj_work : plain_work {
    struct args {
        __nv_bfloat16 *raw;
        int64_t raw_pitch;
        float *dt;
        const float *bias;
        int32_t raw_columns, dt_columns;
    };
    static constexpr int kGroup = 32; // a thread's eight columns lie side by side: 16 bytes of bf16
    static constexpr int kExtra = GEMM_DT;
    static constexpr int kParts = kColumns / PANEL_COLUMNS;

    using held = held_rows;

    __device__ static void finish(const args &a, const place &here, const early &, stage_ring &,
                                  const float (&sum)[128], held &held);
    __device__ static void put(const args &a, const held &held, int part) {
        put_panel(held, a.raw_pitch, part);
    }
    __device__ static void finish_extra(const args &a, const place &here, int32_t block,
                                        const float (&sum)[GEMM_DT / 2]);
};

// The thread's columns of the j-th 32 are sum[16j + 4i + 2h + e], i = 0..3, e = 0..1.
__device__ __forceinline__ void in_proj_work::finish(const args &a, const place &here,
                                                     const early &, stage_ring &,
                                                     const float (&sum)[128], held &held) {
    hold(held, a.raw, a.raw_pitch, a.raw_columns, here);
#pragma unroll
    for (int j = 0; j < kColumns / 32; j++) {
        float add[8] = {};
        if (a.bias != nullptr && 32 * j < held.columns_left) {
#pragma unroll
            for (int c = 0; c < 8; c++)
                add[c] = a.bias[column_of(here, j) + c];
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int at = 16 * j + 4 * i + 2 * h;
                held.word[8 * j + 4 * h + i] =
                    pack(fmaf(sum[at], here.scale[h], add[2 * i]),
                         fmaf(sum[at + 1], here.scale[h], add[2 * i + 1]));
            }
        }
    }
}

// Column 8j + 2 * quad + e of the block is sum[4j + 2h + e].
__device__ __forceinline__ void in_proj_work::finish_extra(const args &a, const place &here,
                                                           int32_t block,
                                                           const float (&sum)[GEMM_DT / 2]) {
    const int32_t first = block * GEMM_DT + 2 * (int32_t)here.quad;
#pragma unroll
    for (int i = 0; i < GEMM_DT / 2; i++) {
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
    if (args->rows == 0) return STATUS_OK;
    problem p = make_problem(queue, args->u, args->weight, args->scale, args->rows,
                             args->raw_columns, args->k);
    p.extra = args->weight->dt;
    p.extra_tiles = ceil_div(args->dt_columns, GEMM_DT);
    if (p.extra_tiles > p.column_tiles) {
        return FAIL(USAGE, "in_proj: %lld columns of dt beside %lld others are too many",
                    (long long)args->dt_columns, (long long)args->raw_columns);
    }
    in_proj_work::args work = {};
    work.raw = (__nv_bfloat16 *)args->raw;
    work.raw_pitch = args->raw_pitch;
    work.dt = args->dt;
    work.bias = args->bias;
    work.raw_columns = (int32_t)args->raw_columns;
    work.dt_columns = (int32_t)args->dt_columns;
    return launch<in_proj_work>(queue, p, work);
}
