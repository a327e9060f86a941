#pragma once
// What the roles of a product's kernel (hopper_gemm.cuh) share: the constants, the problem, what lies
// in shared memory behind the stages, which tile a ticket stands for, and a row's scale.

#include "cuda/hopper_gemm.h"
#include "cuda/hopper_panels.h"
#include "cuda/hopper_ptx.cuh"
#include "cuda/hopper_wgmma.cuh"

#include <cuda_bf16.h>

namespace hopper {

constexpr int kRows = 128; // of a CTA's tile
constexpr int kColumns = GEMM_COLUMNS;
constexpr int kDepth = PANEL_COLUMNS; // k of a step
constexpr int kStages = 4;
constexpr int kThreads = 384;
constexpr int kCluster = 2;
constexpr int kWarps = 8;      // of the multipliers
constexpr int kLeastSteps = 6; // of a tile: what is held back and the side room go out beside them
constexpr int kBand = 8;       // row pairs that are worked through all columns before the next
constexpr uint32_t kBytesA = kRows * kDepth * 2;
constexpr uint32_t kBytesB = kColumns * kDepth * 2;

// What all tiles of a product share.
struct problem {
    CUtensorMap a, b, extra;
    int32_t rows, steps; // steps of kDepth along k
    int32_t row_pairs, column_tiles;
    int32_t extra_tiles; // the last column tiles, which have extra columns
    bool backward;       // from the last rows to the first
    uint32_t *ticket;    // [0]: next tile; [1]: clusters that are done
    gemm_scale scale;
};

struct tile {
    int32_t row;    // first row of this CTA
    int32_t column; // index of the column tile
    int32_t extra;  // index of its block of extra columns; negative: it has none
};

// Behind the stages and the side room.
struct alignas(16) control {
    float scale[kRows];
    float factor[kColumns];
    uint64_t full[kStages], empty[kStages], room_full[kStages];
    uint64_t turn_full[2], turn_empty[2];
    uint64_t scale_full, scale_empty;
    uint64_t side_here, side_full;
    uint32_t turn[2];
};

template <int kExtra> // columns
constexpr uint32_t kBytesStage = kBytesA + kBytesB + kDepth * 2 * kExtra;
template <class Work>
constexpr uint32_t kControl = kBytesStage<Work::kExtra> *kStages + Work::kSideRoom; // where it lies
template <class Work>
constexpr uint32_t kShared = kControl<Work> + sizeof(control);

// What an epilogue need not have: extra columns, rooms, bytes of a room beside them, parts that it holds
// back, values of the tile's rows that are loaded early, factors of its columns.
struct plain_work {
    static constexpr int kExtra = 0, kRooms = 0, kParts = 0;
    static constexpr uint32_t kSideRoom = 0;
    struct early {};
    struct held {};
    template <class... Any>
    __device__ static void load(const Any &...) {}
    template <class... Any>
    __device__ static void load_factor(const Any &...) {}
    template <class... Any>
    __device__ static void fetch_room(const Any &...) {}
    template <class... Any>
    __device__ static void store_room(const Any &...) {}
    template <class... Any>
    __device__ static void put(const Any &...) {}
    template <class... Any>
    __device__ static void finish_extra(const Any &...) {}
};

// A place in a ring of barriers and the parity of its phase.
template <int kSlots>
struct ring {
    uint32_t slot = 0, parity = 0;
    __device__ void next() {
        if (++slot == kSlots) {
            slot = 0;
            parity ^= 1;
        }
    }
};

__device__ __forceinline__ uint32_t tile_count(const problem &p) {
    return (uint32_t)p.row_pairs * (uint32_t)p.column_tiles;
}

// Bands of kBand row pairs; in a band all pairs of a column tile, then the next column tile: what runs
// at one time shares a few tiles of A and B in L2. in_proj, prepare and scan go forward, the tile
// states and out_proj backward: they begin with the rows that were written last, which L2 still holds.
__device__ __forceinline__ tile find_tile(const problem &p, uint32_t ticket, uint32_t rank) {
    const uint32_t columns = (uint32_t)p.column_tiles;
    const uint32_t band = ticket / ((uint32_t)kBand * columns), first = band * kBand;
    const uint32_t high = min((uint32_t)p.row_pairs - first, (uint32_t)kBand);
    const uint32_t in_band = ticket - first * columns;
    const int32_t column = (int32_t)(in_band / high), next = (int32_t)(first + in_band % high);
    const int32_t pair = p.backward ? p.row_pairs - 1 - next : next;
    return tile{(pair * kCluster + (int32_t)rank) * kRows, column,
                column - (p.column_tiles - p.extra_tiles)};
}

__device__ __forceinline__ float row_scale(const gemm_scale &scale, int64_t row) {
    const float *part = scale.squares + row * scale.parts;
    float sum = 0.0f;
    if (scale.parts % 4 == 0) {
#pragma unroll 4
        for (int i = 0; i < scale.parts; i += 4) {
            const float4 four = *reinterpret_cast<const float4 *>(part + i);
            sum = sum + four.x + four.y + four.z + four.w;
        }
    } else {
#pragma unroll 4
        for (int i = 0; i < scale.parts; i++)
            sum += part[i];
    }
    return 1.0f / sqrtf(sum / scale.columns + scale.epsilon);
}

} // namespace hopper
