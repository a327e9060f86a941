// Places a model on its backend: weights converted, packed and uploaded one at a time, and every
// buffer a step needs, so that nothing is allocated while it runs.

#include "ops/model/mamba2.h"
#include "ops/model/op_mixer.h"

#include <stdlib.h>

struct placing {
    struct model *model;
    float *room; // for converting; NULL if no tensor needs it
};

static enum status upload(struct model *model, const float *values, int64_t count, float **place) {
    struct backend *backend = model->backend;
    const size_t bytes = (size_t)count * sizeof(float);
    void *memory = NULL;
    if (backend->table->keep != NULL) {
        TRY(backend->table->keep(backend, values, bytes, &memory));
        *place = memory;
    } else {
        TRY(backend->table->alloc(backend, bytes, &memory));
        *place = memory;
        TRY(backend->table->upload(backend, memory, values, bytes));
    }
    return backend->table->wait(backend); // the values may lie in the room, which is used again
}

static enum status place(const struct placing *placing, const struct tensor *tensor, float **to) {
    const float *values;
    if (tensor == NULL) return STATUS_OK;
    tensor_f32(tensor, placing->room, &values);
    return upload(placing->model, values, tensor->count, to);
}

static enum status pack(const struct placing *placing, const struct tensor *tensor,
                        struct packed_weight **to) {
    struct backend *backend = placing->model->backend;
    const float *values;
    tensor_f32(tensor, placing->room, &values);
    return backend->table->pack(backend, values, tensor->shape[0], tensor->shape[1], to);
}

static enum status place_layer(const struct placing *placing,
                               const struct mamba2_layer_weights *from, struct mixer_weights *to) {
    float *a = malloc(from->a_log->bytes * 2); // f32 from a type of at least two bytes
    if (a == NULL) return FAIL(NO_MEMORY, "decays of %lld heads", (long long)from->a_log->count);
    weights_a(from->a_log, a);
    const enum status status = upload(placing->model, a, from->a_log->count, &to->a);
    free(a);
    TRY(status);
    TRY(place(placing, from->norm, &to->norm));
    TRY(place(placing, from->in_bias, &to->in_bias));
    TRY(place(placing, from->conv, &to->conv));
    TRY(place(placing, from->conv_bias, &to->conv_bias));
    TRY(place(placing, from->dt_bias, &to->dt_bias));
    TRY(place(placing, from->d, &to->d));
    TRY(place(placing, from->gate_norm, &to->gate_norm));
    TRY(place(placing, from->out_bias, &to->out_bias));
    TRY(pack(placing, from->in_proj, &to->in_proj));
    return pack(placing, from->out_proj, &to->out_proj);
}

enum status model_place_weights(struct model *model, const struct mamba2_weights *weights) {
    enum status status = STATUS_OK;
    struct placing placing = {.model = model};
    model->layers = calloc((size_t)model->config.layers, sizeof *model->layers);
    if (weights->largest > 0) placing.room = malloc((size_t)weights->largest * sizeof(float));
    if (model->layers == NULL || (weights->largest > 0 && placing.room == NULL)) {
        status = FAIL(NO_MEMORY, "room for a tensor of %lld elements", (long long)weights->largest);
        goto out;
    }
    TRY_OUT(status, place(&placing, weights->embedding, &model->embedding));
    TRY_OUT(status, place(&placing, weights->norm, &model->norm));
    TRY_OUT(status, pack(&placing, weights->head, &model->head));
    for (int64_t i = 0; i < model->config.layers; i++) {
        TRY_OUT(status, place_layer(&placing, &weights->layers[i], &model->layers[i]));
    }
out:
    free(placing.room);
    return status;
}

static enum status open_mixer(struct model *model) {
    const struct mamba2_config *config = &model->config;
    const struct mixer_shape shape = {
        .scan = {.heads = config->heads,
                 .head_dim = config->head_dim,
                 .d_state = config->d_state,
                 .groups = config->groups},
        .hidden = config->hidden_size,
        .d_inner = config->d_inner,
        .d_conv = config->d_conv,
        .vocab = config->vocab_size,
        .conv_width = config->conv_width,
        .proj_width = config->proj_width,
        .epsilon = (float)config->epsilon,
        .dt_least = (float)config->dt_least,
        .dt_most = (float)config->dt_most,
        .use_bias = config->use_bias,
        .norm_before_gate = config->norm_before_gate,
        .norm_groups = config->norm_groups,
        .rows = model->step_tokens,
        .asked = model->asked_most,
    };
    struct backend *backend = model->backend;
    if (backend->table->mixer_open != NULL) {
        TRY(backend->table->mixer_open(backend, &shape, &model->mixer));
    }
    return model->mixer != NULL ? STATUS_OK : op_mixer_open(backend, &shape, &model->mixer);
}

enum status model_place_buffers(struct model *model) {
    const int64_t rows = model->step_tokens, asked = model->asked_most;
    TRY(open_mixer(model));
    model->cutting = (struct windows_settings){.window_rows = model->mixer->window_rows,
                                               .window_tiles = model->mixer->window_tiles,
                                               .tile_tokens = model->mixer->tile_tokens,
                                               .layer_bytes = (int64_t)model->info.layer_bytes};
    const struct {
        void *place;
        int64_t rows;
        size_t element;
    } buffers[] = {
        {&model->best,             asked,                            sizeof *model->best},
        {&model->nll,              rows,                             sizeof *model->nll },
        {&model->cutting.carry[0], (int64_t)model->info.layer_bytes, 1                  },
        {&model->cutting.carry[1], (int64_t)model->info.layer_bytes, 1                  },
    };
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        if (buffers[i].rows == 0) continue;
        TRY(backend_room(model->backend, buffers[i].rows, 1, buffers[i].element,
                         (void **)buffers[i].place));
    }
    return tables_room_make(model->backend, &model->cutting, rows, asked, &model->tables);
}
