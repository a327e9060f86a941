// The weights as the oracle takes them.

#include "src/verify_plain.h"

#include <stdlib.h>

static enum status plain_tensor(struct plain *plain, const struct tensor *tensor,
                                const float **values) {
    *values = NULL;
    if (tensor == NULL) return STATUS_OK;
    float *room = NULL;
    if (tensor_needs_room(tensor)) {
        room = malloc((size_t)tensor->count * sizeof *room);
        if (room == NULL) return FAIL(NO_MEMORY, "%lld weights", (long long)tensor->count);
        plain->block[plain->blocks++] = room;
    }
    tensor_f32(tensor, room, values);
    return STATUS_OK;
}

// In place of f32 values, a copy with other last digits.
static enum status shake(struct plain *plain, const float **values, int64_t count) {
    float *copy = malloc((size_t)count * sizeof *copy);
    if (copy == NULL) return FAIL(NO_MEMORY, "%lld weights", (long long)count);
    plain->block[plain->blocks++] = copy;
    for (int64_t i = 0; i < count; i++) {
        plain->random = plain->random * 6364136223846793005U + 1442695040888963407U;
        const double off = (double)(plain->random >> 32) * 0x1p-31 - 1;
        copy[i] = (float)((double)(*values)[i] * (1 + plain->roundoff * off));
    }
    *values = copy;
    return STATUS_OK;
}

static enum status plain_product(struct plain *plain, const struct tensor *tensor,
                                 const float **values) {
    TRY(plain_tensor(plain, tensor, values));
    return plain->roundoff > 0 ? shake(plain, values, tensor->count) : STATUS_OK;
}

static enum status plain_layer(struct plain *plain, const struct mamba2_layer_weights *from,
                               struct oracle_layer *to) {
    TRY(plain_tensor(plain, from->norm, &to->norm));
    TRY(plain_product(plain, from->in_proj, &to->in_proj));
    TRY(plain_tensor(plain, from->in_bias, &to->in_proj_bias));
    TRY(plain_tensor(plain, from->conv, &to->conv));
    TRY(plain_tensor(plain, from->conv_bias, &to->conv_bias));
    TRY(plain_tensor(plain, from->dt_bias, &to->dt_bias));
    TRY(plain_tensor(plain, from->a_log, &to->a_log));
    TRY(plain_tensor(plain, from->d, &to->d));
    TRY(plain_tensor(plain, from->gate_norm, &to->gate_norm));
    TRY(plain_product(plain, from->out_proj, &to->out_proj));
    return plain_tensor(plain, from->out_bias, &to->out_proj_bias);
}

enum status plain_open(const struct verify_trial *trial, double roundoff, struct plain *plain) {
    const struct mamba2_config *config = &trial->config;
    const struct mamba2_weights *from = &trial->weights;
    const size_t layers = (size_t)config->layers;
    *plain = (struct plain){.roundoff = roundoff, .random = trial->subject->seed};
    plain->layers = calloc(layers, sizeof *plain->layers);
    plain->block = calloc(13 * layers + 4, sizeof(float *));
    if (plain->layers == NULL || plain->block == NULL) {
        return FAIL(NO_MEMORY, "weights of %zu layers", layers);
    }
    plain->weights = (struct oracle_weights){
        .vocab = config->vocab_size,
        .d_model = config->hidden_size,
        .layers = config->layers,
        .heads = config->heads,
        .head_dim = config->head_dim,
        .d_state = config->d_state,
        .groups = config->groups,
        .d_conv = config->d_conv,
        .epsilon = config->epsilon,
        .dt_least = config->dt_least,
        .dt_most = config->dt_most,
        .norm_before_gate = config->norm_before_gate,
        .norm_groups = config->norm_groups,
        .layer = plain->layers,
    };
    for (size_t i = 0; i < layers; i++) {
        TRY(plain_layer(plain, &from->layers[i], &plain->layers[i]));
    }
    TRY(plain_tensor(plain, from->embedding, &plain->weights.embedding));
    TRY(plain_tensor(plain, from->norm, &plain->weights.final_norm));
    return plain_product(plain, from->head, &plain->weights.head);
}

void plain_close(struct plain *plain) {
    for (int64_t i = 0; i < plain->blocks; i++) {
        free(plain->block[i]);
    }
    free(plain->block);
    free(plain->layers);
}
