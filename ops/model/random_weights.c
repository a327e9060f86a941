// Official initialisation (mamba_ssm): projections uniform within 1 / sqrt(inputs), out_proj divided
// by sqrt(layers) besides, embedding normal with deviation 0.02, A uniform in [1, 16), dt
// log-uniform in [0.001, 0.1), D and norms 1.

#define _GNU_SOURCE // MAP_ANONYMOUS

#include "ops/model/random_weights.h"

#include "ops/base/check.h"
#include "ops/base/hash.h"
#include "ops/model/fingerprint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SHIFT 1021 // a layer's numbers begin so many elements behind those of the layer before

enum fill { FILL_UNIFORM, FILL_NORMAL, FILL_ONES, FILL_A_LOG, FILL_DT_BIAS };

enum area {
    AREA_EMBEDDING,
    AREA_ONES,
    AREA_IN_PROJ,
    AREA_CONV,
    AREA_CONV_BIAS,
    AREA_DT_BIAS,
    AREA_A_LOG,
    AREA_OUT_PROJ,
    AREAS
};

struct pool {
    int64_t at[AREAS]; // first element
    int64_t floats;
    float *data;
};

static const struct {
    const char *name;
    int hidden, layers;
} shapes[] = {
    {"130m", 768,  24},
    {"370m", 1024, 48},
    {"780m", 1536, 48},
    {"1.3b", 2048, 48},
    {"2.7b", 2560, 64},
};

enum status shape_config(const char *shape, struct mamba2_config *config) {
    char text[512];
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (strcmp(shapes[i].name, shape) != 0) continue;
        const int bytes = snprintf(
            text, sizeof text,
            "{\"model_type\":\"mamba2\",\"hidden_size\":%d,\"num_hidden_layers\":%d,"
            "\"state_size\":128,\"head_dim\":64,\"num_heads\":%d,\"expand\":2,\"n_groups\":1,"
            "\"conv_kernel\":4,\"vocab_size\":50288,\"layer_norm_epsilon\":1e-05,"
            "\"tie_word_embeddings\":true,\"bos_token_id\":0,\"eos_token_id\":0,"
            "\"pad_token_id\":0}",
            shapes[i].hidden, shapes[i].layers, 2 * shapes[i].hidden / 64);
        return config_parse(shape, text, (size_t)bytes, config);
    }
    return FAIL(USAGE, "--shape %s: there are " OFFICIAL_SHAPES, shape);
}

// splitmix64 of a counter
static uint64_t mix(uint64_t counter) {
    uint64_t z = counter * 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

static double unit(uint64_t bits) {
    return (double)(bits >> 11) * 0x1p-53;
}

// In [-1, 1), from 16 bits at `shift`.
static float sixteenth(uint64_t bits, int shift) {
    return ((float)((bits >> shift) & 0xFFFF) - 32767.5F) * 0x1p-15F;
}

static void fill_uniform(float *values, int64_t count, uint64_t key, float bound) {
    for (int64_t i = 0; i < count; i += 4) {
        const uint64_t bits = mix(key + (uint64_t)i);
        for (int64_t k = 0; k < 4 && i + k < count; k++) {
            values[i + k] = bound * sixteenth(bits, (int)k * 16);
        }
    }
}

// Nearly normal: the sum of four uniforms, whose deviation is 2 / sqrt(3).
static void fill_normal(float *values, int64_t count, uint64_t key, float deviation) {
    const float scale = deviation * 0.8660254F;
    for (int64_t i = 0; i < count; i++) {
        const uint64_t bits = mix(key + (uint64_t)i);
        values[i] = scale * (sixteenth(bits, 0) + sixteenth(bits, 16) + sixteenth(bits, 32) +
                             sixteenth(bits, 48));
    }
}

static float log_of_a(uint64_t bits) {
    return (float)log(1 + 15 * unit(bits));
}

// The bias whose softplus is dt.
static float bias_of_dt(uint64_t bits) {
    const double dt = exp(log(0.001) + unit(bits) * log(100));
    return (float)(dt + log(-expm1(-dt)));
}

static void fill(float *values, int64_t count, enum fill how, uint64_t key, float scale) {
    if (how == FILL_UNIFORM) {
        fill_uniform(values, count, key, scale);
    } else if (how == FILL_NORMAL) {
        fill_normal(values, count, key, scale);
    }
    for (int64_t i = 0; how > FILL_NORMAL && i < count; i++) {
        const uint64_t bits = mix(key + (uint64_t)i);
        values[i] = how == FILL_ONES ? 1.0F : how == FILL_A_LOG ? log_of_a(bits) : bias_of_dt(bits);
    }
}

static float inverse_root(int64_t inputs) {
    return (float)(1 / sqrt((double)inputs));
}

static enum status make_pool(const struct mamba2_config *c, uint64_t seed, struct pool *pool) {
    const int64_t table = c->vocab_size * c->hidden_size, spare = c->layers * SHIFT;
    const int64_t wide = c->d_inner > c->hidden_size ? c->d_inner : c->hidden_size;
    const float taps = inverse_root(c->d_conv);
    const struct {
        int64_t count;
        enum fill fill;
        float scale;
    } areas[AREAS] = {
        [AREA_EMBEDDING] = {table,                                  FILL_NORMAL,  0.02F},
        [AREA_ONES] = {wide,                                   FILL_ONES,    1    },
        [AREA_IN_PROJ] = {c->proj_width * c->hidden_size + spare, FILL_UNIFORM,
                            inverse_root(c->hidden_size)                               },
        [AREA_CONV] = {c->conv_width * c->d_conv + spare,      FILL_UNIFORM, taps },
        [AREA_CONV_BIAS] = {c->conv_width + spare,                  FILL_UNIFORM, taps },
        [AREA_DT_BIAS] = {c->heads + spare,                       FILL_DT_BIAS, 1    },
        [AREA_A_LOG] = {c->heads + spare,                       FILL_A_LOG,   1    },
        [AREA_OUT_PROJ] = {c->hidden_size * c->d_inner + spare,    FILL_UNIFORM,
                            inverse_root(c->d_inner * c->layers)                       },
    };
    for (int i = 0; i < AREAS; i++) {
        pool->at[i] = pool->floats;
        pool->floats += areas[i].count;
    }
    const size_t bytes = (size_t)pool->floats * sizeof(float);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return FAIL(NO_MEMORY, "%zu bytes of random weights", bytes);
    pool->data = memory;
    for (int i = 0; i < AREAS; i++) {
        fill(pool->data + pool->at[i], areas[i].count, areas[i].fill,
             mix(seed * AREAS + (uint64_t)i), areas[i].scale);
    }
    return STATUS_OK;
}

struct making {
    const struct pool *pool;
    struct mamba2_weights *weights;
    int64_t layer;
};

static const struct tensor *make(struct making *making, enum area area, int64_t rows,
                                 int64_t columns) {
    struct tensors *tensors = &making->weights->checkpoint.tensors;
    struct tensor *tensor = &tensors->items[tensors->count++];
    const int64_t shift = area > AREA_ONES ? making->layer * SHIFT : 0;
    const float *data = making->pool->data + making->pool->at[area] + shift;
    const int64_t count = rows * (columns > 0 ? columns : 1);
    *tensor = (struct tensor){
        .name = "of random weights",
        .path = "random weights",
        .dtype = DTYPE_F32,
        .dims = columns > 0 ? 2 : 1,
        .shape = {rows, columns},
        .count = count,
        .data = (const char *)data,
        .bytes = (size_t)count * sizeof(float),
    };
    making->weights->parameters += count;
    return tensor;
}

static void make_layer(struct making *making, const struct mamba2_config *c) {
    struct mamba2_layer_weights *layer = &making->weights->layers[making->layer];
    layer->norm = make(making, AREA_ONES, c->hidden_size, 0);
    layer->in_proj = make(making, AREA_IN_PROJ, c->proj_width, c->hidden_size);
    layer->conv = make(making, AREA_CONV, c->conv_width, c->d_conv);
    layer->conv_bias = make(making, AREA_CONV_BIAS, c->conv_width, 0);
    layer->dt_bias = make(making, AREA_DT_BIAS, c->heads, 0);
    layer->a_log = make(making, AREA_A_LOG, c->heads, 0);
    layer->d = make(making, AREA_ONES, c->heads, 0);
    layer->gate_norm = make(making, AREA_ONES, c->d_inner, 0);
    layer->out_proj = make(making, AREA_OUT_PROJ, c->hidden_size, c->d_inner);
}

// The numbers follow from these, so they need not be read once more.
static enum status make_hash(const struct mamba2_config *config, uint64_t seed, uint64_t *hash) {
    struct fingerprint *fingerprint = NULL;
    uint64_t both[2] = {0, seed};
    TRY(fingerprint_open(&fingerprint));
    fingerprint_config(fingerprint, config);
    both[0] = fingerprint_value(fingerprint);
    fingerprint_close(fingerprint);
    *hash = hash_bytes(both, sizeof both);
    return STATUS_OK;
}

enum status weights_random(const struct mamba2_config *config, uint64_t seed,
                           struct mamba2_weights *made) {
    enum status status = STATUS_OK;
    struct mamba2_weights weights = {0};
    struct pool pool = {0};
    struct making making = {.pool = &pool, .weights = &weights};
    CHECK(config->tied && !config->use_bias && config->use_conv_bias); // as all official shapes are
    weights.layers = calloc((size_t)config->layers, sizeof *weights.layers);
    struct checkpoint *checkpoint = &weights.checkpoint;
    checkpoint->tensors.items = calloc((size_t)(9 * config->layers + 3), sizeof(struct tensor));
    checkpoint->files = calloc(1, sizeof *checkpoint->files);
    if (weights.layers == NULL || checkpoint->tensors.items == NULL || checkpoint->files == NULL) {
        status = FAIL(NO_MEMORY, "tensor table of %lld layers", (long long)config->layers);
        goto out;
    }
    TRY_OUT(status, make_hash(config, seed, &weights.hash));
    TRY_OUT(status, make_pool(config, seed, &pool));
    checkpoint->file_count = 1;
    checkpoint->files[0].file =
        (struct mapped_file){(const char *)pool.data, (size_t)pool.floats * sizeof(float)};
    weights.embedding = make(&making, AREA_EMBEDDING, config->vocab_size, config->hidden_size);
    weights.head = weights.embedding;
    weights.norm = make(&making, AREA_ONES, config->hidden_size, 0);
    for (; making.layer < config->layers; making.layer++) {
        make_layer(&making, config);
    }
    *made = weights;
    weights = (struct mamba2_weights){0};
out:
    weights_close(&weights);
    return status;
}
