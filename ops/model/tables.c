// Two blocks are enough for two steps under way; a third one waits for the queue.

#include "ops/model/tables.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64

_Static_assert(MODEL_MARK + 2 <= BACKEND_MARKS, "a mark for each block");

// Where the tables begin in a block, in bytes; the tokens come first.
struct places {
    size_t target, asked, tile, piece, end;
};

static size_t behind(size_t begin, int64_t count, size_t element) {
    return (begin + (size_t)count * element + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static struct places places_of(int64_t rows, int64_t asked, int64_t tiles, int64_t pieces) {
    struct places at;
    at.target = behind(0, rows, sizeof(int32_t));
    at.asked = behind(at.target, rows, sizeof(int32_t));
    at.tile = behind(at.asked, 2 * asked, sizeof(int32_t));
    at.piece = behind(at.tile, tiles, sizeof(struct scan_tile));
    at.end = behind(at.piece, pieces, sizeof(struct scan_span));
    return at;
}

// The mixer's room for as many rows is there, so that the sums cannot overflow.
enum status tables_room_make(struct backend *backend, const struct windows_settings *cutting,
                             int64_t rows, int64_t asked, struct tables_room *room) {
    const int64_t pieces = windows_pieces_most(cutting, rows);
    const size_t bytes = places_of(rows, asked, rows, pieces).end;
    struct windows *windows = &room->windows;
    void *memory = NULL;
    TRY(backend->table->alloc(backend, bytes, &memory));
    room->block = memory;
    for (int i = 0; i < 2; i++) {
        TRY(backend->table->host_alloc(backend, bytes, &memory));
        room->staging[i] = memory;
    }
    windows->tile = calloc((size_t)rows, sizeof *windows->tile);
    windows->piece = calloc((size_t)pieces, sizeof *windows->piece);
    windows->window = calloc((size_t)rows, sizeof *windows->window);
    if (windows->tile != NULL && windows->piece != NULL && windows->window != NULL) {
        return STATUS_OK;
    }
    return FAIL(NO_MEMORY, "tables of a step of %lld tokens", (long long)rows);
}

void tables_room_free(struct backend *backend, struct tables_room *room) {
    backend->table->release(backend, room->block);
    for (int i = 0; i < 2; i++) {
        backend->table->host_release(backend, room->staging[i]);
    }
    free(room->windows.tile);
    free(room->windows.piece);
    free(room->windows.window);
}

static void fill(char *block, const struct places *at, const struct model_step *step,
                 const struct windows *windows) {
    const size_t ids = (size_t)step->rows * sizeof(int32_t);
    const size_t count = (size_t)step->asked_count;
    int32_t *asked = (int32_t *)(void *)(block + at->asked);
    memcpy(block, step->token, ids);
    memcpy(block + at->target, step->target, ids);
    for (size_t i = 0; i < count; i++) {
        asked[i] = step->asked[i];
        asked[count + i] = step->target[step->asked[i]];
    }
    memcpy(block + at->tile, windows->tile, (size_t)windows->tiles * sizeof *windows->tile);
    memcpy(block + at->piece, windows->piece, (size_t)windows->pieces * sizeof *windows->piece);
}

enum status tables_upload(struct backend *backend, const struct windows_settings *cutting,
                          const struct model_step *step, struct tables_room *room,
                          struct step_tables *tables) {
    const struct backend_table *table = backend->table;
    const int32_t mark = MODEL_MARK + room->turn;
    char *staging = room->staging[room->turn], *block = room->block;
    bool passed = false;
    TRY(table->reached(backend, mark, &passed));
    if (!passed) TRY(table->wait(backend));
    room->turn = 1 - room->turn;
    windows_cut(cutting, step->spans, step->span_count, &room->windows);
    const struct places at =
        places_of(step->rows, step->asked_count, room->windows.tiles, room->windows.pieces);
    fill(staging, &at, step, &room->windows);
    *tables = (struct step_tables){.token = (const int32_t *)(void *)block,
                                   .target = (const int32_t *)(void *)(block + at.target),
                                   .asked = (const int32_t *)(void *)(block + at.asked),
                                   .tile = (const struct scan_tile *)(void *)(block + at.tile),
                                   .piece = (const struct scan_span *)(void *)(block + at.piece)};
    TRY(table->upload(backend, block, staging, at.end));
    return table->mark(backend, mark);
}
