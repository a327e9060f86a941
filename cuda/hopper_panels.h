#pragma once
// How activations lie in memory between the kernels of the fused layer: in panels,
//
//   bf16 [column / 64][row][64]     u, raw's z | x | B | C, v, convolved x, B and C
//   f32  [column / 32][row][32]     the residual
//
// so that what a tensor copy brings or takes, some rows of 128 bytes, is one piece of memory. Panels are
// `pitch` rows apart: the rows that the array has room for, however many a call uses.

#include <stdint.h>

enum { PANEL_BYTES = 128, PANEL_COLUMNS = 64, PANEL_FLOATS = 32 };

#ifdef __CUDACC__
#    define PANEL_FUNCTION static __host__ __device__ inline
#else
#    define PANEL_FUNCTION static inline
#endif

// The element (row, column) of an array of bf16, and of one of f32.
PANEL_FUNCTION int64_t panel_at(int64_t pitch, int64_t row, int64_t column) {
    return (column / PANEL_COLUMNS * pitch + row) * PANEL_COLUMNS + column % PANEL_COLUMNS;
}
PANEL_FUNCTION int64_t panel_float_at(int64_t pitch, int64_t row, int64_t column) {
    return (column / PANEL_FLOATS * pitch + row) * PANEL_FLOATS + column % PANEL_FLOATS;
}
