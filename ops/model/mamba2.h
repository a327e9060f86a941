#pragma once
// A Mamba-2 model on a backend: what model_open places there once and model_run works with.

#include "ops/mixer.h"
#include "ops/model/config.h"
#include "ops/model/model.h"
#include "ops/model/weights.h"
#include "ops/model/windows.h"

#include <stdatomic.h>

// Host memory (the backend's kind) that uploads of a step read from. Two, so that a step can be queued while the one
// before has not begun; `busy` is cleared by the queue when it has passed the uploads.
struct staging {
    int32_t *token, *target;
    struct windows windows;
    atomic_bool busy;
};

// Owns all its pointers but backend.
struct model {
    struct backend *backend;
    struct mamba2_config config;
    struct model_info info;
    struct windows_settings cutting;
    int64_t step_tokens;

    struct mixer *mixer;
    struct mixer_weights *layers;
    float *embedding, *norm;
    struct packed_weight *head;

    // A step's rows, in backend memory.
    int32_t *token, *target;
    float *nll;
    struct scan_tile *tile;
    struct scan_span *piece;

    struct staging staging[2];
    int turn;
};

// Parts of model_open: weights to the backend; buffers. What they placed, model_close releases.
enum status model_place_weights(struct model *model, const struct mamba2_weights *weights);
enum status model_place_buffers(struct model *model);
