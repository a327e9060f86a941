#pragma once
// A mixer's `ask` (ops/mixer.h) by the backend's operators: its asked rows are gathered by the mixer, which
// knows how its residual lies, normed and multiplied with the head, some at a time, and the logits of those
// are looked through. What it needs is allocated when the mixer opens.

#include "ops/mixer.h"

C_BEGIN

#define ASK_ROWS 64 // so many rows' logits are in memory

struct ask_room { // all NULL: nothing may be asked
    float *gathered, *normed, *logits;
};

static inline int64_t ask_pitch(const struct mixer_shape *shape) { // of the logits
    return (shape->vocab + 15) / 16 * 16;
}

// Errors: NO_MEMORY, PEER; what has been made is released by ask_room_free.
static inline enum status ask_room_make(struct backend *backend, const struct mixer_shape *shape,
                                        struct ask_room *room) {
    const int64_t rows = shape->asked < ASK_ROWS ? shape->asked : ASK_ROWS;
    void *memory = NULL;
    if (rows == 0) return STATUS_OK;
    TRY(backend_room(backend, rows, shape->hidden, sizeof(float), &memory));
    room->gathered = memory;
    TRY(backend_room(backend, rows, shape->hidden, sizeof(float), &memory));
    room->normed = memory;
    TRY(backend_room(backend, rows, ask_pitch(shape), sizeof(float), &memory));
    room->logits = memory;
    return STATUS_OK;
}

static inline void ask_room_free(struct backend *backend, struct ask_room *room) {
    backend->table->release(backend, room->gathered);
    backend->table->release(backend, room->normed);
    backend->table->release(backend, room->logits);
    *room = (struct ask_room){NULL, NULL, NULL};
}

// Rows row[0], row[1], ... (backend memory) of the mixer's residual into `gathered`. Queued.
typedef enum status ask_gather(struct mixer *mixer, const int32_t *row, struct matrix gathered);

// At most ASK_ROWS rows.
static inline enum status ask_some(struct backend *backend, const struct mixer_shape *shape,
                                   const struct ask_room *room, struct mixer *mixer,
                                   ask_gather *gather, const struct mixer_ask *ask) {
    const struct backend_table *table = backend->table;
    const int64_t hidden = shape->hidden;
    const struct matrix gathered = {room->gathered, ask->rows, hidden, hidden};
    const struct matrix normed = {room->normed, ask->rows, hidden, hidden};
    const struct matrix logits = {room->logits, ask->rows, shape->vocab, ask_pitch(shape)};
    const struct rms_norm_args norm = {
        .in = gathered, .out = normed, .weight = ask->norm, .epsilon = shape->epsilon};
    const struct linear_args linear = {.in = normed, .weight = ask->weight, .out = logits};
    const struct best_args best = {.logits = logits, .target = ask->target, .best = ask->best};
    TRY(gather(mixer, ask->row, gathered));
    TRY(table->rms_norm(backend, &norm));
    TRY(table->linear(backend, &linear));
    return table->best(backend, &best);
}

static inline enum status ask_rows(struct backend *backend, const struct mixer_shape *shape,
                                   const struct ask_room *room, struct mixer *mixer,
                                   ask_gather *gather, const struct mixer_ask *ask) {
    for (int64_t first = 0; first < ask->rows; first += ASK_ROWS) {
        const int64_t left = ask->rows - first;
        const struct mixer_ask some = {.norm = ask->norm,
                                       .weight = ask->weight,
                                       .row = ask->row + first,
                                       .target = ask->target + first,
                                       .rows = left < ASK_ROWS ? left : ASK_ROWS,
                                       .best = ask->best + first};
        TRY(ask_some(backend, shape, room, mixer, gather, &some));
    }
    return STATUS_OK;
}

C_END
