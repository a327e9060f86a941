// A mixer around the model's own that marks the queue before each stage.

#include "ops/model/stage_clock.h"

#include "ops/base/clock.h"
#include "ops/model/mamba2.h"

#include <stdlib.h>

struct mark {
    enum stage stage;
    int64_t at_ns; // of the host's clock; not used where the backend has marks of its own
};

struct stage_clock {
    struct mixer base;   // first, so that &clock->base is the handle
    struct mixer *inner; // the model's
    struct model *model;
    struct backend *backend;
    struct mark *mark;
    double *seconds; // between neighbouring marks
    int64_t marks;
    size_t room; // of both
};

static struct stage_clock *clock_of(struct mixer *mixer) {
    return (struct stage_clock *)(void *)mixer;
}

const char *stage_name(enum stage stage) {
    static const char *const names[STAGES] = {
        [STAGE_BEGIN] = "begin",
        [STAGE_PROJECT] = "project",
        [STAGE_TAIL] = "tail",
        [STAGE_PREPARE] = "prepare",
        [STAGE_PASS] = "pass",
        [STAGE_SCAN] = "scan",
        [STAGE_PROJECT_BACK] = "project_back",
        [STAGE_HEAD] = "head",
    };
    return names[stage];
}

static enum status make_room(struct stage_clock *clock) {
    const size_t room = clock->room == 0 ? 1024 : 2 * clock->room;
    if ((size_t)clock->marks < clock->room) return STATUS_OK;
    struct mark *mark = realloc(clock->mark, room * sizeof *mark);
    if (mark != NULL) clock->mark = mark;
    double *seconds = realloc(clock->seconds, room * sizeof *seconds);
    if (seconds != NULL) clock->seconds = seconds;
    if (mark == NULL || seconds == NULL) return FAIL(NO_MEMORY, "%zu marks of a clock", room);
    clock->room = room;
    return STATUS_OK;
}

// What is queued from here on belongs to `stage`, until the next mark.
static enum status mark(struct stage_clock *clock, enum stage stage) {
    const struct backend_table *table = clock->backend->table;
    TRY(make_room(clock));
    clock->mark[clock->marks].stage = stage;
    if (table->mark_time != NULL) {
        TRY(table->mark_time(clock->backend, clock->marks));
    } else {
        TRY(table->wait(clock->backend));
        clock->mark[clock->marks].at_ns = clock_ns();
    }
    clock->marks++;
    return STATUS_OK;
}

#define STAGE(name, label, type)                                                    \
    static enum status timed_##name(struct mixer *mixer, const struct type *what) { \
        TRY(mark(clock_of(mixer), label));                                          \
        return clock_of(mixer)->inner->table->name(clock_of(mixer)->inner, what);   \
    }
STAGE(begin, STAGE_BEGIN, mixer_begin)
STAGE(project, STAGE_PROJECT, mixer_call)
STAGE(tail, STAGE_TAIL, mixer_call)
STAGE(prepare, STAGE_PREPARE, mixer_call)
STAGE(pass, STAGE_PASS, mixer_call)
STAGE(scan, STAGE_SCAN, mixer_call)
STAGE(project_back, STAGE_PROJECT_BACK, mixer_call)
STAGE(head, STAGE_HEAD, mixer_head)
STAGE(ask, STAGE_HEAD, mixer_ask)
#undef STAGE

// The model's own mixer comes back when the clock is closed, and is closed by the model.
static const struct mixer_table timed_table = {
    .begin = timed_begin,
    .project = timed_project,
    .tail = timed_tail,
    .prepare = timed_prepare,
    .pass = timed_pass,
    .scan = timed_scan,
    .project_back = timed_project_back,
    .head = timed_head,
    .ask = timed_ask,
};

enum status stage_clock_open(struct model *model, struct stage_clock **opened) {
    struct stage_clock *clock = calloc(1, sizeof *clock);
    if (clock == NULL) return FAIL(NO_MEMORY, "a stage clock");
    clock->base = *model->mixer;
    clock->base.table = &timed_table;
    clock->inner = model->mixer;
    clock->model = model;
    clock->backend = model->backend;
    model->mixer = &clock->base;
    *opened = clock;
    return STATUS_OK;
}

static double between(const struct stage_clock *clock, int64_t i) {
    if (clock->backend->table->mark_time != NULL) return clock->seconds[i];
    return (double)(clock->mark[i + 1].at_ns - clock->mark[i].at_ns) * 1e-9;
}

enum status stage_clock_run(struct stage_clock *clock, const struct model_step *step,
                            double seconds[STAGES]) {
    const struct backend_table *table = clock->backend->table;
    clock->marks = 0;
    TRY(mark(clock, STAGE_BEGIN)); // the uploads come before the mixer hears of the step
    TRY(model_run(clock->model, step));
    TRY(mark(clock, STAGE_HEAD)); // the end
    TRY(table->wait(clock->backend));
    if (table->mark_time != NULL) {
        TRY(table->read_marks(clock->backend, clock->marks, clock->seconds));
    }
    for (int64_t i = 0; i + 1 < clock->marks; i++) {
        seconds[clock->mark[i].stage] += between(clock, i);
    }
    return STATUS_OK;
}

void stage_clock_close(struct stage_clock *clock) {
    if (clock == NULL) return;
    clock->model->mixer = clock->inner;
    free(clock->mark);
    free(clock->seconds);
    free(clock);
}
