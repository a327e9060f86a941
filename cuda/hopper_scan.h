#pragma once
// The SSD scan of one layer on Hopper (sm_90a), fused around its memory traffic: raw columns of
// in_proj go in, the gated output comes out in z's place. Three stages, because a state from the
// left neighbour may arrive between the first and the second:
//
//   conv_tail  raw -> the convolution part of each state_out
//   prepare    raw, dt_raw -> work: convolved x, B, C; dt and decays; what each tile adds to the
//              state, and what its rows before each multiple of 128 do
//   pass       the state before each tile, from state_in through the span; state_out
//   scan       y = SSD(x, B, C, dt) + D x; v = y silu(z); z := bf16(v * norm_weight); sq = sum v^2
//
// What they compute is said in ops/op.h. Tiles are of up to HOPPER_SCAN_TILE tokens; inside them
// are chunks of SCAN_CHUNK and subtiles of SCAN_SUBTILE. All arithmetic is f32 but the tensor cores'
// operands, which are bf16. A row's bits depend on its span's tokens before it only.

#include "ops/backend.h"

#include <cuda_runtime_api.h>

C_BEGIN

#define HOPPER_SCAN_TILE 1024

struct scan_decay;

// Scratch memory of a layer, reused by the next. Sizes: hopper_scan_work.
struct hopper_scan_work {
    int64_t pitch;            // rows between panels of x and bc (hopper_panels.h)
    void *x;                  // bf16 panels of d_inner columns, convolved
    void *bc;                 // bf16 panels of 2 groups d_state columns, convolved
    struct scan_decay *decay; // [heads, subtiles] (hopper_scan_shared.h)
    float *states;            // [tiles, heads, 8192]: what a tile adds to the state
    float *carry;             // [tiles, heads]: the factor of the state over a tile
    float *fall;              // [tiles, heads, 8]: over a tile's first 128 k rows
    void *chunk_states;       // bf16 [rows / 128 and 1, heads, 8192]: what they add, k from 1
    void *tile_states;        // bf16 [tiles, heads, 8192]: the state before a tile
    int32_t *order;           // [tiles]: the tiles, longest first, of equal ones the last first
    int32_t *chunk_list;      // 8 tile + k of each chunk of 128 rows, longest tiles first
    int32_t *chunk_count;     // how many
    int32_t *ticket;
};

// Device pointers but for the struct itself; batch.rows, tiles and spans are host values.
struct hopper_scan_args {
    struct scan_batch batch;
    struct scan_shape shape;
    int64_t d_conv;
    void *raw;         // bf16 panels (hopper_panels.h): those of z, x, B, C; z becomes v
    int64_t raw_pitch; // rows between panels, batch.rows or more
    const float *dt_raw;
    int64_t dt_pitch;         // dt_raw: [rows, dt_pitch], the first `heads` columns
    const float *conv_weight; // [conv_width, d_conv], aligned to 16 bytes
    const float *conv_bias;   // [conv_width] or NULL
    const float *dt_bias;     // [heads]
    float dt_least, dt_most;
    const float *a;           // [heads], negative
    const float *d;           // [heads]
    const float *norm_weight; // [d_inner], aligned to 16 bytes
    float *sq;                // [rows, heads]
    struct hopper_scan_work work;
    int32_t multiprocessors; // that the persistent kernels may fill
};

// Whether the fast kernels run: compute capability 9.0, and a shape they know (head_dim 64,
// d_state 128, d_conv 2 to 4, heads a multiple of groups, an even number a group if there are several).
bool hopper_scan_supported(int32_t device, const struct scan_shape *shape, int64_t d_conv);

// Points `work` into `memory` (aligned to 256 bytes) for batches of up to `rows` and `tiles`, and
// returns the bytes that takes. With memory NULL only the size counts.
size_t hopper_scan_work(struct hopper_scan_work *work, const struct scan_shape *shape, int64_t rows,
                        int64_t tiles, void *memory);

// Queued on the stream. Errors: PEER.
enum status hopper_scan_conv_tail(const struct hopper_scan_args *args, cudaStream_t stream);
enum status hopper_scan_prepare(const struct hopper_scan_args *args, cudaStream_t stream);
enum status hopper_scan_pass(const struct hopper_scan_args *args, cudaStream_t stream);
enum status hopper_scan(const struct hopper_scan_args *args, cudaStream_t stream);

C_END
