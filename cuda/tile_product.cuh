#pragma once
// A product of 64 rows by 64 columns in registers, for the products inside the scan: out += left^T
// right over slabs of k in shared memory. Every sum is one chain of fused multiply-adds, k
// ascending, whatever the thread that holds it.

#include <stdint.h>

constexpr int kTile = 64;         // rows and columns of a product; tokens of a scan tile
constexpr int kTileThreads = 128; // 8 groups of 8 rows by 16 groups of 4 columns
constexpr int kTileRows = 8;      // sums a thread holds: 8 rows by 4 columns
constexpr int kTileColumns = 4;   //
constexpr int kSlab = 32;         // k at a time
constexpr int kPitch = kTile + 4; // of a slab's rows: keeps 16-byte alignment

struct tile_slabs {
    alignas(16) float left[kSlab][kPitch];  // [k][row]
    alignas(16) float right[kSlab][kPitch]; // [k][column]
};

struct tile_sums {
    float at[kTileRows][kTileColumns];
};

static __device__ __forceinline__ int tile_row(void) {
    return threadIdx.x / 16 * kTileRows;
}

static __device__ __forceinline__ int tile_column(void) {
    return threadIdx.x % 16 * kTileColumns;
}

static __device__ __forceinline__ void tile_zero(struct tile_sums &sums) {
    for (int r = 0; r < kTileRows; r++) {
        for (int c = 0; c < kTileColumns; c++) {
            sums.at[r][c] = 0.0f;
        }
    }
}

// Adds the slab's products. Causal: slab row k is token first + k, and a row takes only tokens up
// to its own; what it must not see may be anything, NaN too, and is left out, not multiplied by 0.
template <bool Causal>
static __device__ __forceinline__ void tile_add(const struct tile_slabs &slabs, int count,
                                                int first, struct tile_sums &sums) {
    const int row = tile_row();
    const int column = tile_column();
#pragma unroll 4
    for (int k = 0; k < count; k++) {
        float left[kTileRows], right[kTileColumns];
        *(float4 *)left = *(const float4 *)&slabs.left[k][row];
        *(float4 *)(left + 4) = *(const float4 *)&slabs.left[k][row + 4];
        *(float4 *)right = *(const float4 *)&slabs.right[k][column];
#pragma unroll
        for (int r = 0; r < kTileRows; r++) {
            if (Causal && first + k > row + r) continue;
#pragma unroll
            for (int c = 0; c < kTileColumns; c++) {
                sums.at[r][c] = fmaf(left[r], right[c], sums.at[r][c]);
            }
        }
    }
}

// Fills a slab from rows that lie along k: slab[k][i] = row i's element k. 8 numbers of 4 rows a
// warp at a time: whole sectors are read and no two threads meet in a bank. at(i, k) gives the
// number, 0 where there is none.
template <typename At>
static __device__ __forceinline__ void slab_turned(float (&slab)[kSlab][kPitch], At at) {
    const int lane = threadIdx.x % 32;
    const int warp = threadIdx.x / 32;
#pragma unroll
    for (int part = warp; part < kSlab / 8 * (kTile / 4); part += kTileThreads / 32) {
        const int k = part % (kSlab / 8) * 8 + lane % 8;
        const int i = part / (kSlab / 8) * 4 + lane / 8;
        slab[k][i] = at(i, k);
    }
}

// Fills a slab from rows that lie along its own rows: slab[k][c] = at(k, c).
template <typename At>
static __device__ __forceinline__ void slab_straight(float (&slab)[kSlab][kPitch], At at) {
    const int c = threadIdx.x % kTile;
#pragma unroll
    for (int k = threadIdx.x / kTile; k < kSlab; k += kTileThreads / kTile) {
        slab[k][c] = at(k, c);
    }
}
