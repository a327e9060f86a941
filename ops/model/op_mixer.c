// One operator after the other, each on the window's rows. What a layer needs besides the residual
// is as large as a window, not as a step.

#include "ops/model/op_mixer.h"

#include "ops/ask.h"
#include "ops/base/check.h"
#include "ops/op.h"

#include <stdlib.h>

// A window of many short spans has more tiles than rows / tile_tokens; beyond this many it is
// closed early. A tile's state is 0.8 MB for a 130m model, so this bounds the memory.
#define SHORT_TILES 12

struct op_mixer {
    struct mixer base;       // first, so that &op->base is the handle
    struct backend *backend; // borrowed
    struct mixer_shape shape;
    float *residual; // [shape.rows, hidden]
    // A window's rows and tiles. `gated` is also the final norm's output.
    float *normed, *projected, *conv, *dt, *cumsum, *y, *gated;
    float *states, *cb;
    struct ask_room ask_room;
};

static struct op_mixer *op_of(struct mixer *mixer) {
    return (struct op_mixer *)(void *)mixer;
}

static struct matrix rows_of(float *data, int64_t rows, int64_t columns, int64_t stride) {
    return (struct matrix){.data = data, .rows = rows, .columns = columns, .stride = stride};
}

static struct matrix residual_of(const struct op_mixer *op, int64_t row, int64_t rows) {
    const int64_t hidden = op->shape.hidden;
    return rows_of(op->residual + row * hidden, rows, hidden, hidden);
}

static enum status begin(struct mixer *mixer, const struct mixer_begin *begin) {
    const struct op_mixer *op = op_of(mixer);
    const struct embedding_args args = {
        .token = begin->token, .weight = begin->embedding, .out = residual_of(op, 0, begin->rows)};
    return op_embedding(op->backend, &args);
}

static enum status project(struct mixer *mixer, const struct mixer_call *call) {
    const struct op_mixer *op = op_of(mixer);
    const struct mixer_shape *shape = &op->shape;
    const int64_t rows = call->batch.rows;
    const struct matrix normed = rows_of(op->normed, rows, shape->hidden, shape->hidden);
    const struct rms_norm_args norm = {.in = residual_of(op, call->row, rows),
                                       .out = normed,
                                       .weight = call->weights->norm,
                                       .epsilon = shape->epsilon};
    const struct linear_args linear = {
        .in = normed,
        .weight = call->weights->in_proj,
        .bias = call->weights->in_bias,
        .out = rows_of(op->projected, rows, shape->proj_width, shape->proj_width)};
    TRY(op_rms_norm(op->backend, &norm));
    return op_linear(op->backend, &linear);
}

static struct conv_args conv_of(const struct op_mixer *op, const struct mixer_call *call) {
    const struct mixer_shape *shape = &op->shape;
    const int64_t rows = call->batch.rows, width = shape->conv_width;
    return (struct conv_args){
        .batch = call->batch,
        .in = rows_of(op->projected + shape->d_inner, rows, width, shape->proj_width), // behind z
        .out = rows_of(op->conv, rows, width, width),
        .weight = call->weights->conv,
        .bias = call->weights->conv_bias,
        .d_conv = shape->d_conv,
    };
}

static enum status tail(struct mixer *mixer, const struct mixer_call *call) {
    const struct op_mixer *op = op_of(mixer);
    const struct conv_args conv = conv_of(op, call);
    return op_conv_tail(op->backend, &conv);
}

static struct scan_args scan_of(const struct op_mixer *op, const struct mixer_call *call) {
    const struct mixer_shape *shape = &op->shape;
    const int64_t rows = call->batch.rows, heads = shape->scan.heads;
    return (struct scan_args){
        .batch = call->batch,
        .shape = shape->scan,
        .xbc = rows_of(op->conv, rows, shape->conv_width, shape->conv_width),
        .dt = rows_of(op->dt, rows, heads, heads),
        .cumsum = rows_of(op->cumsum, rows, heads, heads),
        .a = call->weights->a,
        .d = call->weights->d,
        .states = op->states,
        .cb = op->cb,
        .y = rows_of(op->y, rows, shape->d_inner, shape->d_inner),
    };
}

static enum status prepare(struct mixer *mixer, const struct mixer_call *call) {
    const struct op_mixer *op = op_of(mixer);
    const struct mixer_shape *shape = &op->shape;
    const struct conv_args conv = conv_of(op, call);
    const struct scan_args scan = scan_of(op, call);
    float *raw = op->projected + shape->d_inner + shape->conv_width;
    const struct dt_args dt = {
        .in = rows_of(raw, call->batch.rows, shape->scan.heads, shape->proj_width),
        .out = scan.dt,
        .bias = call->weights->dt_bias,
        .least = shape->dt_least,
        .most = shape->dt_most,
    };
    TRY(op_causal_conv(op->backend, &conv));
    TRY(op_dt(op->backend, &dt));
    TRY(op_chunk_cumsum(op->backend, &scan));
    TRY(op_chunk_cb(op->backend, &scan));
    return op_chunk_state(op->backend, &scan);
}

static enum status pass(struct mixer *mixer, const struct mixer_call *call) {
    const struct op_mixer *op = op_of(mixer);
    const struct scan_args args = scan_of(op, call);
    return op_state_passing(op->backend, &args);
}

static enum status scan(struct mixer *mixer, const struct mixer_call *call) {
    const struct op_mixer *op = op_of(mixer);
    const struct scan_args args = scan_of(op, call);
    return op_chunk_scan(op->backend, &args);
}

static enum status project_back(struct mixer *mixer, const struct mixer_call *call) {
    const struct op_mixer *op = op_of(mixer);
    const struct mixer_shape *shape = &op->shape;
    const int64_t rows = call->batch.rows, inner = shape->d_inner;
    const struct matrix gated = rows_of(op->gated, rows, inner, inner);
    const struct gated_norm_args norm = {
        .y = rows_of(op->y, rows, inner, inner),
        .z = rows_of(op->projected, rows, inner, shape->proj_width),
        .out = gated,
        .weight = call->weights->gate_norm,
        .groups = shape->norm_groups,
        .epsilon = shape->epsilon,
        .norm_before_gate = shape->norm_before_gate,
    };
    const struct linear_args linear = {
        .in = gated,
        .weight = call->weights->out_proj,
        .bias = call->weights->out_bias,
        .out = residual_of(op, call->row, rows),
        .add = true,
    };
    TRY(op_gated_norm(op->backend, &norm));
    return op_linear(op->backend, &linear);
}

// The final norm and the head need no tables: plain blocks of rows.
static enum status head(struct mixer *mixer, const struct mixer_head *head) {
    const struct op_mixer *op = op_of(mixer);
    const int64_t hidden = op->shape.hidden, most = op->base.window_rows;
    for (int64_t row = 0; row < head->rows; row += most) {
        const int64_t left = head->rows - row, rows = left < most ? left : most;
        const struct matrix normed = rows_of(op->normed, rows, hidden, hidden);
        const struct rms_norm_args norm = {.in = residual_of(op, row, rows),
                                           .out = normed,
                                           .weight = head->norm,
                                           .epsilon = op->shape.epsilon};
        const struct head_args args = {.in = normed,
                                       .weight = head->weight,
                                       .target = head->target + row,
                                       .nll = head->nll + row};
        TRY(op_rms_norm(op->backend, &norm));
        TRY(op_head(op->backend, &args));
    }
    return STATUS_OK;
}

static enum status gather(struct mixer *mixer, const int32_t *row, struct matrix gathered) {
    const struct op_mixer *op = op_of(mixer);
    const struct embedding_args args = {
        .token = row, .weight = residual_of(op, 0, op->shape.rows), .out = gathered};
    return op_embedding(op->backend, &args);
}

static enum status ask(struct mixer *mixer, const struct mixer_ask *ask) {
    const struct op_mixer *op = op_of(mixer);
    CHECK(ask->rows <= op->shape.asked);
    return ask_rows(op->backend, &op->shape, &op->ask_room, mixer, gather, ask);
}

static void op_mixer_close(struct mixer *mixer) {
    struct op_mixer *op = op_of(mixer);
    void *memory[] = {op->residual, op->normed, op->projected, op->conv,   op->dt,
                      op->cumsum,   op->y,      op->gated,     op->states, op->cb};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
        op->backend->table->release(op->backend, memory[i]);
    }
    ask_room_free(op->backend, &op->ask_room);
    free(op);
}

static const struct mixer_table op_mixer_table = {
    .close = op_mixer_close,
    .begin = begin,
    .project = project,
    .tail = tail,
    .prepare = prepare,
    .pass = pass,
    .scan = scan,
    .project_back = project_back,
    .head = head,
    .ask = ask,
};

static enum status make_room(struct op_mixer *op) {
    const struct mixer_shape *shape = &op->shape;
    const struct scan_shape *scan = &shape->scan;
    const int64_t window = op->base.window_rows, tiles = op->base.window_tiles;
    const int64_t tile = op->base.tile_tokens;
    const int64_t wide = shape->d_inner > shape->hidden ? shape->d_inner : shape->hidden;
    const struct {
        float **place;
        int64_t rows, columns;
    } buffers[] = {
        {&op->residual,  shape->rows, shape->hidden                               },
        {&op->normed,    window,      shape->hidden                               },
        {&op->projected, window,      shape->proj_width                           },
        {&op->conv,      window,      shape->conv_width                           },
        {&op->dt,        window,      scan->heads                                 },
        {&op->cumsum,    window,      scan->heads                                 },
        {&op->y,         window,      shape->d_inner                              },
        {&op->gated,     window,      wide                                        },
        {&op->states,    tiles,       scan->heads * scan->d_state * scan->head_dim},
        {&op->cb,        tiles,       scan->groups * tile * tile                  },
    };
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        void *memory = NULL;
        TRY(backend_room(op->backend, buffers[i].rows, buffers[i].columns, sizeof(float), &memory));
        *buffers[i].place = memory;
    }
    return ask_room_make(op->backend, shape, &op->ask_room);
}

enum status op_mixer_open(struct backend *backend, const struct mixer_shape *shape,
                          struct mixer **opened) {
    const int64_t tile = backend->tile_tokens;
    const int64_t step_tiles = (shape->rows + tile - 1) / tile;
    CHECK(shape->rows > 0 && shape->asked >= 0 && tile > 0 && backend->window_tokens >= tile);
    CHECK(backend->window_tokens % tile == 0);
    struct op_mixer *op = calloc(1, sizeof *op);
    if (op == NULL) return FAIL(NO_MEMORY, "layers");
    op->backend = backend;
    op->shape = *shape;
    op->base = (struct mixer){
        .table = &op_mixer_table, .tile_tokens = tile, .window_rows = backend->window_tokens};
    if (op->base.window_rows > step_tiles * tile) op->base.window_rows = step_tiles * tile;
    op->base.window_tiles = op->base.window_rows / tile + SHORT_TILES;
    const enum status status = make_room(op);
    if (status != STATUS_OK) {
        op_mixer_close(&op->base);
        return status;
    }
    *opened = &op->base;
    return STATUS_OK;
}
