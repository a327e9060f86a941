#pragma once
// Products of operands rounded to bf16: one part each (dtype bf16), or two, x = hi + lo, and three
// products hi hi + hi lo + lo hi (dtype bf16x3). The arithmetic is that of AMX's tiles, and all
// instruction sets give its bits:
//
//   Inputs go in steps of 32, the last padded with zeros. In a step every output has two chains of
//   16 fused multiply-adds from zero, k ascending, one over even k and one over odd k; then
//   sum += even + odd. bf16x3 does so three times a step: hi hi, then the rows' hi by the weights'
//   lo, then the rows' lo by the weights' hi.
//
// A kernel works on a block of a few rows by one panel of 64 outputs. How rows and weights lie in
// memory is its own affair, but that each takes a fixed room a step and part:
//
//   block  [steps, parts, rows of a block, row_bytes]
//   panel  [steps, parts, BF16_STEP_BYTES]

#include <stdint.h>

#define BF16_STEP       32                   // inputs
#define BF16_STEP_BYTES (BF16_STEP * 64 * 2) // of a panel, a part
#define BF16_ROWS_MOST  32                   // of a block
#define BF16_PARTS_MOST 2

static inline int64_t bf16_steps(int64_t inputs) {
    return (inputs + BF16_STEP - 1) / BF16_STEP;
}

struct bf16_product {
    const void *block, *panel;
    int64_t rows, steps;           // rows: 1 to a block's
    int64_t parts;                 // 1 or 2
    const char *ahead, *ahead_end; // memory that is wanted soon: to be fetched meanwhile
    float *tile;                   // [rows of a block, 64], written; rows past the last may be too
};

struct bf16_kernels {
    const char *name;
    const char *layout; // of panels: kernels of one name here may read each other's
    int64_t rows;       // of a block
    int64_t row_bytes;  // of a row, a step and a part

    // weight: [outputs, inputs], at most 64 outputs; the panel's others become zero.
    void (*pack_panel)(const float *weight, int64_t outputs, int64_t inputs, int64_t parts,
                       void *panel);
    // in[r]: row r, of `inputs` floats.
    void (*convert)(const float *const *in, int64_t rows, int64_t inputs, int64_t parts,
                    void *block);
    void (*product)(const struct bf16_product *product);
};

#if defined(__x86_64__)
extern const struct bf16_kernels bf16_kernels_amx;
extern const struct bf16_kernels bf16_kernels_avx512bf16;
extern const struct bf16_kernels bf16_kernels_avx512;
extern const struct bf16_kernels bf16_kernels_avx2;
#endif
#if defined(__aarch64__)
extern const struct bf16_kernels bf16_kernels_neon;
#endif
extern const struct bf16_kernels bf16_kernels_scalar;
