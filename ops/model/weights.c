// One table says which tensors there are. Everything is looked up, checked and hashed in its
// order, layer by layer.

#include "ops/model/weights.h"

#include "ops/model/fingerprint.h"
#include "ops/model/foreign.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 96

enum size {
    SIZE_NONE,
    SIZE_ONE,
    SIZE_VOCAB,
    SIZE_HIDDEN,
    SIZE_PROJ,
    SIZE_CONV,
    SIZE_TAPS,
    SIZE_HEADS,
    SIZE_INNER,
    SIZES
};
enum presence { ALWAYS, IF_BIAS, IF_CONV_BIAS };

struct row {
    const char *name;
    size_t offset; // into struct mamba2_layer_weights or mamba2_weights
    enum size shape[3];
    enum presence presence;
};

#define MODEL(member) offsetof(struct mamba2_weights, member)
#define LAYER(member) offsetof(struct mamba2_layer_weights, member)

static const struct row embedding_row = {
    "backbone.embeddings.weight", MODEL(embedding), {SIZE_VOCAB, SIZE_HIDDEN},
      ALWAYS
};
static const struct row norm_row = {"backbone.norm_f.weight", MODEL(norm), {SIZE_HIDDEN}, ALWAYS};
static const struct row head_row = {
    "lm_head.weight", MODEL(head), {SIZE_VOCAB, SIZE_HIDDEN},
      ALWAYS
};

// Behind "backbone.layers.N.".
static const struct row layer_rows[] = {
    {"norm.weight",           LAYER(norm),      {SIZE_HIDDEN},                    ALWAYS      },
    {"mixer.in_proj.weight",  LAYER(in_proj),   {SIZE_PROJ, SIZE_HIDDEN},         ALWAYS      },
    {"mixer.in_proj.bias",    LAYER(in_bias),   {SIZE_PROJ},                      IF_BIAS     },
    {"mixer.conv1d.weight",   LAYER(conv),      {SIZE_CONV, SIZE_ONE, SIZE_TAPS}, ALWAYS      },
    {"mixer.conv1d.bias",     LAYER(conv_bias), {SIZE_CONV},                      IF_CONV_BIAS},
    {"mixer.dt_bias",         LAYER(dt_bias),   {SIZE_HEADS},                     ALWAYS      },
    {"mixer.A_log",           LAYER(a_log),     {SIZE_HEADS},                     ALWAYS      },
    {"mixer.D",               LAYER(d),         {SIZE_HEADS},                     ALWAYS      },
    {"mixer.norm.weight",     LAYER(gate_norm), {SIZE_INNER},                     ALWAYS      },
    {"mixer.out_proj.weight", LAYER(out_proj),  {SIZE_HIDDEN, SIZE_INNER},        ALWAYS      },
    {"mixer.out_proj.bias",   LAYER(out_bias),  {SIZE_HIDDEN},                    IF_BIAS     },
};
#define LAYER_ROWS (sizeof layer_rows / sizeof layer_rows[0])

struct binding {
    const char *path; // of all: a folder, or the one file
    const struct mamba2_config *config;
    struct mamba2_weights *weights;
    struct fingerprint *fingerprint;
    float *a;     // [heads], scratch
    int64_t used; // tensors of the file that have been bound
};

static int64_t size_of(const struct mamba2_config *config, enum size size) {
    const int64_t sizes[SIZES] = {
        [SIZE_NONE] = 0,
        [SIZE_ONE] = 1,
        [SIZE_VOCAB] = config->vocab_size,
        [SIZE_HIDDEN] = config->hidden_size,
        [SIZE_PROJ] = config->proj_width,
        [SIZE_CONV] = config->conv_width,
        [SIZE_TAPS] = config->d_conv,
        [SIZE_HEADS] = config->heads,
        [SIZE_INNER] = config->d_inner,
    };
    return sizes[size];
}

static bool is_present(const struct row *row, const struct mamba2_config *config) {
    return row->presence == ALWAYS || (row->presence == IF_BIAS && config->use_bias) ||
           (row->presence == IF_CONV_BIAS && config->use_conv_bias);
}

static void shape_text(const int64_t *shape, int32_t dims, char *text, size_t room) {
    size_t at = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < dims && at < room; i++) {
        const int written =
            snprintf(text + at, room - at, "%s%lld", i == 0 ? "" : ", ", (long long)shape[i]);
        at += written < 0 ? room : (size_t)written;
    }
}

static enum status check_shape(const struct binding *binding, const struct row *row,
                               const struct tensor *tensor) {
    int64_t shape[3] = {0, 0, 0};
    int32_t dims = 0;
    bool same = true;
    for (; dims < 3 && row->shape[dims] != SIZE_NONE; dims++) {
        shape[dims] = size_of(binding->config, row->shape[dims]);
        same = same && dims < tensor->dims && tensor->shape[dims] == shape[dims];
    }
    if (!same || tensor->dims != dims) {
        char has[160], needs[64];
        shape_text(tensor->shape, tensor->dims, has, sizeof has);
        shape_text(shape, dims, needs, sizeof needs);
        return FAIL(MISMATCH, "%s: tensor %s has shape [%s], config.json says [%s]", tensor->path,
                    tensor->name, has, needs);
    }
    if (tensor->dtype == DTYPE_OTHER) {
        return FAIL(MISMATCH, "%s: tensor %s is neither F32 nor BF16 nor F16", tensor->path,
                    tensor->name);
    }
    return STATUS_OK;
}

static enum status bind_row(struct binding *binding, const struct row *row, const char *name,
                            void *target) {
    const struct tensor **place = (const struct tensor **)(void *)((char *)target + row->offset);
    struct mamba2_weights *weights = binding->weights;
    if (!is_present(row, binding->config)) return STATUS_OK;
    const struct tensor *tensor = tensors_find(&weights->checkpoint.tensors, name);
    if (tensor == NULL) return FAIL(MISMATCH, "%s: tensor %s is missing", binding->path, name);
    TRY(check_shape(binding, row, tensor));
    TRY(fingerprint_tensor(binding->fingerprint, tensor));
    if (tensor_needs_room(tensor) && tensor->count > weights->largest) {
        weights->largest = tensor->count;
    }
    weights->parameters += tensor->count;
    binding->used++;
    *place = tensor;
    return STATUS_OK;
}

static enum status check_a(const struct binding *binding, const struct tensor *a_log) {
    weights_a(a_log, binding->a);
    for (int64_t head = 0; head < a_log->count; head++) {
        if (!isfinite(binding->a[head])) {
            return FAIL(MISMATCH, "%s: tensor %s: exp of element %lld is no f32", a_log->path,
                        a_log->name, (long long)head);
        }
    }
    return STATUS_OK;
}

void weights_a(const struct tensor *a_log, float *a) {
    const float *values;
    tensor_f32(a_log, a, &values);
    for (int64_t head = 0; head < a_log->count; head++) {
        a[head] = (float)-exp((double)values[head]);
    }
}

static enum status bind_layers(struct binding *binding) {
    struct mamba2_weights *weights = binding->weights;
    for (int64_t layer = 0; layer < binding->config->layers; layer++) {
        for (size_t i = 0; i < LAYER_ROWS; i++) {
            char name[NAME_BYTES];
            snprintf(name, sizeof name, "backbone.layers.%lld.%s", (long long)layer,
                     layer_rows[i].name);
            TRY(bind_row(binding, &layer_rows[i], name, &weights->layers[layer]));
        }
        TRY(check_a(binding, weights->layers[layer].a_log));
    }
    return STATUS_OK;
}

// Some writers keep a copy of a tied head; one that differs belongs to another model.
static enum status check_copy(const struct binding *binding, const struct tensor *head) {
    const struct tensor *embedding = binding->weights->embedding;
    TRY(check_shape(binding, &head_row, head));
    if (head->dtype == embedding->dtype &&
        (head->data == embedding->data || memcmp(head->data, embedding->data, head->bytes) == 0)) {
        return STATUS_OK;
    }
    return FAIL(MISMATCH,
                "%s: tensor %s is not the embedding, but the config says that they are tied; if "
                "the head was trained, set tie_word_embeddings (tie_embeddings) to false",
                head->path, head->name);
}

// A config that says nothing is settled by the file; one that says "untied" must have a head.
static enum status bind_head(struct binding *binding, struct mamba2_config *config) {
    struct mamba2_weights *weights = binding->weights;
    const struct tensor *head = tensors_find(&weights->checkpoint.tensors, head_row.name);
    if (!config->tied_given) config->tied = head == NULL;
    if (!config->tied) return bind_row(binding, &head_row, head_row.name, weights);
    if (head != NULL) TRY(check_copy(binding, head));
    if (head != NULL) binding->used++;
    weights->head = weights->embedding;
    return STATUS_OK;
}

// Some checkpoints have been cut to the rows that are tokens, though the config speaks of padding.
static void settle_vocabulary(const struct mamba2_weights *weights, struct mamba2_config *config) {
    const struct tensor *embedding = tensors_find(&weights->checkpoint.tensors, embedding_row.name);
    if (embedding != NULL && embedding->dims == 2 &&
        embedding->shape[0] == config->vocab_unpadded) {
        config->vocab_size = config->vocab_unpadded;
    }
}

static bool is_known(const struct mamba2_config *config, const char *name) {
    const char *prefix = "backbone.layers.";
    char *rest;
    if (strcmp(name, embedding_row.name) == 0 || strcmp(name, norm_row.name) == 0 ||
        strcmp(name, head_row.name) == 0) {
        return true;
    }
    if (strncmp(name, prefix, strlen(prefix)) != 0) return false;
    const long layer = strtol(name + strlen(prefix), &rest, 10);
    if (layer < 0 || layer >= config->layers || *rest != '.') return false;
    for (size_t row = 0; row < LAYER_ROWS; row++) {
        if (is_present(&layer_rows[row], config) && strcmp(rest + 1, layer_rows[row].name) == 0) {
            return true;
        }
    }
    return false;
}

// What is in the file and not in the table would change the result of whoever wrote it.
static enum status check_all_used(const struct binding *binding) {
    const struct tensors *tensors = &binding->weights->checkpoint.tensors;
    if (binding->used == tensors->count) return STATUS_OK;
    for (int64_t i = 0; i < tensors->count; i++) {
        const char *name = tensors->items[i].name;
        if (is_known(binding->config, name)) continue;
        return FAIL(MISMATCH,
                    "%s: tensor %.200s is no part of the model that config.json describes",
                    tensors->items[i].path, name);
    }
    return FAIL(MISMATCH, "%s: a tensor stands twice under different spellings", binding->path);
}

// Takes over the checkpoint, also if it fails.
static enum status bind(const char *path, struct checkpoint *checkpoint,
                        struct mamba2_config *config, struct mamba2_weights *opened) {
    enum status status = STATUS_OK;
    struct mamba2_weights weights = {.checkpoint = *checkpoint};
    struct binding binding = {.path = path, .config = config, .weights = &weights};
    *checkpoint = (struct checkpoint){0};
    TRY_OUT(status, fingerprint_open(&binding.fingerprint));
    binding.a = malloc((size_t)config->heads * sizeof(float));
    weights.layers = calloc((size_t)config->layers, sizeof *weights.layers);
    if (binding.a == NULL || weights.layers == NULL) {
        status = FAIL(NO_MEMORY, "tensor table of %lld layers", (long long)config->layers);
        goto out;
    }
    TRY_OUT(status, foreign_tensors(&weights.checkpoint.tensors));
    settle_vocabulary(&weights, config);
    TRY_OUT(status, bind_row(&binding, &embedding_row, embedding_row.name, &weights));
    TRY_OUT(status, bind_layers(&binding));
    TRY_OUT(status, bind_row(&binding, &norm_row, norm_row.name, &weights));
    TRY_OUT(status, bind_head(&binding, config));
    TRY_OUT(status, check_all_used(&binding));
    fingerprint_config(binding.fingerprint, config);
    weights.hash = fingerprint_value(binding.fingerprint);
    *opened = weights;
    weights = (struct mamba2_weights){0};
out:
    fingerprint_close(binding.fingerprint);
    free(binding.a);
    weights_close(&weights);
    return status;
}

enum status weights_parse(const char *path, const char *bytes, size_t size,
                          struct mamba2_config *config, struct mamba2_weights *opened) {
    struct checkpoint checkpoint = {0};
    TRY(checkpoint_parse(path, bytes, size, &checkpoint));
    return bind(path, &checkpoint, config, opened);
}

enum status weights_open(const char *dir, struct mamba2_config *config,
                         struct mamba2_weights *opened) {
    struct checkpoint checkpoint = {0};
    TRY(checkpoint_open(dir, &checkpoint));
    return bind(dir, &checkpoint, config, opened);
}

void weights_close(struct mamba2_weights *weights) {
    free(weights->layers);
    checkpoint_close(&weights->checkpoint);
    *weights = (struct mamba2_weights){0};
}
