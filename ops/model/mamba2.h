#pragma once
// A Mamba-2 model on a backend: what model_open places there once and model_run works with.

#include "ops/mixer.h"
#include "ops/model/config.h"
#include "ops/model/model.h"
#include "ops/model/tables.h"
#include "ops/model/weights.h"

// Owns all its pointers but backend.
struct model {
    struct backend *backend;
    struct mamba2_config config;
    struct model_info info;
    struct windows_settings cutting;
    int64_t step_tokens, asked_most;

    struct mixer *mixer;
    struct mixer_weights *layers;
    float *embedding, *norm;
    struct packed_weight *head;

    // Of a step; best and nll in backend memory.
    struct tables_room tables;
    struct best_token *best;
    float *nll;
};

// The two halves of model_open, for whoever has weights of his own (ops/model/random_weights.h) or
// wants to read them too. weights: released with weights_close; mamba2_open borrows them for the
// call. name: a folder's last part becomes the model's name. Errors: as model_open's.
enum status mamba2_read(const char *dir, enum gated_norm norm, struct mamba2_config *config,
                        struct mamba2_weights *weights);
enum status mamba2_open(const struct mamba2_config *config, const struct mamba2_weights *weights,
                        const char *name, struct backend *backend,
                        const struct model_settings *settings, struct model **opened);

// Parts of mamba2_open: weights to the backend; buffers. What they placed, model_close releases.
enum status model_place_weights(struct model *model, const struct mamba2_weights *weights);
enum status model_place_buffers(struct model *model);
