// in_proj: raw | dt = scale * (u W^T) + bias. The columns of raw are tiles of their own and go out as
// bf16. The few of dt ride along as extra columns of the last tiles, and stay f32.

#include "cuda/hopper_launch.cuh"

namespace hopper {

constexpr int kRound = 64, kRounds = kColumns / kRound;
constexpr int kBox = 16 * kRound * 2; // bytes

struct in_proj_work {
    struct args {
        CUtensorMap raw; // boxes of 64 columns and 16 rows
        float *dt;
        const float *bias;
        int32_t raw_columns, dt_columns;
    };
    static constexpr int kGroup = 32; // a thread's eight columns lie side by side: 16 bytes of bf16
    static constexpr int kExtra = GEMM_DT;
    static constexpr int kPatch = kBox;
    static constexpr bool kKeepsStage = true;

    struct early {};
    __device__ static void load(const args &, const place &, early &) {}
    __device__ static void prefetch(const args &, const tile &, int64_t) {}
    __device__ static void finish(const args &a, const place &here, const early &,
                                  const float (&sum)[128]);
    __device__ static void finish_extra(const args &a, const place &here, int32_t block,
                                        const float (&sum)[GEMM_DT / 2]);
};

__device__ __forceinline__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 two = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&two);
}

// Where the warp's 16 rows of the tile's columns 64 * round .. + 63 lie until the copy engine has
// taken them: a box of 128-byte rows, swizzled by 128 bytes. Three in the kept stage, one in the patch.
__device__ __forceinline__ uint32_t box_of(const place &here, int round) {
    return round < 3 ? here.stage + (here.warp * 3 + (uint32_t)round) * kBox : here.patch;
}

// Columns 32j + 8 * quad .. + 7 of the tile are sum[16j + 4i + 2h + e], i = 0..3, e = 0..1.
__device__ __forceinline__ void pack_round(const float *bias, int32_t columns, const place &here,
                                           const float (&sum)[128], int round) {
#pragma unroll
    for (int j = 2 * round; j < 2 * round + 2; j++) {
        const int32_t column = here.column * kColumns + 32 * j + 8 * (int32_t)(here.lane % 4);
        float add[8] = {};
        if (bias != nullptr && column < columns) {
#pragma unroll
            for (int c = 0; c < 8; c++)
                add[c] = bias[column + c];
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint32_t word[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int at = 16 * j + 4 * i + 2 * h;
                word[i] = pack(fmaf(sum[at], here.scale[h], add[2 * i]),
                               fmaf(sum[at + 1], here.scale[h], add[2 * i + 1]));
            }
            const uint32_t row = here.lane / 4 + 8 * h, c = 4 * (j % 2) + here.lane % 4;
            store_shared(box_of(here, round) + row * 128 + (c ^ row % 8) * 16, word[0], word[1],
                         word[2], word[3]);
        }
    }
}

__device__ __forceinline__ void in_proj_work::finish(const args &a, const place &here,
                                                     const early &, const float (&sum)[128]) {
#pragma unroll
    for (int round = 0; round < kRounds; round++) {
        const int32_t column = here.column * kColumns + kRound * round;
        pack_round(a.bias, a.raw_columns, here, sum, round);
        store_fence();
        __syncwarp();
        if (here.lane == 0 && column < a.raw_columns) {
            store_box(&a.raw, box_of(here, round), column, (int32_t)here.warp_row);
        }
    }
    if (here.lane == 0) store_commit();
}

// Column 8j + 2 * quad + e of the block is sum[4j + 2h + e].
__device__ __forceinline__ void in_proj_work::finish_extra(const args &a, const place &here,
                                                           int32_t block,
                                                           const float (&sum)[GEMM_DT / 2]) {
    const int32_t first = block * GEMM_DT + 2 * (int32_t)(here.lane % 4);
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
    TRY(gemm_raw_map(&work.raw, args->raw, args->rows, args->raw_columns, args->raw_pitch));
    work.dt = args->dt;
    work.bias = args->bias;
    work.raw_columns = (int32_t)args->raw_columns;
    work.dt_columns = (int32_t)args->dt_columns;
    return launch<in_proj_work>(queue, p, work);
}
