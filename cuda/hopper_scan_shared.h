#pragma once
// What the kernels of the Hopper scan agree on: sizes, the order of their scratch memory, and the
// maps by which the tensor copies read and write.
//
// decay[head][subtile], a scan_decay each, as scan_subtile_at numbers them.
// states[tile][head][16][128][4], the order in which a warpgroup's accumulator lies in its threads:
//   float e of piece j of thread t is H[p][n] with p = 16 (t / 32) + t % 32 / 4 + 8 (e / 2),
//   n = 8 j + 2 (t % 4) + e % 2.
// chunk_states[row / 128][head], tile_states[tile][head], an image of a state as products read it from
// shared memory, 16 KB: panels n 0 to 63 and 64 to 127, each 64 rows of p, swizzled (hopper_scan_ptx.cuh).
// chunk_states has one for each chunk but a tile's first; row is the batch's row with which the chunk
// begins: no two of these share 128 rows. It is the state that the tile's rows before leave there: the
// state is this plus fall[tile][head][k] times the tile's own. Of tile_states none exists where that is zero: a span's first tile without state_in.

#include "cuda/hopper_panels.h"
#include "cuda/hopper_scan.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

enum {
    SCAN_SUBTILE = 64,
    SCAN_CHUNK = 128,
    SCAN_TILE_CHUNKS = HOPPER_SCAN_TILE / SCAN_CHUNK,
    SCAN_HEAD_DIM = 64,
    SCAN_D_STATE = 128,
    SCAN_STATE = SCAN_HEAD_DIM * SCAN_D_STATE,
    SCAN_TICKETS = 2, // counters: prepare's, scan's
    SCAN_V_ROWS = 16, // of v that a warp stores at once
    SCAN_HALO = 3,    // rows before a tile that the convolution looks at
};

// What the rows of a subtile do, `last` being its last row: s = sum of dt A log2(e) up to and with the
// row, so exp(sum of dt A) = 2^s; never rises. Each kernel takes what it needs, from the beginning on.
struct scan_decay {
    float s[SCAN_SUBTILE];
    float w[SCAN_SUBTILE]; // 2^(s_last - s) dt, the row's weight in the state after the subtile
    float e[SCAN_SUBTILE]; // 2^(s_end - s) dt, with `end` the last of the row's block of 16
    float dt[SCAN_SUBTILE];
};

// The number of a tile's subtile that begins with `row`. A tile's follow each other, and no two tiles
// share one, as tiles come in the order of their rows.
PANEL_FUNCTION int64_t scan_subtile_at(int64_t row, int64_t tile) {
    return row / SCAN_SUBTILE + tile;
}
static inline int64_t scan_subtiles(int64_t rows, int64_t tiles) { // most of a batch
    return rows / SCAN_SUBTILE + tiles + 1;
}
static inline int64_t scan_conv_width(const struct hopper_scan_args *args) {
    return args->shape.heads * SCAN_HEAD_DIM + 2 * args->shape.groups * SCAN_D_STATE;
}
static inline int64_t scan_pairs(const struct hopper_scan_args *args) {
    return (args->shape.heads + 1) / 2;
}

C_BEGIN

// Boxes are [panel][row][64 columns], as memory is; a panel is a head, or 64 of the d_state columns.
// What a box has beyond the batch's rows is zeros.
struct scan_maps {
    CUtensorMap raw_x; // raw's x: 2 heads, 64 + SCAN_HALO rows, as they lie
    CUtensorMap x;     // work.x: 1 head, 64 rows, swizzled
    CUtensorMap bc;    // work.bc: 2 panels, 64 rows, swizzled
    CUtensorMap z;     // raw's z: 1 head, 64 rows, swizzled
    CUtensorMap v;     // the same, SCAN_V_ROWS rows
};
// Errors: PEER.
enum status scan_maps_make(struct scan_maps *maps, const struct hopper_scan_args *args);
// prepare's two kernels: everything but x; then x and the states. Errors: PEER.
enum status scan_prep_launch(const struct hopper_scan_args *args, cudaStream_t stream);
enum status scan_state_launch(const struct hopper_scan_args *args, cudaStream_t stream);

C_END
