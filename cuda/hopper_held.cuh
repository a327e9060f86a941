#pragma once
// What an epilogue holds back of a tile: a thread's values as bf16, in registers. All multiprocessors come
// to their epilogues at one time and would wait for one another's stores; these go out, a panel at a time,
// between the next tile's products.

#include "cuda/hopper_gemm.cuh"

namespace hopper {

struct held_rows {
    uint32_t word[64];
    __nv_bfloat16 *to;               // of the thread's first row and columns
    int32_t rows_left, columns_left; // from there, from the tile's first
};

__device__ __forceinline__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 two = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&two);
}

// A thread's eight columns of each 32 of the tile: 32j + 8 * quad .. + 7.
__device__ __forceinline__ int32_t column_of(const place &here, int j) {
    return here.column * kColumns + 32 * j + 8 * (int32_t)here.quad;
}

// Where the tile goes in panels of `columns` columns.
__device__ __forceinline__ void hold(held_rows &held, __nv_bfloat16 *panels, int64_t pitch,
                                     int32_t columns, const place &here) {
    held.to = panels + panel_at(pitch, here.row, column_of(here, 0));
    held.rows_left = here.rows - (int32_t)here.row;
    held.columns_left = columns - here.column * kColumns;
}

// Panel `part` of the tile. Words 8j + 4h .. + 3 are the columns of the tile's j-th 32, row h.
__device__ __forceinline__ void put_panel(const held_rows &held, int64_t pitch, int part) {
    __nv_bfloat16 *to = held.to + panel_at(pitch, 0, part * PANEL_COLUMNS);
    if (part * PANEL_COLUMNS >= held.columns_left) return;
#pragma unroll
    for (int j = 0; j < 2; j++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint32_t *word = held.word + 16 * part + 8 * j + 4 * h;
            if (8 * h < held.rows_left) {
                *reinterpret_cast<uint4 *>(to + 8 * h * PANEL_COLUMNS + 32 * j) =
                    make_uint4(word[0], word[1], word[2], word[3]);
            }
        }
    }
}

} // namespace hopper
