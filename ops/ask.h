#pragma once
// A mixer's `ask` (ops/mixer.h) by the backend's operators, for each mixer whose residual is rows of f32:
// its asked rows are gathered, normed and multiplied with the head, some at a time, and the logits of
// those are looked through. What it needs is allocated when the mixer opens.

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

// Rows [first, first + rows) of what is asked.
static inline enum status ask_some(struct backend *backend, const struct mixer_shape *shape,
                                   const struct ask_room *room, float *residual,
                                   const struct mixer_ask *ask, int64_t first, int64_t rows) {
    const struct backend_table *table = backend->table;
    const int64_t hidden = shape->hidden;
    const struct matrix gathered = {room->gathered, rows, hidden, hidden};
    const struct matrix normed = {room->normed, rows, hidden, hidden};
    const struct matrix logits = {room->logits, rows, shape->vocab, ask_pitch(shape)};
    const struct embedding_args gather = {
        .token = ask->row + first,
        .weight = {residual, shape->rows, hidden, hidden},
        .out = gathered
    };
    const struct rms_norm_args norm = {
        .in = gathered, .out = normed, .weight = ask->norm, .epsilon = shape->epsilon};
    const struct linear_args linear = {.in = normed, .weight = ask->weight, .out = logits};
    const struct best_args best = {
        .logits = logits, .target = ask->target + first, .best = ask->best + first};
    TRY(table->embedding(backend, &gather));
    TRY(table->rms_norm(backend, &norm));
    TRY(table->linear(backend, &linear));
    return table->best(backend, &best);
}

// residual: [shape->rows, hidden].
static inline enum status ask_rows(struct backend *backend, const struct mixer_shape *shape,
                                   const struct ask_room *room, float *residual,
                                   const struct mixer_ask *ask) {
    for (int64_t first = 0; first < ask->rows; first += ASK_ROWS) {
        const int64_t left = ask->rows - first;
        TRY(ask_some(backend, shape, room, residual, ask, first,
                     left < ASK_ROWS ? left : ASK_ROWS));
    }
    return STATUS_OK;
}

C_END
