// out_proj: r += scale * (v W^T) + bias, in place in f32, and what the next norm wants of the new r:
// u = bf16(r * norm) and the sum of squares over the tile's columns.

#include "cuda/hopper_launch.cuh"

namespace hopper {

// In the sums a thread has 16 bytes here and there, and global memory wants whole lines. So each warp
// turns its 16 rows, 64 columns at a time, in a patch of shared memory of its own: from then on a lane
// has four columns (4 * (lane % 16) ..) of rows lane / 16 + 2i, and a warp moves two rows of 256 bytes
// at a time. r's old values are on their way a round ahead, the first while the tensor cores finish.
constexpr int kRound = 64, kRounds = kColumns / kRound, kPairs = 8; // pairs of rows

template <bool kBias>
struct out_proj_work {
    struct args {
        float *r;
        __nv_bfloat16 *u;
        float *squares;
        const float *bias, *norm;
        int32_t columns, tiles;
    };
    struct early {
        float4 old[kPairs];
    };
    static constexpr int kGroup = 16; // a thread's four columns lie side by side: 16 bytes of f32
    static constexpr int kExtra = 0;
    static constexpr bool kKeepsStage = false;
    static constexpr int kPatch = 16 * kRound * 4; // bytes

    // The tile's part of r's row, long before the epilogue reads it.
    __device__ static void prefetch(const args &a, const tile &t, int64_t row) {
        const int32_t first = t.column * kColumns, left = a.columns - first;
        hopper::prefetch(a.r + row * a.columns + first, (uint32_t)min(left, kColumns) * 4);
    }
    __device__ static void load(const args &a, const place &here, early &early) {
        load_round(a, here, 0, early.old);
    }
    __device__ static void finish(const args &a, const place &here, const early &early,
                                  const float (&sum)[128]);
    __device__ static void finish_extra(const args &, const place &, int32_t, const float (&)[1]) {}

    __device__ static void load_round(const args &a, const place &here, int round,
                                      float4 (&old)[kPairs]);
    __device__ static void finish_round(const args &a, const place &here, int round,
                                        const float4 (&old)[kPairs], float (&squares)[kPairs]);
};

__device__ __forceinline__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 two = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&two);
}

// The lane's first row and column after the turn.
__device__ __forceinline__ int64_t turned_row(const place &here) {
    return here.warp_row + here.lane / 16;
}
__device__ __forceinline__ int32_t turned_column(const place &here, int round) {
    return here.column * kColumns + kRound * round + 4 * (int32_t)(here.lane % 16);
}

template <bool kBias>
__device__ __forceinline__ void out_proj_work<kBias>::load_round(const args &a, const place &here,
                                                                 int round, float4 (&old)[kPairs]) {
    const int64_t row = turned_row(here);
    const int32_t column = turned_column(here, round);
    const float *r = a.r + row * a.columns + column;
#pragma unroll
    for (int i = 0; i < kPairs; i++) {
        old[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (row + 2 * i < here.rows && column < a.columns) {
            old[i] = __ldcg(reinterpret_cast<const float4 *>(r + (int64_t)(2 * i) * a.columns));
        }
    }
}

// A row of the patch is 16 pieces of 16 bytes; in odd rows piece c lies at c ^ 4, so that neither a
// thread's four columns of two rows nor a row's pieces meet in a bank.
__device__ __forceinline__ uint32_t piece(const place &here, uint32_t row, uint32_t c) {
    return here.patch + (row * 16 + (c ^ (row % 2 * 4))) * 16;
}

// Columns 16j + 4 * quad .. + 3 of the tile are sum[8j + 4i + 2h + e], i = 0..1, e = 0..1.
__device__ __forceinline__ void turn_round(const place &here, const float (&sum)[128], int round) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int at = 8 * (4 * round + j) + 2 * h;
            const float scale = here.scale[h];
            store_shared(piece(here, here.lane / 4 + 8 * h, 4 * j + here.lane % 4),
                         __float_as_uint(sum[at] * scale), __float_as_uint(sum[at + 1] * scale),
                         __float_as_uint(sum[at + 4] * scale),
                         __float_as_uint(sum[at + 5] * scale));
        }
    }
}

template <bool kBias>
__device__ __forceinline__ void out_proj_work<kBias>::finish_round(const args &a, const place &here,
                                                                   int round,
                                                                   const float4 (&old)[kPairs],
                                                                   float (&squares)[kPairs]) {
    const int64_t row = turned_row(here);
    const int32_t column = turned_column(here, round);
    const int64_t at = row * a.columns + column;
    if (column >= a.columns) return;
    const float4 norm = *reinterpret_cast<const float4 *>(a.norm + column);
    float4 bias = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (kBias) bias = *reinterpret_cast<const float4 *>(a.bias + column);
#pragma unroll
    for (int i = 0; i < kPairs; i++) {
        const float4 add = load_shared(piece(here, here.lane / 16 + 2 * i, here.lane % 16));
        float4 x = old[i];
        if (kBias) x = make_float4(x.x + bias.x, x.y + bias.y, x.z + bias.z, x.w + bias.w);
        x = make_float4(x.x + add.x, x.y + add.y, x.z + add.z, x.w + add.w);
        squares[i] = fmaf(x.w, x.w, fmaf(x.z, x.z, fmaf(x.y, x.y, fmaf(x.x, x.x, squares[i]))));
        if (row + 2 * i >= here.rows) continue;
        const int64_t to = at + (int64_t)(2 * i) * a.columns;
        *reinterpret_cast<float4 *>(a.r + to) = x;
        *reinterpret_cast<uint2 *>(a.u + to) =
            make_uint2(pack(x.x * norm.x, x.y * norm.y), pack(x.z * norm.z, x.w * norm.w));
    }
}

// A row's squares: by rising column in a lane, then over its 16 lanes in halves.
template <bool kBias>
__device__ __forceinline__ void out_proj_work<kBias>::finish(const args &a, const place &here,
                                                             const early &early,
                                                             const float (&sum)[128]) {
    float4 old[kRounds][kPairs];
    float squares[kPairs] = {};
#pragma unroll
    for (int i = 0; i < kPairs; i++)
        old[0][i] = early.old[i];
#pragma unroll
    for (int round = 0; round < kRounds; round++) {
        turn_round(here, sum, round);
        __syncwarp();
        if (round + 1 < kRounds) load_round(a, here, round + 1, old[round + 1]);
        finish_round(a, here, round, old[round], squares);
        __syncwarp(); // all have read the patch
    }
#pragma unroll
    for (int i = 0; i < kPairs; i++) {
        for (int half = 8; half > 0; half /= 2) {
            squares[i] += __shfl_xor_sync(0xffffffffu, squares[i], half);
        }
        const int64_t row = turned_row(here) + 2 * i;
        if (here.lane % 16 == 0 && row < here.rows)
            a.squares[row * a.tiles + here.column] = squares[i];
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
