// The three layouts as tables of fields over one struct; defaults are those of each layout's own
// code. Checks between fields follow once all are read.

#include "ops/model/config.h"

#include "ops/base/check.h"
#include "ops/model/config_inner.h"
#include "ops/model/mapped_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CONFIG_BYTES_MOST ((size_t)1 << 20)
#define PATH_BYTES        4096

static enum status read_ssm_cfg(struct parsing *parsing, const char *name);

#define AT(member)    offsetof(struct mamba2_config, member)
#define LENGTH(table) (sizeof(table) / sizeof(table)[0])
#define ONLY_TRUE(name) \
    { name, FIELD_SPECIAL, 0, 0, 0, config_read_only_true, false }
#define ONLY_EMPTY(name) \
    { name, FIELD_SPECIAL, 0, 0, 0, config_read_only_empty, true }
#define SPECIAL(name, read) \
    { name, FIELD_SPECIAL, 0, 0, 0, read, false }
#define COUNT(name, member, most) \
    { name, FIELD_COUNT, AT(member), 1, most, NULL, false }
#define TRUTH(name, member) \
    { name, FIELD_TRUTH, AT(member), 0, 0, NULL, false }

// clang-format off
static const struct field hf_fields[] = {
    COUNT("hidden_size",         hidden_size, 1 << 17),
    COUNT("num_hidden_layers",   layers,      1 << 12),
    COUNT("state_size",          d_state,     1 << 12),
    COUNT("head_dim",            head_dim,    1 << 12),
    COUNT("num_heads",           heads,       1 << 14),
    COUNT("n_groups",            groups,      1 << 10),
    {"conv_kernel", FIELD_COUNT, AT(d_conv), 2, 16, NULL, false},
    COUNT("vocab_size",          vocab_size,  1 << 24),
    {"expand", FIELD_NUMBER, AT(expand), 0.0625, 64, NULL, false},
    {"layer_norm_epsilon", FIELD_NUMBER, AT(epsilon), 1e-20, 1, NULL, false},
    TRUTH("tie_word_embeddings", tied),
    TRUTH("use_bias",            use_bias),
    TRUTH("use_conv_bias",       use_conv_bias),
    TRUTH("residual_in_fp32",    residual_in_f32),
    {"bos_token_id", FIELD_ID, AT(bos), 0, 0, NULL, false},
    {"eos_token_id", FIELD_ID, AT(eos), 0, 0, NULL, false},
    {"pad_token_id", FIELD_ID, AT(pad), 0, 0, NULL, false},
    SPECIAL("norm_before_gate",  config_read_unused_norm),
    SPECIAL("time_step_limit",   config_read_limits),
    {"norm_eps", FIELD_NUMBER, AT(epsilon), 1e-20, 1, NULL, false}, // FLA's names of three fields
    SPECIAL("dt_limit",          config_read_limits),
    ONLY_TRUE("rmsnorm"),
    ONLY_EMPTY("D_has_hdim"),
    SPECIAL("model_type",        config_read_model_type),
    SPECIAL("hidden_act",        config_read_activation),
    ONLY_TRUE("rms_norm"),
    ONLY_EMPTY("attn"),
    ONLY_EMPTY("attn_layer_idx"),
    ONLY_EMPTY("attn_layer_indices"),
    ONLY_EMPTY("attn_cfg"),
    ONLY_EMPTY("d_intermediate"),
    ONLY_EMPTY("quantization_config"),
};

static const struct field original_fields[] = {
    COUNT("d_model",          hidden_size, 1 << 17),
    COUNT("n_layer",          layers,      1 << 12),
    COUNT("vocab_size",       vocab_size,  1 << 24),
    TRUTH("tie_embeddings",   tied),
    TRUTH("residual_in_fp32", residual_in_f32),
    SPECIAL("ssm_cfg",        read_ssm_cfg),
    SPECIAL("pad_vocab_size_multiple", config_read_multiple),
    ONLY_TRUE("rms_norm"),
    ONLY_EMPTY("attn_layer_idx"),
    ONLY_EMPTY("attn_cfg"),
    ONLY_EMPTY("d_intermediate"),
    ONLY_EMPTY("quantization_config"),
};

// The arguments of the original code's Mamba2 layer.
static const struct field ssm_fields[] = {
    SPECIAL("layer",          config_read_layer),
    COUNT("d_state",          d_state,  1 << 12),
    COUNT("headdim",          head_dim, 1 << 12),
    COUNT("ngroups",          groups,   1 << 10),
    {"d_conv", FIELD_COUNT, AT(d_conv), 2, 16, NULL, false},
    {"expand", FIELD_NUMBER, AT(expand), 0.0625, 64, NULL, false},
    TRUTH("norm_before_gate", norm_before_gate),
    TRUTH("bias",             use_bias),
    TRUTH("conv_bias",        use_conv_bias),
    SPECIAL("dt_limit",       config_read_limits),
    SPECIAL("activation",     config_read_activation),
    ONLY_TRUE("rmsnorm"),
    ONLY_EMPTY("d_ssm"),
    ONLY_EMPTY("D_has_hdim"),
    ONLY_EMPTY("learnable_init_states"),
};

static const struct field mistral_fields[] = {
    COUNT("dim",              hidden_size, 1 << 17),
    COUNT("n_layers",         layers,      1 << 12),
    COUNT("n_groups",         groups,      1 << 10),
    COUNT("vocab_size",       vocab_size,  1 << 24),
    TRUTH("tie_embeddings",   tied),
    TRUTH("residual_in_fp32", residual_in_f32),
    SPECIAL("pad_vocab_size_multiple", config_read_multiple),
    ONLY_TRUE("rms_norm"),
    ONLY_EMPTY("quantization"),
};
// clang-format on

// HF's Mamba2Config() describes Codestral, and params.json leaves out what Codestral takes for
// granted.
static const struct mamba2_config hf_defaults = {
    .hidden_size = 4096,
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
    .pad = 1,
};
static const struct mamba2_config original_defaults = {
    .hidden_size = 2560,
    .layers = 64,
    .d_state = 128,
    .head_dim = 64,
    .groups = 1,
    .d_conv = 4,
    .vocab_size = 50277,
    .expand = 2,
    .epsilon = 1e-5,
    .dt_most = HUGE_VAL,
    .tied = true,
    .tied_given = true,
    .use_conv_bias = true,
    .residual_in_f32 = true,
};

static const struct layout {
    const struct mamba2_config *defaults;
    const struct field *fields;
    size_t count;
    int64_t pad_multiple;
    bool heads_given;    // else they follow from the width
    const char *missing; // what is said if the file does not say "Mamba-2"; NULL: it need not
} hf = {&hf_defaults,
        hf_fields,
        LENGTH(hf_fields),
        1,
        true,
        "model_type is missing; expected \"mamba2\""},
  original = {&original_defaults,
              original_fields,
              LENGTH(original_fields),
              8,
              false,
              "ssm_cfg.layer is missing, which means Mamba-1; only \"Mamba2\" is supported"},
  mistral = {&hf_defaults, mistral_fields, LENGTH(mistral_fields), 1, false, NULL};

static enum status read_ssm_cfg(struct parsing *parsing, const char *name) {
    (void)name;
    parsing->within = "ssm_cfg.";
    const enum status status = config_read_object(parsing, ssm_fields, LENGTH(ssm_fields));
    parsing->within = "";
    return status;
}

// Each layout has a width of its own spelling; without any the file is HF's, all by default.
static const struct layout *layout_of(const char *text, size_t bytes) {
    const struct layout *found = &hf;
    struct json json;
    const char *key;
    size_t key_bytes;
    json_open(&json, text, bytes);
    json.infinities = true;
    if (!json_object(&json)) return &hf;
    while (json_key(&json, &key, &key_bytes)) {
        if (json_is(key, key_bytes, "hidden_size")) return &hf;
        if (json_is(key, key_bytes, "d_model") || json_is(key, key_bytes, "ssm_cfg")) {
            found = &original;
        } else if (json_is(key, key_bytes, "dim") && found == &hf) {
            found = &mistral;
        }
        json_skip(&json);
    }
    return found;
}

// A HF file that leaves its groups out means 8, and is more likely to be of a model that has 1.
static void assume_groups(const struct layout *layout, const struct parsing *parsing,
                          struct mamba2_config *config) {
    if (config->groups != 0) return;
    config->groups = layout->defaults->groups;
    if (layout != &hf) return;
    LOG(WARN,
        "%s: n_groups is missing, so there are %lld groups, transformers' default; if the weights "
        "do not fit, write the model's own number there",
        parsing->path, (long long)config->groups);
}

// The sizes that layouts do not give themselves.
static void complete(const struct layout *layout, const struct parsing *parsing,
                     struct mamba2_config *config) {
    const int64_t multiple = parsing->pad_multiple;
    if (!layout->heads_given) {
        config->heads = (int64_t)(config->expand * (double)config->hidden_size) / config->head_dim;
    }
    config->vocab_unpadded = config->vocab_size;
    config->vocab_size = (config->vocab_size + multiple - 1) / multiple * multiple;
    config->norm_groups = config->groups;
    config->d_inner = config->heads * config->head_dim;
    config->conv_width = config->d_inner + 2 * config->groups * config->d_state;
    config->proj_width = config->d_inner + config->conv_width + config->heads;
}

static enum status check_together(const char *path, const struct mamba2_config *config) {
    const double width = config->expand * (double)config->hidden_size;
    if (config->d_inner != (int64_t)width || config->heads < 1 || config->heads > 1 << 14) {
        return FAIL(MISMATCH,
                    "%s: %lld heads of %lld are not the width, expand times hidden_size (d_model), "
                    "%.0f",
                    path, (long long)config->heads, (long long)config->head_dim, width);
    }
    if (config->heads % config->groups != 0) {
        return FAIL(MISMATCH, "%s: %lld heads are not a multiple of n_groups (ngroups), %lld", path,
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
    const struct layout *layout = layout_of(text, bytes);
    struct mamba2_config read = *layout->defaults;
    read.groups = 0; // no file may say so
    struct parsing parsing = {
        .path = path, .config = &read, .within = "", .pad_multiple = layout->pad_multiple};
    json_open(&parsing.json, text, bytes);
    parsing.json.infinities = true;
    TRY(config_read_object(&parsing, layout->fields, layout->count));
    if (!json_end(&parsing.json)) return config_malformed(&parsing, NULL);
    if (!parsing.mamba2 && layout->missing != NULL) {
        return FAIL(MISMATCH, "%s: %s", path, layout->missing);
    }
    assume_groups(layout, &parsing, &read);
    complete(layout, &parsing, &read);
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

enum status config_find(const char *dir, struct mamba2_config *config) {
    char path[PATH_BYTES], params[PATH_BYTES];
    struct stat about;
    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path ||
        snprintf(params, sizeof params, "%s/params.json", dir) >= (int)sizeof params) {
        return FAIL(USAGE, "a model folder of over %zu characters: %.64s...", sizeof path, dir);
    }
    const bool mistral_only = lstat(path, &about) != 0 && lstat(params, &about) == 0;
    return config_read(mistral_only ? params : path, config);
}

enum gated_norm gated_norm_of(const char *name) {
    static const char *const names[] = {"auto", "grouped", "whole", "before-gate"};
    int norm = 0;
    while (name != NULL && strcmp(names[norm], name) != 0) {
        norm++;
        CHECK(norm < (int)LENGTH(names));
    }
    return (enum gated_norm)norm;
}

void config_set_gated_norm(struct mamba2_config *config, enum gated_norm norm) {
    if (norm == GATED_NORM_AUTO) return;
    config->norm_before_gate = norm == GATED_NORM_BEFORE_GATE;
    config->norm_groups = norm == GATED_NORM_WHOLE ? 1 : config->groups;
}
