// One row a field: the reader, the ranges and the messages come from the table. Checks between
// fields follow once all are read.

#include "ops/model/config.h"

#include "ops/base/json.h"
#include "ops/model/mapped_file.h"

#include <math.h>
#include <string.h>

#define CONFIG_BYTES_MOST ((size_t)1 << 20)

enum field_kind { FIELD_COUNT, FIELD_NUMBER, FIELD_TRUTH, FIELD_ID, FIELD_SPECIAL };

struct parsing {
    struct json json;
    const char *path;
    struct mamba2_config *config;
    bool original; // a field of the state-spaces layout was seen
    bool named;    // model_type was seen
};

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;                                                  // into struct mamba2_config
    double least, most;                                             // of counts and numbers
    enum status (*read)(struct parsing *parsing, const char *name); // FIELD_SPECIAL
};

static enum status read_limits(struct parsing *parsing, const char *name);
static enum status read_model_type(struct parsing *parsing, const char *name);
static enum status read_activation(struct parsing *parsing, const char *name);
static enum status read_only_true(struct parsing *parsing, const char *name);
static enum status read_only_empty(struct parsing *parsing, const char *name);
static enum status read_original(struct parsing *parsing, const char *name);

#define AT(member) offsetof(struct mamba2_config, member)
static const struct field fields[] = {
    {"hidden_size",         FIELD_COUNT,   AT(hidden_size),      1,      1 << 17, NULL           },
    {"num_hidden_layers",   FIELD_COUNT,   AT(layers),           1,      1 << 12, NULL           },
    {"state_size",          FIELD_COUNT,   AT(d_state),          1,      1 << 12, NULL           },
    {"head_dim",            FIELD_COUNT,   AT(head_dim),         1,      1 << 12, NULL           },
    {"num_heads",           FIELD_COUNT,   AT(heads),            1,      1 << 14, NULL           },
    {"n_groups",            FIELD_COUNT,   AT(groups),           1,      1 << 10, NULL           },
    {"conv_kernel",         FIELD_COUNT,   AT(d_conv),           2,      16,      NULL           },
    {"vocab_size",          FIELD_COUNT,   AT(vocab_size),       1,      1 << 24, NULL           },
    {"expand",              FIELD_NUMBER,  AT(expand),           0.0625, 64,      NULL           },
    {"layer_norm_epsilon",  FIELD_NUMBER,  AT(epsilon),          1e-20,  1,       NULL           },
    {"tie_word_embeddings", FIELD_TRUTH,   AT(tied),             0,      0,       NULL           },
    {"norm_before_gate",    FIELD_TRUTH,   AT(norm_before_gate), 0,      0,       NULL           },
    {"use_bias",            FIELD_TRUTH,   AT(use_bias),         0,      0,       NULL           },
    {"use_conv_bias",       FIELD_TRUTH,   AT(use_conv_bias),    0,      0,       NULL           },
    {"residual_in_fp32",    FIELD_TRUTH,   AT(residual_in_f32),  0,      0,       NULL           },
    {"bos_token_id",        FIELD_ID,      AT(bos),              0,      0,       NULL           },
    {"eos_token_id",        FIELD_ID,      AT(eos),              0,      0,       NULL           },
    {"pad_token_id",        FIELD_ID,      AT(pad),              0,      0,       NULL           },
    {"time_step_limit",     FIELD_SPECIAL, 0,                    0,      0,       read_limits    },
    {"model_type",          FIELD_SPECIAL, 0,                    0,      0,       read_model_type},
    {"hidden_act",          FIELD_SPECIAL, 0,                    0,      0,       read_activation},
    {"rms_norm",            FIELD_SPECIAL, 0,                    0,      0,       read_only_true },
    {"attn_layer_idx",      FIELD_SPECIAL, 0,                    0,      0,       read_only_empty},
    {"attn_layer_indices",  FIELD_SPECIAL, 0,                    0,      0,       read_only_empty},
    {"attn_cfg",            FIELD_SPECIAL, 0,                    0,      0,       read_only_empty},
    {"d_intermediate",      FIELD_SPECIAL, 0,                    0,      0,       read_only_empty},
    {"quantization_config", FIELD_SPECIAL, 0,                    0,      0,       read_only_empty},
    {"d_model",             FIELD_SPECIAL, 0,                    0,      0,       read_original  },
    {"n_layer",             FIELD_SPECIAL, 0,                    0,      0,       read_original  },
    {"ssm_cfg",             FIELD_SPECIAL, 0,                    0,      0,       read_original  },
};

static enum status malformed(const struct parsing *parsing, const char *name) {
    return FAIL(MISMATCH, "%s, byte %zu: %s%s%s", parsing->path, parsing->json.wrong_at,
                name == NULL ? "" : name, name == NULL ? "" : ": ", parsing->json.wrong);
}

// NaN and Infinity as Python writes them, or as {"__float__": "Infinity"}, which newer
// transformers write because the former is no JSON.
static bool read_float(struct json *json, double *value) {
    const char *text;
    size_t bytes;
    if (json_peek(json) != JSON_OBJECT) return json_number(json, value);
    if (!json_object(json)) return false;
    *value = (double)NAN;
    while (json_key(json, &text, &bytes)) {
        if (!json_is(text, bytes, "__float__")) {
            json_skip(json);
        } else if (json_string(json, &text, &bytes)) {
            if (json_is(text, bytes, "Infinity")) *value = HUGE_VAL;
            if (json_is(text, bytes, "-Infinity")) *value = -HUGE_VAL;
        }
    }
    return json->wrong == NULL;
}

static enum status read_limits(struct parsing *parsing, const char *name) {
    struct json *json = &parsing->json;
    double limits[2] = {0, 0};
    int count = 0;
    if (json_array(json)) {
        while (json_item(json)) {
            if (count < 2) {
                read_float(json, &limits[count]);
            } else {
                json_skip(json);
            }
            count++;
        }
    }
    if (json->wrong != NULL) return malformed(parsing, name);
    if (count != 2 || !(limits[0] >= 0) || !(limits[1] >= limits[0]) || isinf(limits[0])) {
        return FAIL(MISMATCH, "%s: %s must be two numbers, 0 <= least <= most", parsing->path,
                    name);
    }
    parsing->config->dt_least = limits[0];
    parsing->config->dt_most = limits[1];
    return STATUS_OK;
}

static enum status read_model_type(struct parsing *parsing, const char *name) {
    const char *raw;
    size_t bytes;
    if (!json_string(&parsing->json, &raw, &bytes)) return malformed(parsing, name);
    if (!json_is(raw, bytes, "mamba2")) {
        return FAIL(MISMATCH, "%s: %s is \"%.*s\"; only \"mamba2\" is supported", parsing->path,
                    name, bytes < 64 ? (int)bytes : 64, raw);
    }
    parsing->named = true;
    return STATUS_OK;
}

static enum status read_activation(struct parsing *parsing, const char *name) {
    const char *raw;
    size_t bytes;
    if (!json_string(&parsing->json, &raw, &bytes)) return malformed(parsing, name);
    if (!json_is(raw, bytes, "silu") && !json_is(raw, bytes, "swish")) {
        return FAIL(MISMATCH, "%s: %s is \"%.*s\"; only \"silu\" is supported", parsing->path, name,
                    bytes < 64 ? (int)bytes : 64, raw);
    }
    return STATUS_OK;
}

static enum status read_only_true(struct parsing *parsing, const char *name) {
    bool value;
    if (!json_bool(&parsing->json, &value)) return malformed(parsing, name);
    if (!value) return FAIL(MISMATCH, "%s: %s is false, not supported", parsing->path, name);
    return STATUS_OK;
}

// null, false, 0, [] and {} say that the model has no such part.
static enum status read_only_empty(struct parsing *parsing, const char *name) {
    struct json *json = &parsing->json;
    const char *raw;
    size_t bytes;
    if (!json_raw(json, &raw, &bytes)) return malformed(parsing, name);
    bool empty =
        json_is(raw, bytes, "null") || json_is(raw, bytes, "false") || json_is(raw, bytes, "0");
    if (!empty && (raw[0] == '[' || raw[0] == '{')) {
        empty = true;
        for (size_t i = 1; i + 1 < bytes; i++) {
            empty = empty && strchr(" \t\r\n", raw[i]) != NULL;
        }
    }
    if (!empty) {
        return FAIL(MISMATCH, "%s: %s: layers other than plain Mamba-2 ones are not supported",
                    parsing->path, name);
    }
    return STATUS_OK;
}

static enum status read_original(struct parsing *parsing, const char *name) {
    if (!json_skip(&parsing->json)) return malformed(parsing, name);
    parsing->original = true;
    return STATUS_OK;
}

static enum status read_count(struct parsing *parsing, const struct field *field, int64_t *value) {
    if (!json_int(&parsing->json, value)) return malformed(parsing, field->name);
    if ((double)*value < field->least || (double)*value > field->most) {
        return FAIL(MISMATCH, "%s: %s is %lld, not between %.0f and %.0f", parsing->path,
                    field->name, (long long)*value, field->least, field->most);
    }
    return STATUS_OK;
}

static enum status read_value(struct parsing *parsing, const struct field *field, double *value) {
    if (!json_number(&parsing->json, value)) return malformed(parsing, field->name);
    if (!(*value >= field->least && *value <= field->most)) {
        return FAIL(MISMATCH, "%s: %s is %g, not between %g and %g", parsing->path, field->name,
                    *value, field->least, field->most);
    }
    return STATUS_OK;
}

// An id, null, or a list of which the first counts.
static enum status read_id(struct parsing *parsing, const struct field *field, int64_t *value) {
    struct json *json = &parsing->json;
    int64_t first = -1, item;
    switch ((int)json_peek(json)) {
    case JSON_NULL: json_null(json); break;
    case JSON_ARRAY:
        json_array(json);
        while (json_item(json)) {
            if (json_int(json, &item) && first < 0) first = item;
        }
        break;
    default: json_int(json, &first);
    }
    if (json->wrong != NULL) return malformed(parsing, field->name);
    if (first < -1 || first > INT32_MAX) {
        return FAIL(MISMATCH, "%s: %s is %lld, no token id", parsing->path, field->name,
                    (long long)first);
    }
    *value = first;
    return STATUS_OK;
}

// Numbers in files of other writers: a bool field may stand as null, which means its default.
static enum status read_field(struct parsing *parsing, const struct field *field) {
    char *at = (char *)parsing->config + field->offset;
    struct json *json = &parsing->json;
    if (field->kind != FIELD_ID && field->read != read_only_empty && json_peek(json) == JSON_NULL) {
        json_null(json);
        return STATUS_OK;
    }
    switch (field->kind) {
    case FIELD_COUNT: return read_count(parsing, field, (int64_t *)(void *)at);
    case FIELD_NUMBER: return read_value(parsing, field, (double *)(void *)at);
    case FIELD_ID: return read_id(parsing, field, (int64_t *)(void *)at);
    case FIELD_SPECIAL: return field->read(parsing, field->name);
    case FIELD_TRUTH: break;
    }
    if (!json_bool(json, (bool *)(void *)at)) return malformed(parsing, field->name);
    if (field->offset == AT(tied)) parsing->config->tied_given = true;
    return STATUS_OK;
}

static enum status check_together(const char *path, struct mamba2_config *config) {
    config->d_inner = config->heads * config->head_dim;
    config->conv_width = config->d_inner + 2 * config->groups * config->d_state;
    config->proj_width = config->d_inner + config->conv_width + config->heads;
    if (config->d_inner != (int64_t)(config->expand * (double)config->hidden_size)) {
        return FAIL(
            MISMATCH,
            "%s: num_heads * head_dim is %lld, expand * hidden_size is %.0f: they must be equal",
            path, (long long)config->d_inner, config->expand * (double)config->hidden_size);
    }
    if (config->heads % config->groups != 0) {
        return FAIL(MISMATCH, "%s: num_heads is %lld, not a multiple of n_groups, %lld", path,
                    (long long)config->heads, (long long)config->groups);
    }
    if (config->bos >= config->vocab_size) {
        return FAIL(MISMATCH, "%s: bos_token_id is %lld, vocab_size %lld", path,
                    (long long)config->bos, (long long)config->vocab_size);
    }
    return STATUS_OK;
}

enum status config_parse(const char *path, const char *text, size_t bytes,
                         struct mamba2_config *config) {
    // HF's Mamba2Config() describes Codestral.
    struct mamba2_config read = {.hidden_size = 4096,
                                 .layers = 64,
                                 .d_state = 128,
                                 .head_dim = 64,
                                 .heads = 128,
                                 .groups = 8,
                                 .d_conv = 4,
                                 .vocab_size = 32768,
                                 .expand = 2,
                                 .epsilon = 1e-5,
                                 .dt_most = HUGE_VAL,
                                 .use_conv_bias = true,
                                 .residual_in_f32 = true,
                                 .bos = 0,
                                 .eos = 2,
                                 .pad = 1};
    struct parsing parsing = {.path = path, .config = &read};
    struct json *json = &parsing.json;
    const char *key;
    size_t key_bytes;
    json_open(json, text, bytes);
    json->infinities = true;
    if (!json_object(json)) return malformed(&parsing, NULL);
    while (json_key(json, &key, &key_bytes)) {
        const struct field *field = fields, *end = fields + sizeof fields / sizeof fields[0];
        while (field < end && !json_is(key, key_bytes, field->name)) {
            field++;
        }
        if (field < end) {
            TRY(read_field(&parsing, field));
        } else {
            json_skip(json);
        }
    }
    if (!json_end(json)) return malformed(&parsing, NULL);
    if (parsing.original && !parsing.named) {
        return FAIL(MISMATCH,
                    "%s has the original state-spaces layout (d_model, n_layer, ssm_cfg), "
                    "which is not supported yet: convert the model with transformers",
                    path);
    }
    if (!parsing.named)
        return FAIL(MISMATCH, "%s: model_type is missing; expected \"mamba2\"", path);
    TRY(check_together(path, &read));
    *config = read;
    return STATUS_OK;
}

enum status config_read(const char *path, struct mamba2_config *config) {
    struct mapped_file file = {0};
    TRY(mapped_file_open(path, CONFIG_BYTES_MOST, &file));
    const enum status status = config_parse(path, file.bytes, file.size, config);
    mapped_file_close(&file);
    return status;
}
