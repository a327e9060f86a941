// Greedy packing, first come first served. A window is full when it has no room for a tile of the
// span at hand, or as many tiles as the scan's buffers hold (many short spans).

#include "ops/model/windows.h"

#include "ops/base/check.h"

int64_t windows_pieces_most(const struct windows_settings *settings, int64_t rows) {
    // Every span has a row; every further piece follows one of at least a whole tile.
    return rows + rows / settings->tile_tokens + 1;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void next_window(struct windows *windows) {
    struct window *window = &windows->window[windows->count];
    const int64_t row = windows->count == 0 ? 0 : window[-1].row + window[-1].rows;
    windows->count++;
    *window =
        (struct window){.row = row, .first_tile = windows->tiles, .first_piece = windows->pieces};
}

// The rows of a span with `rows` left that the window takes now; 0: it is full.
static int64_t fitting(const struct windows_settings *settings, const struct window *window,
                       int64_t rows) {
    const int64_t tile = settings->tile_tokens;
    const int64_t free_rows = settings->window_rows - window->rows;
    const int64_t free_tiles = settings->window_tiles - window->tiles;
    if (rows <= free_rows && rows <= free_tiles * tile) return rows;
    return least(free_rows / tile, free_tiles) * tile;
}

static void add_piece(const struct windows_settings *settings, struct windows *windows,
                      const struct scan_span *piece) {
    struct window *window = &windows->window[windows->count - 1];
    struct scan_span *added = &windows->piece[windows->pieces++];
    *added = *piece;
    added->row = window->rows;
    added->first_tile = window->tiles;
    added->tiles = (piece->rows + settings->tile_tokens - 1) / settings->tile_tokens;
    for (int64_t i = 0; i < added->tiles; i++) {
        const int64_t row = i * settings->tile_tokens;
        windows->tile[windows->tiles++] = (struct scan_tile){
            .row = added->row + row,
            .rows = (int32_t)least(settings->tile_tokens, piece->rows - row),
            .span = (int32_t)window->pieces,
        };
    }
    window->rows += piece->rows;
    window->tiles += added->tiles;
    window->pieces++;
}

void windows_cut(const struct windows_settings *settings, const struct model_span *spans,
                 int64_t span_count, struct windows *windows) {
    CHECK(settings->window_rows >= settings->tile_tokens && settings->window_tiles > 0);
    windows->tiles = windows->pieces = windows->count = 0;
    // A window may hold the end of one cut span and the beginning of the next: the turn goes on
    // over spans, so that the one's carry is not written while the other's is read.
    int turn = 0;
    next_window(windows);
    for (int64_t i = 0; i < span_count; i++) {
        int64_t left = spans[i].rows;
        struct scan_span piece = {.state_in = spans[i].state_in,
                                  .in_layer_bytes = settings->layer_bytes};
        while (left > 0) {
            piece.rows = fitting(settings, &windows->window[windows->count - 1], left);
            if (piece.rows == 0) {
                next_window(windows);
                continue;
            }
            left -= piece.rows;
            if (left == 0) {
                piece.state_out = spans[i].state_out;
                piece.out_layer_bytes = settings->layer_bytes;
                add_piece(settings, windows, &piece);
                continue;
            }
            piece.state_out = settings->carry[turn];
            piece.out_layer_bytes = 0;
            add_piece(settings, windows, &piece);
            piece.state_in = settings->carry[turn];
            piece.in_layer_bytes = 0;
            turn = 1 - turn;
        }
    }
}
