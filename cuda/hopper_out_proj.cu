// out_proj: r += scale * (v W^T) + bias, in place in f32, and what the next norm wants of the new r:
// u = bf16(r * norm) and the sum of squares over the tile's columns.

#include "cuda/hopper_held.cuh"
#include "cuda/hopper_launch.cuh"

namespace hopper {

// A box is a panel of r, of the CTA's rows: 128 bytes a row, swizzled by 128 bytes. The rooms, three boxes
// each, and the side room, two, are brought r's old values, which the new ones replace. u is held back.
constexpr uint32_t kBox = kRows * PANEL_BYTES;
constexpr int kBoxes = kColumns / PANEL_FLOATS, kBoxesRoom = 3;

__device__ __forceinline__ int32_t boxes_in(int32_t room) {
    return min(kBoxes - room * kBoxesRoom, kBoxesRoom);
}

template <bool kBias>
struct out_proj_work : plain_work {
    struct args {
        CUtensorMap r; // boxes of 128 rows and 128 bytes
        __nv_bfloat16 *u;
        int64_t pitch;
        float *squares;
        const float *bias, *norm;
        int32_t columns, tiles;
    };
    static constexpr int kGroup = 32; // a thread's eight columns lie side by side: 16 bytes of bf16
    static constexpr int kRooms = kBoxes / kBoxesRoom;
    static constexpr uint32_t kSideRoom = kBoxes % kBoxesRoom * kBox;
    static constexpr int kParts = kColumns / PANEL_COLUMNS;
    static_assert(kBoxesRoom * kBox <= kBytesStage<plain_work::kExtra>, "a room");
    using held = held_rows;

    // norm
    __device__ static void load_factor(const args &a, const tile &t, uint32_t lane, float *factor) {
        for (int32_t i = (int32_t)lane; i < kColumns; i += 32) {
            const int32_t column = t.column * kColumns + i;
            factor[i] = column < a.columns ? a.norm[column] : 0.0f;
        }
    }
    // Room kRooms is the side room.
    __device__ static void fetch_room(const args &a, const tile &t, int32_t room, uint32_t to,
                                      uint32_t full) {
        const int32_t panel = t.column * kBoxes + room * kBoxesRoom;
        barrier_arrive_expecting(full, (uint32_t)boxes_in(room) * kBox);
        for (int32_t i = 0; i < boxes_in(room); i++)
            copy_box(to + (uint32_t)i * kBox, &a.r, full, t.row, panel + i);
    }
    __device__ static void store_room(const args &a, const tile &t, int32_t room, uint32_t from) {
        const int32_t panel = t.column * kBoxes + room * kBoxesRoom;
        for (int32_t i = 0; i < boxes_in(room); i++) {
            if ((panel + i) * PANEL_FLOATS < a.columns)
                store_box(&a.r, from + (uint32_t)i * kBox, t.row, panel + i);
        }
    }
    __device__ static void finish(const args &a, const place &here, const early &early,
                                  stage_ring &slots, const float (&sum)[128], held &held);
    __device__ static void put(const args &a, const held &held, int part) {
        put_panel(held, a.pitch, part);
    }
};

__device__ __forceinline__ float4 add(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// In a box, row h of the thread (its first or the one eight below) and piece c of 16 bytes.
__device__ __forceinline__ uint32_t piece(const place &here, uint32_t box, int h, uint32_t c) {
    return box + (here.in_tile + 8 * (uint32_t)h) * 128 + (c ^ here.in_tile % 8) * 16;
}

// The thread's eight columns of the j-th 32 are sum[16j + 4i + 2h + e], i = 0..3, e = 0..1: half s of
// them i = 2s and 2s + 1. A row's squares are summed apart for each of a panel's pieces of 16 bytes, j
// even and odd.
template <bool kBias>
__device__ __forceinline__ void finish_columns(const typename out_proj_work<kBias>::args &a,
                                               const place &here, const float (&sum)[128],
                                               uint32_t box, int j, float (&squares)[2][2][2],
                                               held_rows &held) {
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
        uint32_t *word = held.word + 8 * j + 4 * h;
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
    }
}

// A row's squares: by rising j in a piece, then over its 16 pieces in halves.
template <bool kBias>
__device__ __forceinline__ void out_proj_work<kBias>::finish(const args &a, const place &here,
                                                             const early &, stage_ring &slots,
                                                             const float (&sum)[128], held &held) {
    float squares[2][2][2] = {}; // h, j % 2, half of eight columns
    hold(held, a.u, a.pitch, a.columns, here);
#pragma unroll
    for (int room = 0; room <= kRooms; room++) {
        const bool side = room == kRooms;
        const uint32_t boxes = side ? slots.enter_side() : slots.enter();
#pragma unroll
        for (int i = 0; i < kBoxesRoom && room * kBoxesRoom + i < kBoxes; i++) {
            finish_columns<kBias>(a, here, sum, boxes + (uint32_t)i * kBox, room * kBoxesRoom + i,
                                  squares, held);
        }
        side ? slots.leave_side() : slots.leave_room();
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
    gemm_operand r = {};
    p.backward = true; // the scan before it and the product behind it go forward
    TRY(gemm_operand_rows(&r, args->r, args->rows, 2 * n, args->pitch)); // as pairs of 16 bits
    const auto start = [&](auto work) {
        return launch<decltype(work)>(queue, p,
                                      {r.map, (__nv_bfloat16 *)args->u, args->pitch, args->squares,
                                       args->bias, args->norm, (int32_t)n, p.column_tiles});
    };
    return args->bias == nullptr ? start(out_proj_work<false>{}) : start(out_proj_work<true>{});
}
