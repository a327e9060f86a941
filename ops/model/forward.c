// Runs a step, layer by layer; inside a layer window by window, so that what a layer needs besides
// the residual does not grow with the step. The stages and what they wait for: ops/mixer.h.

#include "ops/base/check.h"
#include "ops/model/mamba2.h"

struct running {
    struct model *model;
    const struct model_step *step;
    struct step_tables tables;
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
    CHECK(step->asked_count >= 0 && step->asked_count <= model->asked_most);
    for (int64_t i = 0; i < step->asked_count; i++) {
        CHECK(step->asked[i] > (i == 0 ? -1 : step->asked[i - 1]) && step->asked[i] < step->rows);
    }
}

static enum status arrive(const struct running *running, int32_t layer, enum state_part part) {
    struct boundary *boundary = running->step->boundary;
    return boundary == NULL ? STATUS_OK : boundary->arrive(boundary, layer, part);
}

static enum status leave(const struct running *running, int32_t layer, enum state_part part) {
    struct boundary *boundary = running->step->boundary;
    return boundary == NULL ? STATUS_OK : boundary->leave(boundary, layer, part);
}

// One window of one layer; what comes from the left is waited for in the first, what goes right is
// ready in the last.
static enum status run_window(const struct running *running, int32_t layer, int64_t at) {
    struct model *model = running->model;
    struct mixer *mixer = model->mixer;
    const struct mixer_table *table = mixer->table;
    const struct windows *windows = &model->tables.windows;
    const struct window *window = &windows->window[at];
    const bool first = at == 0, last = at == windows->count - 1;
    const bool end = layer == model->info.layers - 1;
    const struct mixer_call call = {
        .weights = &model->layers[layer],
        .next_norm = end ? model->norm : model->layers[layer + 1].norm,
        .batch = {.rows = window->rows,
                  .tiles = window->tiles,
                  .spans = window->pieces,
                  .tile = running->tables.tile + window->first_tile,
                  .span = running->tables.piece + window->first_piece,
                  .layer = layer,
                  .conv_offset = (int64_t)model->info.ssm_bytes},
        .row = window->row,
    };
    TRY(table->project(mixer, &call));
    if (first && running->early) TRY(arrive(running, layer, STATE_CONV));
    TRY(table->tail(mixer, &call));
    if (last) TRY(leave(running, layer, STATE_CONV));
    if (first && !running->early) TRY(arrive(running, layer, STATE_CONV));
    TRY(table->prepare(mixer, &call));
    if (first) TRY(arrive(running, layer, STATE_SSM));
    TRY(table->pass(mixer, &call));
    if (last) TRY(leave(running, layer, STATE_SSM));
    TRY(table->scan(mixer, &call));
    return table->project_back(mixer, &call);
}

static enum status run_layers(const struct running *running) {
    for (int32_t layer = 0; layer < running->model->info.layers; layer++) {
        for (int64_t window = 0; window < running->model->tables.windows.count; window++) {
            TRY(run_window(running, layer, window));
        }
    }
    return STATUS_OK;
}

static enum status ask(const struct running *running) {
    struct model *model = running->model;
    struct backend *backend = model->backend;
    const struct model_step *step = running->step;
    const struct mixer_ask ask = {.norm = model->norm,
                                  .weight = model->head,
                                  .row = running->tables.asked,
                                  .target = running->tables.asked + step->asked_count,
                                  .rows = step->asked_count,
                                  .best = model->best};
    if (step->asked_count == 0) return STATUS_OK;
    TRY(model->mixer->table->ask(model->mixer, &ask));
    return backend->table->download(backend, step->best, model->best,
                                    (size_t)step->asked_count * sizeof *step->best);
}

enum status model_run(struct model *model, const struct model_step *step) {
    struct running running = {.model = model, .step = step};
    const struct mamba2_config *config = &model->config;
    check_step(model, step);
    for (int64_t i = 0; i < step->span_count; i++) {
        const struct model_span *span = &step->spans[i];
        if (span->state_out != NULL && span->rows < config->d_conv - 1) running.early = true;
    }
    TRY(tables_upload(model->backend, &model->cutting, step, &model->tables, &running.tables));
    const struct mixer_begin begin = {
        .token = running.tables.token,
        .embedding = {.data = model->embedding,
                      .rows = config->vocab_size,
                      .columns = config->hidden_size,
                      .stride = config->hidden_size},
        .norm = model->layers[0].norm,
        .rows = step->rows
    };
    const struct mixer_head head = {.norm = model->norm,
                                    .weight = model->head,
                                    .target = running.tables.target,
                                    .nll = model->nll,
                                    .rows = step->rows};
    TRY(model->mixer->table->begin(model->mixer, &begin));
    TRY(run_layers(&running));
    TRY(model->mixer->table->head(model->mixer, &head));
    TRY(ask(&running));
    return model->backend->table->download(model->backend, step->nll, model->nll,
                                           (size_t)step->rows * sizeof *step->nll);
}
