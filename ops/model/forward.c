// Runs a step, layer by layer; inside a layer window by window, so that what a layer needs
// besides the residual does not grow with the step. Per layer:
//
//   for each window: norm, in_proj, conv_tail    (nothing here needs the left neighbour)
//                    [first: arrive(CONV)] causal_conv, dt, cumsum, C.B, tile states
//                    [first: arrive(SSM)] state_passing, scan, gated norm, out_proj into residual
//                    [last: leave(CONV) behind conv_tail, leave(SSM) behind state_passing]

#include "ops/base/check.h"
#include "ops/model/mamba2.h"
#include "ops/op.h"

#include <string.h>

struct running {
    struct model *model;
    const struct model_step *step;
    const struct windows *windows;
    bool early; // a span is so short that its convolution tail needs what comes from the left
};

static void check_step(const struct model *model, const struct model_step *step) {
    int64_t rows = 0;
    CHECK(step->rows > 0 && step->rows <= model->step_tokens);
    for (int64_t i = 0; i < step->span_count; i++) {
        const struct model_span *span = &step->spans[i];
        CHECK(span->rows > 0 && span->rows <= step->rows - rows);
        CHECK(span->state_in == NULL || span->state_in != span->state_out);
        rows += span->rows;
    }
    CHECK(rows == step->rows);
    for (int64_t i = 0; i < step->rows; i++) {
        CHECK(step->token[i] >= 0 && step->token[i] < model->info.vocab_size);
        CHECK(step->target[i] >= -1 && step->target[i] < model->info.vocab_size);
    }
}

static struct matrix rows_of(float *data, int64_t rows, int64_t columns, int64_t stride) {
    return (struct matrix){.data = data, .rows = rows, .columns = columns, .stride = stride};
}

static enum status arrive(const struct running *running, int32_t layer, enum state_part part) {
    struct boundary *boundary = running->step->boundary;
    return boundary == NULL ? STATUS_OK : boundary->arrive(boundary, layer, part);
}

static enum status leave(const struct running *running, int32_t layer, enum state_part part) {
    struct boundary *boundary = running->step->boundary;
    return boundary == NULL ? STATUS_OK : boundary->leave(boundary, layer, part);
}

static struct scan_batch batch_of(const struct model *model, const struct window *window,
                                  int32_t layer) {
    return (struct scan_batch){
        .rows = window->rows,
        .tiles = window->tiles,
        .spans = window->pieces,
        .tile = model->tile + window->first_tile,
        .span = model->piece + window->first_piece,
        .layer = layer,
        .conv_offset = (int64_t)model->info.ssm_bytes,
    };
}

// Norm, projection and convolution: xBC in model->conv, dt in model->dt.
static enum status project(const struct running *running, const struct window *window,
                           int32_t layer_at, bool first, bool last) {
    struct model *model = running->model;
    const struct mamba2_config *config = &model->config;
    const struct mamba2_layer *layer = &model->layers[layer_at];
    const int64_t rows = window->rows, hidden = config->hidden_size, width = config->proj_width;
    const struct matrix normed = rows_of(model->normed, rows, hidden, hidden);
    float *raw = model->projected + config->d_inner; // behind z
    const struct rms_norm_args norm = {
        .in = rows_of(model->residual + window->row * hidden, rows, hidden, hidden),
        .out = normed,
        .weight = layer->norm,
        .epsilon = (float)config->epsilon,
    };
    const struct linear_args linear = {
        .in = normed,
        .weight = layer->in_proj,
        .bias = layer->in_bias,
        .out = rows_of(model->projected, rows, width, width),
    };
    const struct conv_args conv = {
        .batch = batch_of(model, window, layer_at),
        .in = rows_of(raw, rows, config->conv_width, width),
        .out = rows_of(model->conv, rows, config->conv_width, config->conv_width),
        .weight = layer->conv,
        .bias = layer->conv_bias,
        .d_conv = config->d_conv,
    };
    const struct dt_args dt = {
        .in = rows_of(raw + config->conv_width, rows, config->heads, width),
        .out = rows_of(model->dt, rows, config->heads, config->heads),
        .bias = layer->dt_bias,
        .least = (float)config->dt_least,
        .most = (float)config->dt_most,
    };
    TRY(op_rms_norm(model->backend, &norm));
    TRY(op_linear(model->backend, &linear));
    if (first && running->early) TRY(arrive(running, layer_at, STATE_CONV));
    TRY(op_conv_tail(model->backend, &conv));
    if (last) TRY(leave(running, layer_at, STATE_CONV));
    if (first && !running->early) TRY(arrive(running, layer_at, STATE_CONV));
    TRY(op_causal_conv(model->backend, &conv));
    return op_dt(model->backend, &dt);
}

// The scan: y in model->y.
static enum status scan(const struct running *running, const struct window *window,
                        int32_t layer_at, bool first, bool last) {
    struct model *model = running->model;
    const struct mamba2_config *config = &model->config;
    const struct mamba2_layer *layer = &model->layers[layer_at];
    const int64_t rows = window->rows, heads = config->heads;
    const struct scan_args args = {
        .batch = batch_of(model, window, layer_at),
        .shape = {.heads = heads,
                  .head_dim = config->head_dim,
                  .d_state = config->d_state,
                  .groups = config->groups},
        .xbc = rows_of(model->conv, rows, config->conv_width, config->conv_width),
        .dt = rows_of(model->dt, rows, heads, heads),
        .cumsum = rows_of(model->cumsum, rows, heads, heads),
        .a = layer->a,
        .d = layer->d,
        .states = model->states,
        .cb = model->cb,
        .y = rows_of(model->y, rows, config->d_inner, config->d_inner),
    };
    TRY(op_chunk_cumsum(model->backend, &args));
    TRY(op_chunk_cb(model->backend, &args));
    TRY(op_chunk_state(model->backend, &args));
    if (first) TRY(arrive(running, layer_at, STATE_SSM));
    TRY(op_state_passing(model->backend, &args));
    if (last) TRY(leave(running, layer_at, STATE_SSM));
    return op_chunk_scan(model->backend, &args);
}

// Gate, norm and the projection back into the residual.
static enum status project_back(const struct running *running, const struct window *window,
                                int32_t layer_at) {
    struct model *model = running->model;
    const struct mamba2_config *config = &model->config;
    const struct mamba2_layer *layer = &model->layers[layer_at];
    const int64_t rows = window->rows, hidden = config->hidden_size, inner = config->d_inner;
    const struct matrix gated = rows_of(model->gated, rows, inner, inner);
    const struct gated_norm_args norm = {
        .y = rows_of(model->y, rows, inner, inner),
        .z = rows_of(model->projected, rows, inner, config->proj_width),
        .out = gated,
        .weight = layer->gate_norm,
        .groups = config->groups,
        .epsilon = (float)config->epsilon,
        .norm_before_gate = config->norm_before_gate,
    };
    const struct linear_args linear = {
        .in = gated,
        .weight = layer->out_proj,
        .bias = layer->out_bias,
        .out = rows_of(model->residual + window->row * hidden, rows, hidden, hidden),
        .add = true,
    };
    TRY(op_gated_norm(model->backend, &norm));
    return op_linear(model->backend, &linear);
}

static enum status run_layer(const struct running *running, int32_t layer) {
    const struct windows *windows = running->windows;
    for (int64_t i = 0; i < windows->count; i++) {
        const bool first = i == 0, last = i == windows->count - 1;
        TRY(project(running, &windows->window[i], layer, first, last));
        TRY(scan(running, &windows->window[i], layer, first, last));
        TRY(project_back(running, &windows->window[i], layer));
    }
    return STATUS_OK;
}

// The final norm and the head need no tables: plain blocks of rows.
static enum status run_head(const struct running *running) {
    struct model *model = running->model;
    const int64_t hidden = model->config.hidden_size, most = model->cutting.window_rows;
    for (int64_t row = 0; row < running->step->rows; row += most) {
        const int64_t left = running->step->rows - row, rows = left < most ? left : most;
        const struct matrix normed = rows_of(model->normed, rows, hidden, hidden);
        const struct rms_norm_args norm = {
            .in = rows_of(model->residual + row * hidden, rows, hidden, hidden),
            .out = normed,
            .weight = model->norm,
            .epsilon = (float)model->config.epsilon,
        };
        const struct head_args head = {
            .in = normed,
            .weight = model->head,
            .target = model->target + row,
            .nll = model->nll + row,
        };
        TRY(op_rms_norm(model->backend, &norm));
        TRY(op_head(model->backend, &head));
    }
    return STATUS_OK;
}

static void staging_passed(void *argument) {
    struct staging *staging = argument;
    atomic_store(&staging->busy, false);
}

// The step's tables to the backend, by way of a staging that no queued upload reads any more.
static enum status upload_step(struct running *running) {
    struct model *model = running->model;
    struct backend *backend = model->backend;
    const struct backend_table *table = backend->table;
    const struct model_step *step = running->step;
    struct staging *staging = &model->staging[model->turn];
    struct windows *windows = &staging->windows;
    const size_t rows = (size_t)step->rows;
    if (atomic_load(&staging->busy)) TRY(table->wait(backend));
    model->turn = 1 - model->turn;
    memcpy(staging->token, step->token, rows * sizeof *staging->token);
    memcpy(staging->target, step->target, rows * sizeof *staging->target);
    windows_cut(&model->cutting, step->spans, step->span_count, windows);
    running->windows = windows;
    atomic_store(&staging->busy, true);
    TRY(table->upload(backend, model->token, staging->token, rows * sizeof *staging->token));
    TRY(table->upload(backend, model->target, staging->target, rows * sizeof *staging->target));
    TRY(table->upload(backend, model->tile, windows->tile,
                      (size_t)windows->tiles * sizeof *windows->tile));
    TRY(table->upload(backend, model->piece, windows->piece,
                      (size_t)windows->pieces * sizeof *windows->piece));
    return table->call(backend, staging_passed, staging);
}

enum status model_run(struct model *model, const struct model_step *step) {
    struct running running = {.model = model, .step = step};
    const struct mamba2_config *config = &model->config;
    const int64_t hidden = config->hidden_size;
    check_step(model, step);
    for (int64_t i = 0; i < step->span_count; i++) {
        const struct model_span *span = &step->spans[i];
        if (span->state_out != NULL && span->rows < config->d_conv - 1) running.early = true;
    }
    TRY(upload_step(&running));
    const struct embedding_args embedding = {
        .token = model->token,
        .weight = rows_of(model->embedding, config->vocab_size, hidden, hidden),
        .out = rows_of(model->residual, step->rows, hidden, hidden),
    };
    TRY(op_embedding(model->backend, &embedding));
    for (int32_t layer = 0; layer < model->info.layers; layer++) {
        TRY(run_layer(&running, layer));
    }
    TRY(run_head(&running));
    return model->backend->table->download(model->backend, step->nll, model->nll,
                                           (size_t)step->rows * sizeof *step->nll);
}
