#include "ops/model/stage_clock.h"

#include "ops/base/clock.h"

#include <stdlib.h>

struct mark {
    enum stage stage;
    int64_t at_ns; // of the host's clock; not used where the backend has marks of its own
};

struct stage_clock {
    struct backend *backend;
    struct mark *mark;
    size_t room;
    int64_t marks;
    double *seconds; // [room], between neighbouring marks
};

const char *stage_name(enum stage stage) {
    static const char *const names[STAGES] = {
        [STAGE_EMBED] = "embed",     [STAGE_PROJECT] = "project", [STAGE_TAIL] = "tail",
        [STAGE_PREPARE] = "prepare", [STAGE_PASS] = "pass",       [STAGE_SCAN] = "scan",
        [STAGE_BACK] = "back",       [STAGE_HEAD] = "head",       [STAGE_WAIT] = "wait",
    };
    return names[stage];
}

enum status stage_clock_open(struct backend *backend, struct stage_clock **opened) {
    struct stage_clock *clock = calloc(1, sizeof *clock);
    if (clock == NULL) return FAIL(NO_MEMORY, "a stage clock");
    clock->backend = backend;
    *opened = clock;
    return STATUS_OK;
}

static enum status make_room(struct stage_clock *clock) {
    const size_t room = clock->room == 0 ? 4096 : 2 * clock->room;
    if ((size_t)clock->marks < clock->room) return STATUS_OK;
    struct mark *mark = realloc(clock->mark, room * sizeof *mark);
    if (mark != NULL) clock->mark = mark;
    double *seconds = realloc(clock->seconds, room * sizeof *seconds);
    if (seconds != NULL) clock->seconds = seconds;
    if (mark == NULL || seconds == NULL) return FAIL(NO_MEMORY, "%zu marks of a clock", room);
    clock->room = room;
    return STATUS_OK;
}

enum status stage_clock_mark(struct stage_clock *clock, enum stage stage) {
    if (clock == NULL) return STATUS_OK;
    const struct backend_table *table = clock->backend->table;
    TRY(make_room(clock));
    struct mark *mark = &clock->mark[clock->marks];
    mark->stage = stage;
    if (table->mark_time != NULL) {
        TRY(table->mark_time(clock->backend, clock->marks));
    } else {
        TRY(table->wait(clock->backend));
        mark->at_ns = clock_ns();
    }
    clock->marks++;
    return STATUS_OK;
}

enum status stage_clock_read(struct stage_clock *clock, double seconds[STAGES]) {
    const struct backend_table *table = clock->backend->table;
    const int64_t marks = clock->marks;
    clock->marks = 0;
    TRY(table->wait(clock->backend));
    if (table->mark_time != NULL) TRY(table->read_marks(clock->backend, marks, clock->seconds));
    for (int64_t i = 0; i + 1 < marks; i++) {
        const struct mark *mark = &clock->mark[i];
        seconds[mark->stage] += table->mark_time != NULL
                                    ? clock->seconds[i]
                                    : (double)(mark[1].at_ns - mark->at_ns) * 1e-9;
    }
    return STATUS_OK;
}

void stage_clock_close(struct stage_clock *clock) {
    if (clock == NULL) return;
    free(clock->mark);
    free(clock->seconds);
    free(clock);
}
