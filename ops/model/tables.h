#pragma once
// What a step brings along, and its way to the backend: one block, one copy, since a copy costs the
// queue some microseconds however small it is. Two blocks on the host, so that a step can be queued
// while the one before has not begun; behind the copy out of each the queue has a mark.

#include "ops/backend.h"
#include "ops/model/model.h"
#include "ops/model/windows.h"

C_BEGIN

// Of the step that was uploaded last, in backend memory.
struct step_tables {
    const int32_t *token, *target; // [rows]
    const int32_t *asked;          // [2 asked_count]: those rows, then their targets
    const struct scan_tile *tile;
    const struct scan_span *piece;
};

struct tables_room {
    char *block;            // backend memory
    char *staging[2];       // the backend's host memory, in turn
    struct windows windows; // of the step that was uploaded last
    int32_t turn;
};

// Room for steps of `rows` rows, of which `asked` are asked. What it has made when it fails is freed by
// tables_room_free, too. Errors: NO_MEMORY, PEER.
enum status tables_room_make(struct backend *backend, const struct windows_settings *cutting,
                             int64_t rows, int64_t asked, struct tables_room *room);
void tables_room_free(struct backend *backend, struct tables_room *room);

// Queued. Cuts the step into windows. Errors: PEER.
enum status tables_upload(struct backend *backend, const struct windows_settings *cutting,
                          const struct model_step *step, struct tables_room *room,
                          struct step_tables *tables);

C_END
