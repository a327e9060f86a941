// How spans lie in windows: thousands of draws, each checked against what windows.h promises.

#include "ops/model/windows.h"

#include <stdlib.h>
#include <string.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define ROWS_MOST 3000
#define LAYER     4096

struct tables {
    struct scan_tile tile[ROWS_MOST];
    struct scan_span piece[2 * ROWS_MOST + 1];
    struct window window[ROWS_MOST];
    struct model_span span[ROWS_MOST];
    char carry[2][LAYER], slots[2][16 * LAYER];
};

static uint32_t draw(uint32_t *seed, uint32_t below) {
    *seed = *seed * 1664525 + 1013904223;
    return (uint32_t)(((uint64_t)*seed * below) >> 32);
}

static int64_t draw_spans(struct tables *tables, uint32_t *seed, int64_t tile) {
    const uint32_t kind = draw(seed, 4);
    int64_t rows = 0, count = 0;
    const int64_t most = 1 + draw(seed, ROWS_MOST);
    while (rows < most) {
        int64_t length = 1 + draw(seed, kind == 0 ? 3 : kind == 1 ? 100 : 1500);
        if (kind == 3) length = length * tile / 8;
        if (length < 1) length = 1;
        if (length > most - rows) length = most - rows;
        tables->span[count++] = (struct model_span){
            .rows = length,
            .state_in = draw(seed, 2) == 0 ? NULL : tables->slots[0],
            .state_out = draw(seed, 2) == 0 ? NULL : tables->slots[1],
        };
        rows += length;
    }
    return count;
}

// Pieces of one window run side by side: what one reads of a carry, no other may write.
static void check_carries(const struct windows_settings *settings, const struct windows *windows,
                          const struct window *window) {
    for (int turn = 0; turn < 2; turn++) {
        int64_t users = 0;
        for (int64_t p = 0; p < window->pieces; p++) {
            const struct scan_span *piece = &windows->piece[window->first_piece + p];
            users += piece->state_in == settings->carry[turn];
            users += piece->state_out == settings->carry[turn];
        }
        assert_true(users <= 1);
    }
}

static void check_window(const struct windows_settings *settings, const struct windows *windows,
                         const struct window *window) {
    int64_t row = 0, tile = 0;
    assert_true(window->rows > 0 && window->rows <= settings->window_rows);
    assert_true(window->tiles > 0 && window->tiles <= settings->window_tiles);
    for (int64_t p = 0; p < window->pieces; p++) {
        const struct scan_span *piece = &windows->piece[window->first_piece + p];
        assert_true(piece->rows > 0 && piece->row == row && piece->first_tile == tile);
        for (int64_t t = 0; t < piece->tiles; t++, tile++) {
            const struct scan_tile *at = &windows->tile[window->first_tile + tile];
            const bool last = t == piece->tiles - 1;
            assert_true(at->span == p && at->row == row);
            assert_true(at->rows > 0 && at->rows <= settings->tile_tokens);
            assert_true(last || at->rows == settings->tile_tokens);
            row += at->rows;
        }
        assert_true(row == piece->row + piece->rows);
    }
    assert_true(row == window->rows && tile == window->tiles);
    check_carries(settings, windows, window);
}

// The pieces, in order, are the spans; states go from piece to piece.
static void check_pieces(const struct windows_settings *settings, const struct tables *tables,
                         const struct windows *windows, int64_t spans) {
    int64_t p = 0;
    for (int64_t s = 0; s < spans; s++) {
        const struct model_span *span = &tables->span[s];
        int64_t rows = 0;
        while (rows < span->rows) {
            assert_true(p < windows->pieces);
            const struct scan_span *piece = &windows->piece[p];
            const bool first = rows == 0, last = rows + piece->rows == span->rows;
            assert_ptr_equal(piece->state_in, first ? span->state_in : piece[-1].state_out);
            assert_int_equal(piece->in_layer_bytes, first ? settings->layer_bytes : 0);
            assert_int_equal(piece->out_layer_bytes, last ? settings->layer_bytes : 0);
            if (last) {
                assert_ptr_equal(piece->state_out, span->state_out);
            } else {
                assert_true(piece->state_out == settings->carry[0] ||
                            piece->state_out == settings->carry[1]);
                assert_true(piece->rows % settings->tile_tokens == 0);
            }
            assert_true(piece->state_out == NULL || piece->state_in != piece->state_out);
            rows += piece->rows;
            p++;
        }
        assert_int_equal(rows, span->rows);
    }
    assert_int_equal(p, windows->pieces);
    assert_true(p <= windows_pieces_most(settings, ROWS_MOST));
}

static void windows_keep_their_promises(void **state) {
    (void)state;
    uint32_t seed = 7;
    struct tables *tables = malloc(sizeof *tables);
    assert_non_null(tables);
    struct windows windows = {
        .tile = tables->tile, .piece = tables->piece, .window = tables->window};
    for (int round = 0; round < 3000; round++) {
        const int64_t tile = 1 << draw(&seed, 8);
        const struct windows_settings settings = {
            .window_rows = tile * (1 + draw(&seed, 20)),
            .window_tiles = 1 + draw(&seed, 40),
            .tile_tokens = tile,
            .layer_bytes = LAYER,
            .carry = {tables->carry[0], tables->carry[1]},
        };
        const int64_t spans = draw_spans(tables, &seed, tile);
        int64_t row = 0, first_tile = 0, first_piece = 0;
        windows_cut(&settings, tables->span, spans, &windows);
        for (int64_t w = 0; w < windows.count; w++) {
            const struct window *window = &windows.window[w];
            assert_int_equal(window->row, row);
            assert_int_equal(window->first_tile, first_tile);
            assert_int_equal(window->first_piece, first_piece);
            check_window(&settings, &windows, window);
            row += window->rows;
            first_tile += window->tiles;
            first_piece += window->pieces;
        }
        assert_int_equal(first_tile, windows.tiles);
        assert_int_equal(first_piece, windows.pieces);
        check_pieces(&settings, tables, &windows, spans);
    }
    free(tables);
}

// A long document fills every window but its last; nothing is wasted on it.
static void a_long_span_fills_its_windows(void **state) {
    (void)state;
    struct tables *tables = malloc(sizeof *tables);
    assert_non_null(tables);
    struct windows windows = {
        .tile = tables->tile, .piece = tables->piece, .window = tables->window};
    const struct windows_settings settings = {
        .window_rows = 256,
        .window_tiles = 16,
        .tile_tokens = 64,
        .layer_bytes = LAYER,
        .carry = {tables->carry[0], tables->carry[1]}
    };
    tables->span[0] = (struct model_span){.rows = 2570};
    windows_cut(&settings, tables->span, 1, &windows);
    assert_int_equal(windows.count, 11);
    assert_int_equal(windows.window[10].rows, 10);
    // Forty documents of one token: as many tiles as there is room for.
    for (int i = 0; i < 40; i++) {
        tables->span[i] = (struct model_span){.rows = 1};
    }
    windows_cut(&settings, tables->span, 40, &windows);
    assert_int_equal(windows.count, 3);
    free(tables);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_keep_their_promises),
        cmocka_unit_test(a_long_span_fills_its_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
