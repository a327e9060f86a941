// out_proj: r += scale * (v W^T) + bias, in place in f32, and what the next norm wants of the new r:
// u = bf16(r * norm) and the sum of squares over the tile's columns.

#include "cuda/hopper_launch.cuh"

namespace hopper {

// 64 columns of the CTA's rows are a round: a panel of u and two of r. Its room is 128 rows of r's old
// values, in two boxes, which the fetcher brings and the new values replace, and a box of u; all of
// 128-byte rows, swizzled by 128 bytes.
constexpr int kRound = PANEL_COLUMNS, kRounds = kColumns / kRound;
constexpr uint32_t kBoxR = kRows * PANEL_BYTES, kBoxU = kBoxR;

// The panel of u of the tile's round; r has those of twice the number and the next.
__device__ __forceinline__ int32_t panel_of(const tile &t, int32_t round) {
    return t.column * kRounds + round;
}

// A thread's eight columns of each 32 of the tile: 32j + 8 * quad .. + 7.
__device__ __forceinline__ int32_t column_of(const place &here, int j) {
    return here.column * kColumns + 32 * j + 8 * (int32_t)here.quad;
}

template <bool kBias>
struct out_proj_work : plain_work {
    struct args {
        CUtensorMap r, u; // boxes of 128 rows and 128 bytes
        float *squares;
        const float *bias, *norm;
        int32_t columns, tiles;
    };
    static constexpr int kGroup = 32; // a thread's eight columns lie side by side: 16 bytes of bf16
    static constexpr int kRooms = kRounds;
    static_assert(2 * kBoxR + kBoxU <= kBytesStage<kExtra>, "a room");

    // norm
    __device__ static void load_factor(const args &a, const tile &t, uint32_t lane, float *factor) {
        for (int32_t i = (int32_t)lane; i < kColumns; i += 32) {
            const int32_t column = t.column * kColumns + i;
            factor[i] = column < a.columns ? a.norm[column] : 0.0f;
        }
    }
    __device__ static void fetch_room(const args &a, const tile &t, int32_t round, uint32_t room,
                                      uint32_t full) {
        const int32_t panel = panel_of(t, round);
        barrier_arrive_expecting(full, 2 * kBoxR);
        copy_box(room, &a.r, full, t.row, 2 * panel);
        copy_box(room + kBoxR, &a.r, full, t.row, 2 * panel + 1);
    }
    __device__ static void store_room(const args &a, const tile &t, int32_t round, uint32_t room) {
        const int32_t panel = panel_of(t, round);
        if (panel * kRound >= a.columns) return;
        store_box(&a.r, room, t.row, 2 * panel);
        store_box(&a.r, room + kBoxR, t.row, 2 * panel + 1);
        store_box(&a.u, room + 2 * kBoxR, t.row, panel);
    }
    __device__ static void finish(const args &a, const place &here, const early &early,
                                  stage_ring &slots, const float (&sum)[128], held &);
};

__device__ __forceinline__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 two = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&two);
}

__device__ __forceinline__ float4 add(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// In a box, row h of the thread (its first or the one eight below) and piece c of 16 bytes.
__device__ __forceinline__ uint32_t piece(const place &here, uint32_t box, int h, uint32_t c) {
    return box + (here.in_tile + 8 * (uint32_t)h) * 128 + (c ^ here.in_tile % 8) * 16;
}

// The thread's eight columns of the j-th 32 are sum[16j + 4i + 2h + e], i = 0..3, e = 0..1: half s of
// them i = 2s and 2s + 1. A row's squares are summed apart for each of its pieces of 16 bytes.
template <bool kBias>
__device__ __forceinline__ void finish_columns(const typename out_proj_work<kBias>::args &a,
                                               const place &here, const float (&sum)[128],
                                               uint32_t room, int j, float (&squares)[2][2][2]) {
    const uint32_t box = room + (uint32_t)(j % 2) * kBoxR;
    const int32_t column = column_of(here, j);
    const bool there = column < a.columns;
    const float4 *norm = reinterpret_cast<const float4 *>(here.factor + 32 * j + 8 * here.quad);
    float4 bias[2] = {};
    if (kBias && there) {
        bias[0] = reinterpret_cast<const float4 *>(a.bias + column)[0];
        bias[1] = reinterpret_cast<const float4 *>(a.bias + column)[1];
    }
    float4 x[2][2]; // h, s
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int s = 0; s < 2; s++)
            x[h][s] = load_shared(piece(here, box, h, 2 * here.quad + s));
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float scale = here.scale[h];
        uint32_t word[4];
#pragma unroll
        for (int s = 0; s < 2; s++) {
            const int at = 16 * j + 8 * s + 2 * h;
            float4 &y = x[h][s];
            if (kBias) y = add(y, bias[s]);
            y = add(y, make_float4(sum[at] * scale, sum[at + 1] * scale, sum[at + 4] * scale,
                                   sum[at + 5] * scale));
            float &squared = squares[h][j % 2][s];
            const float more =
                fmaf(y.w, y.w, fmaf(y.z, y.z, fmaf(y.y, y.y, fmaf(y.x, y.x, squared))));
            squared = there ? more : squared;
            store_shared(piece(here, box, h, 2 * here.quad + s), __float_as_uint(y.x),
                         __float_as_uint(y.y), __float_as_uint(y.z), __float_as_uint(y.w));
            const float4 w = norm[s];
            word[2 * s] = pack(y.x * w.x, y.y * w.y);
            word[2 * s + 1] = pack(y.z * w.z, y.w * w.w);
        }
        store_shared(piece(here, room + 2 * kBoxR, h, 4 * (uint32_t)(j % 2) + here.quad), word[0],
                     word[1], word[2], word[3]);
    }
}

// A row's squares: by rising round in a piece, then over its 16 pieces in halves.
template <bool kBias>
__device__ __forceinline__ void out_proj_work<kBias>::finish(const args &a, const place &here,
                                                             const early &early, stage_ring &slots,
                                                             const float (&sum)[128], held &) {
    float squares[2][2][2] = {}; // h, half of the round, half of eight columns
#pragma unroll
    for (int round = 0; round < kRounds; round++) {
        const uint32_t room = slots.enter();
#pragma unroll
        for (int j = 2 * round; j < 2 * round + 2; j++)
            finish_columns<kBias>(a, here, sum, room, j, squares);
        slots.leave_room();
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float part[2];
#pragma unroll
        for (int s = 0; s < 2; s++) {
            part[s] = squares[h][0][s] + squares[h][1][s];
            part[s] += __shfl_xor_sync(0xffffffffu, part[s], 2);
            part[s] += __shfl_xor_sync(0xffffffffu, part[s], 1);
        }
        const int64_t row = here.row + 8 * h;
        if (here.quad == 0 && row < here.rows)
            a.squares[row * a.tiles + here.column] = part[0] + part[1];
    }
}

} // namespace hopper

enum status hopper_out_proj(const struct gemm_queue *queue, const struct gemm_out_proj *args) {
    using namespace hopper;
    if (args->rows == 0) return STATUS_OK;
    problem p =
        make_problem(queue, args->v, args->weight, args->scale, args->rows, args->n, args->k);
    const int64_t n = args->n;
    gemm_operand r = {}, u = {};
    p.backward = true; // the scan before it and the product behind it go forward
    TRY(gemm_operand_rows(&r, args->r, args->rows, 2 * n, args->pitch)); // as pairs of 16 bits
    TRY(gemm_operand_rows(&u, args->u, args->rows, n, args->pitch));
    const auto start = [&](auto work) {
        return launch<decltype(work)>(
            queue, p,
            {r.map, u.map, args->squares, args->bias, args->norm, (int32_t)n, p.column_tiles});
    };
    return args->bias == nullptr ? start(out_proj_work<false>{}) : start(out_proj_work<true>{});
}
