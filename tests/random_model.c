// Weights are scaled so that every activation stays near one, whatever the size.

#include "tests/random_model.h"

#include <math.h>
#include <string.h>

#define BLOCK 4096

enum fill { FILL_NORMAL, FILL_NEAR_ONE, FILL_ONES, FILL_A_LOG, FILL_DT_BIAS };

struct writing {
    const struct model_shape *shape;
    FILE *file;
    bool header; // the pass that writes entries, not numbers
    int64_t offset;
    struct random random;
    float wide[BLOCK];
    uint16_t narrow[BLOCK];
};

// Nearly normal with deviation 1: the sum of four 16-bit uniforms, which is fast and the same on
// every machine.
static float random_normal(struct random *random) {
    const uint64_t bits = random_bits(random);
    const uint64_t sum =
        (bits & 0xFFFF) + ((bits >> 16) & 0xFFFF) + ((bits >> 32) & 0xFFFF) + (bits >> 48);
    return ((float)sum - 131070.0F) * (1.7320508F / 65536.0F);
}

static float draw(struct random *random, enum fill fill, float scale) {
    switch (fill) {
    case FILL_NORMAL: return scale * random_normal(random);
    case FILL_NEAR_ONE: return 1.0F + 0.1F * random_normal(random);
    case FILL_ONES: return 1.0F;
    case FILL_A_LOG: return (float)log(log_uniform(random, 1, 16));
    case FILL_DT_BIAS: break;
    }
    const double dt = log_uniform(random, 0.001, 0.1); // the bias whose softplus is dt
    return (float)(dt + log(-expm1(-dt)));
}

static uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// Values here are finite and within f16's range; the smallest become subnormal or zero.
static uint16_t to_f16(float value) {
    const uint16_t sign = signbit(value) ? 0x8000 : 0;
    const double size = fabs((double)value);
    int exponent;
    if (size < 0x1p-14) return (uint16_t)(sign | (uint16_t)nearbyint(size * 0x1p24));
    const double mantissa = frexp(size, &exponent);  // in [0.5, 1)
    const double whole = nearbyint(mantissa * 2048); // 1024..2048: a carry lands in the exponent
    return (uint16_t)(sign | ((exponent + 13) * 1024 + (int)whole));
}

static size_t element_bytes(const struct model_shape *shape) {
    return strcmp(shape->dtype, "f32") == 0 ? 4 : 2;
}

static bool write_numbers(struct writing *writing, int64_t count, enum fill fill, float scale) {
    float *wide = writing->wide;
    uint16_t *narrow = writing->narrow;
    const bool bf16 = strcmp(writing->shape->dtype, "bf16") == 0;
    const size_t element = element_bytes(writing->shape);
    for (int64_t at = 0; at < count; at += BLOCK) {
        const int64_t block = count - at < BLOCK ? count - at : BLOCK;
        for (int64_t i = 0; i < block; i++) {
            wide[i] = draw(&writing->random, fill, scale);
            if (element == 2) narrow[i] = bf16 ? to_bf16(wide[i]) : to_f16(wide[i]);
        }
        const void *from = element == 2 ? (const void *)narrow : (const void *)wide;
        if (fwrite(from, element, (size_t)block, writing->file) != (size_t)block) return false;
    }
    return true;
}

// One tensor: its entry in the header, or its numbers. `inputs` scales them.
static bool add(struct writing *writing, const char *name, const int64_t *dims, int count,
                enum fill fill, int64_t inputs) {
    int64_t elements = 1;
    for (int i = 0; i < count; i++) {
        elements *= dims[i];
    }
    if (!writing->header) {
        return write_numbers(writing, elements, fill, (float)(1 / sqrt((double)inputs)));
    }
    const char *dtype = writing->shape->dtype;
    const int64_t end = writing->offset + elements * (int64_t)element_bytes(writing->shape);
    fprintf(writing->file, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", name,
            strcmp(dtype, "f32") == 0   ? "F32"
            : strcmp(dtype, "f16") == 0 ? "F16"
                                        : "BF16");
    for (int i = 0; i < count; i++) {
        fprintf(writing->file, "%s%lld", i == 0 ? "" : ",", (long long)dims[i]);
    }
    fprintf(writing->file, "],\"data_offsets\":[%lld,%lld]}", (long long)writing->offset,
            (long long)end);
    writing->offset = end;
    return ferror(writing->file) == 0;
}

static bool add_layer(struct writing *writing, int64_t layer) {
    const struct model_shape *s = writing->shape;
    const struct {
        const char *name;
        int64_t dims[3];
        int count;
        enum fill fill;
        int64_t inputs;
        bool absent;
    } rows[] = {
        {"norm.weight",           {s->hidden},           1, FILL_NEAR_ONE,                         1,         false          },
        {"mixer.in_proj.weight",  {s->proj, s->hidden},  2, FILL_NORMAL,                           s->hidden, false          },
        {"mixer.in_proj.bias",    {s->proj},             1, FILL_NORMAL,                           100,       !s->bias       },
        {"mixer.conv1d.weight",   {s->conv, 1, s->taps}, 3, FILL_NORMAL,                           s->taps,   false          },
        {"mixer.conv1d.bias",     {s->conv},             1, FILL_NORMAL,                           100,       s->no_conv_bias},
        {"mixer.dt_bias",         {s->heads},            1, FILL_DT_BIAS,                          1,         false          },
        {"mixer.A_log",           {s->heads},            1, FILL_A_LOG,                            1,         false          },
        {"mixer.D",               {s->heads},            1, s->d_varies ? FILL_NORMAL : FILL_ONES, 1,         false          },
        {"mixer.norm.weight",     {s->inner},            1, FILL_NEAR_ONE,                         1,         false          },
        {"mixer.out_proj.weight",
         {s->hidden, s->inner},
         2,                                                 FILL_NORMAL,
         s->inner * s->layers,
         false                                                                                                               },
        {"mixer.out_proj.bias",   {s->hidden},           1, FILL_NORMAL,                           100,       !s->bias       },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[96];
        if (rows[i].absent) continue;
        snprintf(name, sizeof name, "backbone.layers.%lld.%s", (long long)layer, rows[i].name);
        if (!add(writing, name, rows[i].dims, rows[i].count, rows[i].fill, rows[i].inputs)) {
            return false;
        }
    }
    return true;
}

static bool add_all(struct writing *writing) {
    const struct model_shape *s = writing->shape;
    const int64_t table[] = {s->vocab, s->hidden};
    writing->random.state = (uint64_t)s->seed;
    if (!add(writing, "backbone.embeddings.weight", table, 2, FILL_NORMAL, s->hidden)) return false;
    for (int64_t layer = 0; layer < s->layers; layer++) {
        if (!add_layer(writing, layer)) return false;
    }
    if (!add(writing, "backbone.norm_f.weight", &s->hidden, 1, FILL_NEAR_ONE, 1)) return false;
    return !s->untied || add(writing, "lm_head.weight", table, 2, FILL_NORMAL, s->hidden);
}

// The length of the header stands before it: written as zero first, then in its place.
bool random_model_weights(const struct model_shape *shape, FILE *file) {
    struct writing writing = {.shape = shape, .file = file, .header = true};
    uint64_t header = 0;
    bool good = fwrite(&header, sizeof header, 1, writing.file) == 1 &&
                fputs("{\"__metadata__\":{\"format\":\"pt\"}", writing.file) >= 0 &&
                add_all(&writing) && fputc('}', writing.file) == '}';
    while (good && ftell(writing.file) % 8 != 0) {
        good = fputc(' ', writing.file) == ' ';
    }
    const long end = ftell(writing.file);
    header = (uint64_t)end - sizeof header;
    writing.header = false;
    good = good && end > 0 && fseek(writing.file, 0, SEEK_SET) == 0 &&
           fwrite(&header, sizeof header, 1, writing.file) == 1 &&
           fseek(writing.file, end, SEEK_SET) == 0 && add_all(&writing);
    return good;
}

// JSON has no infinity; Python writes the word, and so do checkpoints in the wild.
static void write_limit(char *text, size_t room, double limit) {
    snprintf(text, room, isinf(limit) ? "Infinity" : "%.17g", limit);
}

bool random_model_config(const struct model_shape *s, FILE *file) {
    char most[32];
    write_limit(most, sizeof most, s->dt_most);
    return fprintf(
               file,
               "{\n \"architectures\": [\"Mamba2ForCausalLM\"],\n \"model_type\": \"mamba2\",\n"
               " \"hidden_size\": %lld,\n \"num_hidden_layers\": %lld,\n \"state_size\": %lld,\n"
               " \"head_dim\": %lld,\n \"num_heads\": %lld,\n \"expand\": %.17g,\n"
               " \"n_groups\": %lld,\n \"conv_kernel\": %lld,\n \"chunk_size\": 256,\n"
               " \"vocab_size\": %lld,\n \"layer_norm_epsilon\": 1e-05,\n"
               " \"residual_in_fp32\": true,\n \"rms_norm\": true,\n \"hidden_act\": \"silu\",\n"
               " \"use_bias\": %s,\n \"use_conv_bias\": %s,\n"
               " \"time_step_limit\": [%.17g, %s],\n \"tie_word_embeddings\": %s,\n"
               " \"norm_before_gate\": false,\n \"bos_token_id\": 0,\n \"eos_token_id\": 0,\n"
               " \"pad_token_id\": 0,\n \"torch_dtype\": \"%s\"\n}\n",
               (long long)s->hidden, (long long)s->layers, (long long)s->state,
               (long long)s->head_dim, (long long)s->heads, (double)s->inner / (double)s->hidden,
               (long long)s->groups, (long long)s->taps, (long long)s->vocab,
               s->bias ? "true" : "false", s->no_conv_bias ? "false" : "true", s->dt_least, most,
               s->untied ? "false" : "true",
               strcmp(s->dtype, "f32") == 0   ? "float32"
               : strcmp(s->dtype, "f16") == 0 ? "float16"
                                              : "bfloat16") > 0;
}

bool model_shape_complete(struct model_shape *shape) {
    if (shape->inner == 0) shape->inner = shape->expand * shape->hidden;
    shape->heads = shape->inner / shape->head_dim;
    shape->conv = shape->inner + 2 * shape->groups * shape->state;
    shape->proj = shape->inner + shape->conv + shape->heads;
    return shape->inner % shape->head_dim == 0 && shape->heads > 0 &&
           shape->heads % shape->groups == 0 &&
           (strcmp(shape->dtype, "f32") == 0 || strcmp(shape->dtype, "f16") == 0 ||
            strcmp(shape->dtype, "bf16") == 0);
}
