#pragma once
// How a step's spans lie in windows: the rows that go through a layer at a time. Spans are packed;
// one that does not fit is cut into pieces, at tile borders of its own, and its state goes from
// piece to piece through a carry. Pure arithmetic, no backend calls.

#include "ops/backend.h"
#include "ops/model/model.h"

C_BEGIN

struct window {
    int64_t row, rows;           // in the step
    int64_t first_tile, tiles;   // in the step's tile table
    int64_t first_piece, pieces; // in the step's piece table
};

// Tables of a step; room for `rows` rows in any number of spans. Rows, tiles and pieces inside the
// entries of tile and piece count from their window.
struct windows {
    struct scan_tile *tile;
    struct scan_span *piece;
    struct window *window;
    int64_t tiles, pieces, count;
};

struct windows_settings {
    int64_t window_rows; // a multiple of tile_tokens
    int64_t window_tiles;
    int64_t tile_tokens;
    int64_t layer_bytes; // of a state in a slot
    char *carry[2];      // two blocks of one layer's state; a cut span uses them in turn
};

// Entries that a step of `rows` rows may need.
int64_t windows_pieces_most(const struct windows_settings *settings, int64_t rows);

// Fills the tables. Spans have been checked.
void windows_cut(const struct windows_settings *settings, const struct model_span *spans,
                 int64_t span_count, struct windows *windows);

C_END
