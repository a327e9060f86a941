// verb `info`: what a model is, before it is run.

#include "src/info.h"

#include "ops/model/random_weights.h"
#include "src/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct capacity info_capacity(double million_floats) {
    const double k = 1024, n = million_floats;
    return (struct capacity){.floats = n,
                             .forget = k * (5.172 * n - 4.469),
                             .recall = k * (4.756 * (pow(1.365, n) - 1) - 0.742),
                             .fitted = n >= LAW_FLOATS_LEAST && n <= LAW_FLOATS_MOST};
}

static int64_t parameters_of(const struct mamba2_config *c) {
    const int64_t biases = c->use_bias ? c->proj_width + c->hidden_size : 0;
    const int64_t layer = c->hidden_size + c->proj_width * c->hidden_size +
                          c->conv_width * (c->d_conv + (c->use_conv_bias ? 1 : 0)) + 3 * c->heads +
                          c->d_inner + c->hidden_size * c->d_inner + biases;
    return c->layers * layer + c->hidden_size + c->vocab_size * c->hidden_size * (c->tied ? 1 : 2);
}

static void count_work(struct info *info) {
    const struct mamba2_config *c = &info->config;
    const struct step_shape rows = {.rows = CHUNK_TOKENS, .chunks = 1};
    struct stage_cost cost[STAGES];
    bench_cost(c, &rows, (struct element_bytes){4, 4}, cost);
    info->projections = (cost[STAGE_PROJECT].flops + cost[STAGE_PROJECT_BACK].flops) / CHUNK_TOKENS;
    info->convolution = 2.0 * (double)(c->layers * c->conv_width * c->d_conv);
    info->scan =
        (cost[STAGE_PREPARE].flops + cost[STAGE_SCAN].flops) / CHUNK_TOKENS - info->convolution;
    info->head = cost[STAGE_HEAD].flops / CHUNK_TOKENS;
}

PRINTF_LIKE(2, 3) static void note(struct info *info, const char *format, ...) {
    va_list arguments;
    if (info->unusual_count == UNUSUAL_MOST) return;
    va_start(arguments, format);
    vsnprintf(info->unusual[info->unusual_count++], sizeof info->unusual[0], format, arguments);
    va_end(arguments);
}

// Beside the official models.
static void note_unusual(struct info *info) {
    const struct mamba2_config *c = &info->config;
    if (c->d_state != 128) note(info, "d_state %" PRId64 " instead of 128", c->d_state);
    if (c->head_dim != 64) note(info, "head_dim %" PRId64 " instead of 64", c->head_dim);
    if (c->expand != 2) note(info, "expand %g instead of 2", c->expand);
    if (c->d_conv != 4) note(info, "a convolution of %" PRId64 " taps instead of 4", c->d_conv);
    if (c->groups != 1) {
        note(info, "%" PRId64 " groups: B and C of their own for every %" PRId64 " heads",
             c->groups, c->heads / c->groups);
    }
    if (!c->tied) note(info, "untied head: weights of its own instead of the embedding's");
    if (c->use_bias) note(info, "biases in the projections");
    if (!c->use_conv_bias) note(info, "no bias in the convolution");
    if (c->norm_before_gate) note(info, "the norm comes before the gate");
    if (c->dt_least > 0 || isfinite(c->dt_most)) {
        note(info, "time steps are limited to %g to %g", c->dt_least, c->dt_most);
    }
    if (c->epsilon != 1e-5) note(info, "epsilon of the norms %g instead of 1e-05", c->epsilon);
    if (!c->residual_in_f32) note(info, "trained with rounded residuals; here they are f32");
    if (c->vocab_size == 256) note(info, "a vocabulary of bytes");
    if (c->bos < 0) note(info, "names no BOS token: --bos is refused");
}

void info_of_shape(const char *name, const struct mamba2_config *config, struct info *info) {
    *info = (struct info){.name = name, .config = *config};
    const struct mamba2_config *c = &info->config;
    const int64_t ssm = c->heads * c->head_dim * c->d_state, tail = (c->d_conv - 1) * c->conv_width;
    info->parameters = parameters_of(c);
    info->embedding = c->vocab_size * c->hidden_size * (c->tied ? 1 : 2);
    info->ssm_bytes = ssm * (int64_t)sizeof(float);
    info->conv_bytes = tail * (int64_t)sizeof(float);
    info->capacity = info_capacity((double)(c->layers * (ssm + tail)) * 1e-6);
    info->capacity.kindred = c->d_state == 128 && c->head_dim == 64;
    count_work(info);
    note_unusual(info);
}

static void count_stored(const struct tensor *tensor, struct info *info) {
    if (tensor != NULL && tensor->dtype < DTYPE_OTHER) info->stored[tensor->dtype] += tensor->count;
}

static void read_weights(const struct mamba2_weights *weights, struct info *info) {
    count_stored(weights->embedding, info);
    count_stored(weights->norm, info);
    if (weights->head != weights->embedding) count_stored(weights->head, info);
    for (int64_t i = 0; i < info->config.layers; i++) {
        const struct mamba2_layer_weights *layer = &weights->layers[i];
        const struct tensor *all[] = {layer->norm,     layer->in_proj,   layer->in_bias,
                                      layer->conv,     layer->conv_bias, layer->dt_bias,
                                      layer->a_log,    layer->d,         layer->gate_norm,
                                      layer->out_proj, layer->out_bias};
        for (size_t t = 0; t < sizeof all / sizeof all[0]; t++) {
            count_stored(all[t], info);
        }
    }
    info->parameters = weights->parameters;
    info->hash = weights->hash;
}

static void find_tokenizer(const char *folder, struct info *info) {
    char path[4096];
    struct stat about;
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    if (stat(path, &about) == 0) {
        snprintf(info->tokenizer, sizeof info->tokenizer, "tokenizer.json, %lld bytes",
                 (long long)about.st_size);
    } else if (info->config.vocab_size == 256) {
        snprintf(info->tokenizer, sizeof info->tokenizer, "byte: a token a byte");
    } else {
        snprintf(info->tokenizer, sizeof info->tokenizer,
                 "none in the folder: give token ids, or --tokenizer");
    }
}

static enum status describe(const struct settings *settings, struct info *info) {
    struct mamba2_config config;
    struct mamba2_weights weights = {0};
    if (settings->shape != NULL) {
        TRY(shape_config(settings->shape, &config));
        info_of_shape(settings->shape, &config, info);
        snprintf(info->tokenizer, sizeof info->tokenizer, "that of EleutherAI/gpt-neox-20b");
        return STATUS_OK;
    }
    TRY(mamba2_read(settings->model, gated_norm_of(settings->gated_norm), &config, &weights));
    info_of_shape(settings->model, &config, info);
    info->files = true;
    read_weights(&weights, info);
    for (int32_t i = 0; i < weights.checkpoint.file_count; i++) {
        info->disk_bytes += (int64_t)weights.checkpoint.files[i].file.size;
    }
    weights_close(&weights);
    find_tokenizer(settings->model, info);
    return STATUS_OK;
}

enum status verb_info(const struct settings *settings, int *exit_code) {
    struct info info;
    struct measure_out out = {0};
    (void)exit_code;
    if ((settings->model == NULL) == (settings->shape == NULL)) {
        return FAIL(USAGE, "info needs --model DIR or --shape " OFFICIAL_SHAPES ", one of them");
    }
    TRY(describe(settings, &info));
    if (settings->dry_run) {
        LOG(INFO, "dry run: the model is in order");
        return STATUS_OK;
    }
    TRY(measure_out_open(settings, &out));
    const enum status status = info_say(&info, &out);
    const enum status closed = measure_out_close(&out, status == STATUS_OK);
    return status == STATUS_OK ? closed : status;
}
