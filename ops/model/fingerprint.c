// The model's hash is xxh3-64 over (1) the config fields that change a result, as text, and
// (2) of every used tensor in table order its type, shape and bytes as stored. So a bf16 copy of
// an f32 model has another hash, as its numbers may differ; file order, metadata, token ids and
// names of unread fields do not count.

#include "ops/model/fingerprint.h"

#define XXH_INLINE_ALL
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define HASH_VERSION 1 // of the text that fingerprint_config makes

struct fingerprint {
    XXH3_state_t *state;
};

enum status fingerprint_open(struct fingerprint **opened) {
    struct fingerprint *fingerprint = calloc(1, sizeof *fingerprint);
    if (fingerprint != NULL) fingerprint->state = XXH3_createState();
    if (fingerprint == NULL || fingerprint->state == NULL) {
        free(fingerprint);
        return FAIL(NO_MEMORY, "a hash's state");
    }
    XXH3_64bits_reset(fingerprint->state);
    *opened = fingerprint;
    return STATUS_OK;
}

uint64_t fingerprint_value(const struct fingerprint *fingerprint) {
    return XXH3_64bits_digest(fingerprint->state);
}

void fingerprint_close(struct fingerprint *fingerprint) {
    if (fingerprint == NULL) return;
    XXH3_freeState(fingerprint->state);
    free(fingerprint);
}

void fingerprint_config(struct fingerprint *fingerprint, const struct mamba2_config *config) {
    char text[512];
    const int bytes = snprintf(
        text, sizeof text, "mamba2/%d %lld %lld %lld %lld %lld %lld %lld %lld %a %a %a %d %d %d %d",
        HASH_VERSION, (long long)config->hidden_size, (long long)config->layers,
        (long long)config->d_state, (long long)config->head_dim, (long long)config->heads,
        (long long)config->groups, (long long)config->d_conv, (long long)config->vocab_size,
        config->epsilon, config->dt_least, config->dt_most, config->tied, config->norm_before_gate,
        config->use_bias, config->use_conv_bias);
    XXH3_64bits_update(fingerprint->state, text, (size_t)bytes);
    if (config->norm_groups != config->groups) { // where it is equal, the hash has always been so
        XXH3_64bits_update(fingerprint->state, &config->norm_groups, sizeof config->norm_groups);
    }
}

static bool is_finite_at(enum dtype dtype, const char *data, int64_t at) {
    const uint16_t exponent = dtype == DTYPE_BF16 ? 0x7F80 : 0x7C00;
    uint32_t wide;
    uint16_t narrow;
    if (dtype == DTYPE_F32) {
        memcpy(&wide, data + 4 * at, sizeof wide);
        return (wide & 0x7F800000) != 0x7F800000;
    }
    memcpy(&narrow, data + 2 * at, sizeof narrow);
    return (narrow & exponent) != exponent;
}

// The position of the first NaN or infinity among `count` elements as stored, or -1. All are looked
// at before one is looked for, since compilers make vectors of a loop that does not stop.
static int64_t find_not_finite(enum dtype dtype, const char *data, int64_t count) {
    int64_t bad = 0;
    if (dtype == DTYPE_F32) {
        for (int64_t i = 0; i < count; i++) {
            bad += !is_finite_at(DTYPE_F32, data, i);
        }
    } else if (dtype == DTYPE_BF16) {
        for (int64_t i = 0; i < count; i++) {
            bad += !is_finite_at(DTYPE_BF16, data, i);
        }
    } else {
        for (int64_t i = 0; i < count; i++) {
            bad += !is_finite_at(DTYPE_F16, data, i);
        }
    }
    if (bad == 0) return -1;
    for (bad = 0; bad < count && is_finite_at(dtype, data, bad);) {
        bad++;
    }
    return bad < count ? bad : -1; // somebody has written into the file since
}

// Checks and hashes block by block, so that each byte comes from the disk once.
enum status fingerprint_tensor(struct fingerprint *fingerprint, const struct tensor *tensor) {
    const int64_t element = tensor->dtype == DTYPE_F32 ? 4 : 2, block = 1 << 16;
    int64_t about[1 + TENSOR_DIMS_MOST] = {tensor->dtype};
    memcpy(about + 1, tensor->shape, sizeof tensor->shape);
    XXH3_64bits_update(fingerprint->state, about, sizeof about);
    for (int64_t at = 0; at < tensor->count; at += block) {
        const int64_t count = tensor->count - at < block ? tensor->count - at : block;
        const char *data = tensor->data + at * element;
        const int64_t bad = find_not_finite(tensor->dtype, data, count);
        if (bad >= 0) {
            return FAIL(MISMATCH, "%s: tensor %s: element %lld is NaN or infinite", tensor->path,
                        tensor->name, (long long)(at + bad));
        }
        XXH3_64bits_update(fingerprint->state, data, (size_t)(count * element));
    }
    return STATUS_OK;
}
