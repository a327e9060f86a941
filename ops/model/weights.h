#pragma once
// Which tensors a Mamba-2 checkpoint has, their shapes, and the hash that says "the same model".

#include "ops/model/checkpoint.h"
#include "ops/model/config.h"

C_BEGIN

// NULL: the model has none (a bias that is off).
struct mamba2_layer_weights {
    const struct tensor *norm;                // [hidden_size]
    const struct tensor *in_proj, *in_bias;   // [proj_width, hidden_size], [proj_width]
    const struct tensor *conv, *conv_bias;    // [conv_width, 1, d_conv], [conv_width]
    const struct tensor *dt_bias, *a_log, *d; // [heads]
    const struct tensor *gate_norm;           // [d_inner]
    const struct tensor *out_proj, *out_bias; // [hidden_size, d_inner], [hidden_size]
};

// Tensors borrowed from the checkpoint. Owns: checkpoint, layers; release with weights_close.
struct mamba2_weights {
    const struct tensor *embedding, *norm; // [vocab_size, hidden_size], [hidden_size]
    const struct tensor *head;             // [vocab_size, hidden_size]; tied: the embedding
    struct mamba2_layer_weights *layers;
    int64_t parameters; // a tied head counts once
    int64_t largest;    // elements of the largest tensor that tensor_f32 needs room for
    uint64_t hash;      // see weights.c
    struct checkpoint checkpoint;
};

// Opens the folder's checkpoint and checks all of it: names, shapes, types, that every weight is
// finite and every exp(A_log) too. Sets config->tied and ->vocab_size to what the file has.
// Errors: MISMATCH by the tensor's name, and checkpoint_open's.
enum status weights_open(const char *dir, struct mamba2_config *config,
                         struct mamba2_weights *opened);
// The same for a file in memory; see checkpoint_parse.
enum status weights_parse(const char *path, const char *bytes, size_t size,
                          struct mamba2_config *config, struct mamba2_weights *opened);
void weights_close(struct mamba2_weights *weights); // accepts an empty one

// a = -exp(A_log) of each head, computed in double and rounded once.
void weights_a(const struct tensor *a_log, float *a);

C_END
