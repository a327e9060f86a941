// Places a model on its backend: weights converted, packed and uploaded one at a time, and every
// buffer a step needs, so that nothing is allocated while it runs.

#include "ops/model/mamba2.h"

#include <stdlib.h>

// A window of many short spans has more tiles than rows / tile_tokens; beyond this many it is
// closed early. A tile's state is 0.8 MB for a 130m model, so this bounds the memory.
#define SHORT_TILES 12

struct placing {
    struct model *model;
    float *room; // for converting; NULL if no tensor needs it
};

static enum status upload(struct model *model, const float *values, int64_t count, float **place) {
    struct backend *backend = model->backend;
    const size_t bytes = (size_t)count * sizeof(float);
    void *memory = NULL;
    TRY(backend->table->alloc(backend, bytes, &memory));
    *place = memory;
    TRY(backend->table->upload(backend, memory, values, bytes));
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
                               const struct mamba2_layer_weights *from, struct mamba2_layer *to) {
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

// Room for rows * columns elements of `element` bytes in backend memory.
static enum status alloc(struct model *model, int64_t rows, int64_t columns, size_t element,
                         void *place) {
    int64_t count;
    size_t bytes;
    if (__builtin_mul_overflow(rows, columns, &count) ||
        __builtin_mul_overflow((size_t)count, element, &bytes)) {
        return FAIL(NO_MEMORY, "a buffer of %lld rows of %lld elements: fewer --step-tokens fit",
                    (long long)rows, (long long)columns);
    }
    void *memory = NULL;
    TRY(model->backend->table->alloc(model->backend, bytes, &memory));
    *(void **)place = memory;
    return STATUS_OK;
}

static enum status make_staging(struct staging *staging, int64_t rows, int64_t pieces) {
    const size_t count = (size_t)rows;
    atomic_init(&staging->busy, false);
    staging->token = calloc(count, sizeof *staging->token);
    staging->target = calloc(count, sizeof *staging->target);
    staging->windows.tile = calloc(count, sizeof *staging->windows.tile);
    staging->windows.window = calloc(count, sizeof *staging->windows.window);
    staging->windows.piece = calloc((size_t)pieces, sizeof *staging->windows.piece);
    if (staging->token == NULL || staging->target == NULL || staging->windows.tile == NULL ||
        staging->windows.window == NULL || staging->windows.piece == NULL) {
        return FAIL(NO_MEMORY, "tables of a step of %lld tokens", (long long)rows);
    }
    return STATUS_OK;
}

enum status model_place_buffers(struct model *model) {
    const struct mamba2_config *config = &model->config;
    const int64_t tile = model->backend->tile_tokens, rows = model->step_tokens;
    const int64_t step_tiles = (rows + tile - 1) / tile;
    const int64_t wide =
        config->d_inner > config->hidden_size ? config->d_inner : config->hidden_size;
    int64_t window = model->backend->window_tokens;
    if (window > step_tiles * tile) window = step_tiles * tile;
    const int64_t tiles = window / tile + SHORT_TILES;
    const size_t f32 = sizeof(float);
    model->cutting = (struct windows_settings){.window_rows = window,
                                               .window_tiles = tiles,
                                               .tile_tokens = tile,
                                               .layer_bytes = (int64_t)model->info.layer_bytes};
    const int64_t pieces = windows_pieces_most(&model->cutting, rows);
    const struct {
        void *place;
        int64_t rows, columns;
        size_t element;
    } buffers[] = {
        {&model->token,            rows,   1,                                                  sizeof *model->token },
        {&model->target,           rows,   1,                                                  sizeof *model->target},
        {&model->residual,         rows,   config->hidden_size,                                f32                  },
        {&model->nll,              rows,   1,                                                  f32                  },
        {&model->tile,             rows,   1,                                                  sizeof *model->tile  },
        {&model->piece,            pieces, 1,                                                  sizeof *model->piece },
        {&model->normed,           window, config->hidden_size,                                f32                  },
        {&model->projected,        window, config->proj_width,                                 f32                  },
        {&model->conv,             window, config->conv_width,                                 f32                  },
        {&model->dt,               window, config->heads,                                      f32                  },
        {&model->cumsum,           window, config->heads,                                      f32                  },
        {&model->y,                window, config->d_inner,                                    f32                  },
        {&model->gated,            window, wide,                                               f32                  },
        {&model->states,           tiles,  config->heads * config->d_state * config->head_dim, f32                  },
        {&model->cb,               tiles,  config->groups * tile * tile,                       f32                  },
        {&model->cutting.carry[0], 1,      (int64_t)model->info.layer_bytes,                   1                    },
        {&model->cutting.carry[1], 1,      (int64_t)model->info.layer_bytes,                   1                    },
    };
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        TRY(alloc(model, buffers[i].rows, buffers[i].columns, buffers[i].element,
                  buffers[i].place));
    }
    for (int i = 0; i < 2; i++) {
        TRY(make_staging(&model->staging[i], rows, pieces));
    }
    return STATUS_OK;
}
