// Opens and closes a Mamba-2 model: config and weights are read and checked, then placed on the
// backend; the files are let go before the first step.

#include "ops/model/mamba2.h"

#include "ops/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALIGNMENT 64

static int64_t round_up(int64_t count, int64_t unit) {
    return (count + unit - 1) / unit * unit;
}

// The folder's last name; of "." the working folder's.
static void name_model(const char *dir, char *name, size_t room) {
    char here[4096];
    const bool dot = strcmp(dir, ".") == 0 || strcmp(dir, "./") == 0;
    const char *path = dot && getcwd(here, sizeof here) != NULL ? here : dir;
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') {
        end--;
    }
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') {
        begin--;
    }
    snprintf(name, room, "%.*s", (int)(end - begin), path + begin);
}

static void describe(struct model *model, const char *dir, const struct mamba2_weights *weights) {
    const struct mamba2_config *config = &model->config;
    const int64_t ssm = config->heads * config->d_state * config->head_dim;
    const int64_t tail = (config->d_conv - 1) * config->conv_width;
    struct model_info *info = &model->info;
    name_model(dir, info->name, sizeof info->name);
    info->parameters = weights->parameters;
    info->vocab_size = (int32_t)config->vocab_size;
    info->bos_token = (int32_t)config->bos;
    info->layers = (int32_t)config->layers;
    info->ssm_bytes = (size_t)ssm * sizeof(float);
    info->layer_bytes = (size_t)round_up((ssm + tail) * (int64_t)sizeof(float), ALIGNMENT);
    info->hash = weights->hash;
}

enum status mamba2_open(const struct mamba2_config *config, const struct mamba2_weights *weights,
                        const char *name, struct backend *backend,
                        const struct model_settings *settings, struct model **opened) {
    enum status status = STATUS_OK;
    CHECK(settings->step_tokens > 0 && settings->asked_most >= 0);
    struct model *model = calloc(1, sizeof *model);
    if (model == NULL) return FAIL(NO_MEMORY, "model of %zu bytes", sizeof *model);
    model->backend = backend;
    model->step_tokens = settings->step_tokens;
    model->asked_most = settings->asked_most;
    model->config = *config;
    describe(model, name, weights);
    TRY_OUT(status, model_place_weights(model, weights));
    TRY_OUT(status, model_place_buffers(model));
    *opened = model;
    model = NULL;
out:
    model_close(model);
    return status;
}

enum status mamba2_read(const char *dir, enum gated_norm norm, struct mamba2_config *config,
                        struct mamba2_weights *weights) {
    TRY(config_find(dir, config));
    config_set_gated_norm(config, norm);
    return weights_open(dir, config, weights);
}

enum status model_open(const char *dir, struct backend *backend,
                       const struct model_settings *settings, struct model **opened) {
    struct mamba2_config config;
    struct mamba2_weights weights = {0};
    TRY(mamba2_read(dir, settings->gated_norm, &config, &weights));
    const enum status status = mamba2_open(&config, &weights, dir, backend, settings, opened);
    weights_close(&weights);
    return status;
}

const struct model_info *model_info(const struct model *model) {
    return &model->info;
}

static void close_layer(struct backend *backend, struct mixer_weights *layer) {
    float *memory[] = {layer->norm,      layer->in_bias,   layer->conv,
                       layer->conv_bias, layer->dt_bias,   layer->a,
                       layer->d,         layer->gate_norm, layer->out_bias};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
        backend->table->release(backend, memory[i]);
    }
    if (layer->in_proj != NULL) backend->table->release_packed(backend, layer->in_proj);
    if (layer->out_proj != NULL) backend->table->release_packed(backend, layer->out_proj);
}

void model_close(struct model *model) {
    if (model == NULL) return;
    struct backend *backend = model->backend;
    // Nothing queued may use what is released; a lost device has nothing queued either.
    (void)(backend->table->wait(backend) == STATUS_OK);
    for (int64_t i = 0; model->layers != NULL && i < model->config.layers; i++) {
        close_layer(backend, &model->layers[i]);
    }
    void *memory[] = {
        model->embedding,       model->norm, model->best, model->nll, model->cutting.carry[0],
        model->cutting.carry[1]};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
        backend->table->release(backend, memory[i]);
    }
    if (model->head != NULL) backend->table->release_packed(backend, model->head);
    if (model->mixer != NULL) model->mixer->table->close(model->mixer);
    tables_room_free(backend, &model->tables);
    free(model->layers);
    free(model);
}
