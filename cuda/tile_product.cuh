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

// A warp has 4 groups of rows by 8 of columns, so that each of its reads of a slab is one line of
// shared memory.
static __device__ __forceinline__ int tile_row(void) {
    const int lane = threadIdx.x % 32;
    return (threadIdx.x / 64 * 4 + lane % 2 + lane / 16 * 2) * kTileRows;
}

static __device__ __forceinline__ int tile_column(void) {
    return (threadIdx.x / 32 % 2 * 8 + threadIdx.x / 2 % 8) * kTileColumns;
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
    if (Causal && first >= row + kTileRows)
        return; // all of the slab comes later: half the warps, once
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

// What fills a slab is read into registers first, all at once, so that the reads wait together.
constexpr int kFills = kSlab * kTile / kTileThreads; // numbers of a slab a thread fetches

// slab[k][i] = from[i * stride + k], for rows that lie along k; zero past `rows` and `count`. A warp
// reads 8 numbers of 4 rows at a time: whole sectors, and no two threads write to one bank.
static __device__ __forceinline__ void slab_turned(float (&slab)[kSlab][kPitch], const float *from,
                                                   int64_t stride, int rows, int count) {
    static_assert(kTileThreads / 32 * 8 == kSlab, "a warp has 8 of the slab's k");
    const int k = threadIdx.x / 32 * 8 + threadIdx.x % 8;
    const int first = threadIdx.x % 32 / 8;
    const float *at = from + first * stride + k;
    float value[kFills];
#pragma unroll
    for (int n = 0; n < kFills; n++, at += 4 * stride) {
        value[n] = k < count && first + 4 * n < rows ? *at : 0.0f;
    }
#pragma unroll
    for (int n = 0; n < kFills; n++) {
        slab[k][first + 4 * n] = value[n];
    }
}

// slab[k][c] = from[k * stride + c], for rows that lie along c; zero past `count` and `columns`.
// Scaled: times scale[k].
template <bool Scaled>
static __device__ __forceinline__ void slab_straight(float (&slab)[kSlab][kPitch],
                                                     const float *from, int64_t stride, int count,
                                                     int64_t columns, const float *scale) {
    constexpr int kStep = kTileThreads / kTile;
    const int c = threadIdx.x % kTile;
    const int first = threadIdx.x / kTile;
    const float *at = from + first * stride + c;
    float value[kFills];
#pragma unroll
    for (int n = 0; n < kFills; n++, at += kStep * stride) {
        value[n] = c < columns && first + kStep * n < count ? *at : 0.0f;
    }
#pragma unroll
    for (int n = 0; n < kFills; n++) {
        const int k = first + kStep * n;
        slab[k][c] = Scaled && k < count ? scale[k] * value[n] : value[n];
    }
}

// Writes four numbers that follow each other, of which `left` (or fewer) are there: at once where
// `aligned` says that every fourth number of such rows begins 16 bytes.
static __device__ __forceinline__ void tile_store(float *to, const float (&value)[kTileColumns],
                                                  int64_t left, bool aligned) {
    if (aligned && left >= kTileColumns) {
        *(float4 *)to = make_float4(value[0], value[1], value[2], value[3]);
        return;
    }
#pragma unroll
    for (int c = 0; c < kTileColumns; c++) {
        if (c < left) to[c] = value[c];
    }
}
