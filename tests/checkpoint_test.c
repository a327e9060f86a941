// Checkpoints that lie: every safetensors file that must be refused is, by name, and the good
// ones are read to the last bit.

#include "ops/model/safetensors.h"
#include "ops/model/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define CONFIG_HEAD "{\"model_type\":\"mamba2\",\"hidden_size\":8,\"num_hidden_layers\":2,"
#define CONFIG_TAIL \
    "\"state_size\":4,\"head_dim\":4,\"num_heads\":4,\"n_groups\":2,\"vocab_size\":10"
#define CONFIG CONFIG_HEAD CONFIG_TAIL

static enum status parse_config(const char *text, struct mamba2_config *config) {
    return config_parse("config.json", text, strlen(text), config);
}

// A safetensors file in memory: header text, then data.
static char *make_file(const char *header, const void *data, size_t data_bytes, size_t *size) {
    const uint64_t length = strlen(header);
    char *file = malloc(8 + length + data_bytes);
    assert_non_null(file);
    memcpy(file, &length, 8);
    memcpy(file + 8, header, length);
    memcpy(file + 8 + length, data, data_bytes);
    *size = 8 + length + data_bytes;
    return file;
}

static void bad_headers_are_refused(void **state) {
    (void)state;
    // All with 16 bytes of data.
    static const char *const bad[] = {
        "",
        "[]",
        " {\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}x",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,20]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[4,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-16,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,1e1]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967297],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387908],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":32,\"shape\":[4],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}}",
        "{\"a\":{\"shape\":[4],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
        "{\"a\":[]}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[4,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
        "\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
        "{\"a\\u0000\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
    };
    const char data[16] = {0};
    struct tensors parsed;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t size;
        char *file = make_file(bad[i], data, sizeof data, &size);
        if (safetensors_parse("bad", file, size, &parsed) != STATUS_MISMATCH) {
            fail_msg("taken: %s", bad[i]);
        }
        free(file);
    }
}

static void lying_lengths_are_refused(void **state) {
    (void)state;
    const char *header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}";
    static const uint64_t lengths[] = {
        0, 1, 1 << 20, UINT64_MAX, (uint64_t)1 << 63, UINT64_MAX - 7};
    const char data[16] = {0};
    struct tensors parsed;
    size_t size;
    char *file = make_file(header, data, sizeof data, &size);
    assert_int_equal(safetensors_parse("good", file, size, &parsed), STATUS_OK);
    tensors_free(&parsed);
    for (size_t cut = 0; cut < size; cut++) { // from memory without a byte to spare
        char *part = malloc(cut > 0 ? cut : 1);
        assert_non_null(part);
        memcpy(part, file, cut);
        assert_int_equal(safetensors_parse("cut", part, cut, &parsed), STATUS_MISMATCH);
        free(part);
    }
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memcpy(file, &lengths[i], 8);
        assert_int_equal(safetensors_parse("length", file, size, &parsed), STATUS_MISMATCH);
    }
    free(file);
}

static void every_f16_and_bf16_is_exact(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        const int exponent = (bits >> 10) & 0x1F;
        const double mantissa = (double)(bits & 0x3FF);
        const float got = f16_to_f32((uint16_t)bits);
        double size = exponent == 0 ? ldexp(mantissa, -24) : ldexp(mantissa + 1024, exponent - 25);
        if (exponent == 31) size = mantissa > 0 ? (double)NAN : HUGE_VAL;
        const float expected = (float)((bits & 0x8000) != 0 ? -size : size);
        if (isnan(expected)) {
            assert_true(isnan(got));
        } else {
            assert_memory_equal(&got, &expected, sizeof got);
        }
    }
    // Types, a subnormal of each, and data that is not aligned.
    static const uint8_t data[] = {0x01, 0x00, 0x00, 0xBC, 0x01, 0x00, 0x80, 0x3F, 0x07,
                                   1,    0,    0,    0,    0,    0,    0x80, 0x3F};
    const char *header = "{\"h\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
                         "\"b\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[4,8]},"
                         "\"u\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[8,9]},"
                         "\"f\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[9,17]},"
                         "\"x\":{\"dtype\":\"F4_NEW\",\"shape\":[7],\"data_offsets\":[17,17]},"
                         "\"__metadata__\":{\"format\":\"pt\"}}  ";
    struct tensors parsed;
    size_t size;
    float room[2];
    const float *values;
    char *file = make_file(header, data, sizeof data, &size);
    assert_int_equal(safetensors_parse("good", file, size, &parsed), STATUS_OK);
    assert_int_equal(parsed.count, 5);
    tensor_f32(tensors_find(&parsed, "h"), room, &values);
    assert_true(values[0] == 0x1p-24F && values[1] == -1.0F);
    tensor_f32(tensors_find(&parsed, "b"), room, &values);
    assert_true(values[0] == 0x1p-133F && values[1] == 1.0F);
    tensor_f32(tensors_find(&parsed, "f"), room, &values);
    assert_true(values[0] == 0x1p-149F && values[1] == 1.0F);
    assert_true(tensors_find(&parsed, "u")->dtype == DTYPE_OTHER);
    assert_true(tensors_find(&parsed, "x")->dtype == DTYPE_OTHER);
    assert_null(tensors_find(&parsed, "g"));
    tensors_free(&parsed);
    free(file);
}

// A whole tiny model of CONFIG, and the ways to spoil it.
struct spoil {
    const char *tensor; // part of the name; NULL: none is spoilt
    const char *shape;  // another shape of as many elements
    const char *dtype;  // another type of as many bytes
    const char *name;   // another name
    bool missing;       // left out
    float value;        // of its last element, unless 0
    bool untied;
};

struct making {
    char header[8192];
    float data[4096];
    size_t count;
    const struct spoil *spoil;
};

static void add_tensor(struct making *making, const char *name, int64_t a, int64_t b, int64_t c) {
    const struct spoil *spoil = making->spoil;
    const bool spoilt = spoil->tensor != NULL && strstr(name, spoil->tensor) != NULL;
    const int64_t count = a * (b > 0 ? b : 1) * (c > 0 ? c : 1);
    char shape[64], one[512];
    if (spoilt && spoil->missing) return;
    snprintf(shape, sizeof shape,
             c > 0   ? "%d,%d,%d"
             : b > 0 ? "%d,%d"
                     : "%d",
             (int)a, (int)b, (int)c);
    const size_t from = making->count * sizeof(float);
    for (int64_t i = 0; i < count; i++) {
        making->data[making->count++] = 0.25F + (float)(i % 7) * 0.125F;
    }
    if (spoilt && spoil->value != 0) making->data[making->count - 1] = spoil->value;
    snprintf(one, sizeof one, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%d,%d]}",
             making->header[1] == '\0' ? "" : ",", spoilt && spoil->name ? spoil->name : name,
             spoilt && spoil->dtype ? spoil->dtype : "F32",
             spoilt && spoil->shape ? spoil->shape : shape, (int)from,
             (int)(making->count * sizeof(float)));
    assert_true(strlen(making->header) + strlen(one) + 2 < sizeof making->header);
    strcat(making->header, one);
}

static enum status bind(const char *config_text, const struct spoil *spoil,
                        struct mamba2_config *config, struct mamba2_weights *weights, char **file) {
    struct making *making = calloc(1, sizeof *making);
    size_t size;
    assert_non_null(making);
    making->spoil = spoil;
    strcpy(making->header, "{");
    add_tensor(making, "backbone.embeddings.weight", 10, 8, 0);
    for (int layer = 0; layer < 2; layer++) {
        static const struct {
            const char *name;
            int64_t a, b, c;
        } rows[] = {
            {"norm.weight",           8,  0,  0},
            {"mixer.in_proj.weight",  52, 8,  0},
            {"mixer.conv1d.weight",   32, 1,  4},
            {"mixer.conv1d.bias",     32, 0,  0},
            {"mixer.dt_bias",         4,  0,  0},
            {"mixer.A_log",           4,  0,  0},
            {"mixer.D",               4,  0,  0},
            {"mixer.norm.weight",     16, 0,  0},
            {"mixer.out_proj.weight", 8,  16, 0},
        };
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            char name[96];
            snprintf(name, sizeof name, "backbone.layers.%d.%s", layer, rows[i].name);
            add_tensor(making, name, rows[i].a, rows[i].b, rows[i].c);
        }
    }
    add_tensor(making, "backbone.norm_f.weight", 8, 0, 0);
    if (spoil->untied) add_tensor(making, "lm_head.weight", 10, 8, 0);
    strcat(making->header, "}");
    while (strlen(making->header) % 8 != 0) {
        strcat(making->header, " ");
    }
    *file = make_file(making->header, making->data, making->count * sizeof(float), &size);
    free(making);
    assert_int_equal(parse_config(config_text, config), STATUS_OK);
    return weights_parse("model.safetensors", *file, size, config, weights);
}

static uint64_t good_hash(const char *config_text, const struct spoil *spoil, bool tied) {
    struct mamba2_config config;
    struct mamba2_weights weights;
    char *file;
    assert_int_equal(bind(config_text, spoil, &config, &weights, &file), STATUS_OK);
    assert_true(config.tied == tied);
    assert_true((weights.head == weights.embedding) == tied);
    assert_int_equal(weights.layers[1].conv->count, 128);
    assert_int_equal(weights.parameters,
                     80 + 2 * (8 + 416 + 128 + 32 + 12 + 16 + 128) + 8 + (tied ? 0 : 80));
    float a[4];
    weights_a(weights.layers[0].a_log, a);
    assert_true(a[1] == (float)-exp(0.375));
    const uint64_t hash = weights.hash;
    weights_close(&weights);
    free(file);
    return hash;
}

static void good_models_are_bound(void **state) {
    (void)state;
    const struct spoil none = {0}, untied = {.untied = true};
    const struct spoil other = {.tensor = "layers.1.mixer.D", .value = 3};
    const uint64_t hash = good_hash(CONFIG "}", &none, true);
    assert_true(good_hash(CONFIG ",\"tie_word_embeddings\":true}", &none, true) == hash);
    assert_true(good_hash(CONFIG ",\"tie_word_embeddings\":true}", &untied, true) == hash);
    assert_true(good_hash(CONFIG ",\"eos_token_id\":7,\"x\":1}", &none, true) == hash);
    assert_true(good_hash(CONFIG "}", &untied, false) != hash);
    assert_true(good_hash(CONFIG "}", &other, true) != hash);
    assert_true(good_hash(CONFIG ",\"layer_norm_epsilon\":1e-6}", &none, true) != hash);
}

static void spoilt_models_are_refused(void **state) {
    (void)state;
    static const char *const names[] = {"embeddings",    "layers.0.norm", "in_proj",
                                        "conv1d.weight", "conv1d.bias",   "dt_bias",
                                        "A_log",         "mixer.D",       "layers.1.mixer.norm",
                                        "out_proj",      "norm_f"};
    // clang-format off
    struct spoil spoils[64] = {
        {.tensor = "in_proj", .shape = "8,52"},
        {.tensor = "conv1d.weight", .shape = "32,4"},
        {.tensor = "conv1d.weight", .shape = "32,4,1"},
        {.tensor = "mixer.D", .shape = "4,1"},
        {.tensor = "embeddings", .shape = "80"},
        {.tensor = "norm_f", .dtype = "I32"},
        {.tensor = "layers.1.mixer.A_log", .value = 90},
        {.tensor = "layers.1.norm", .name = "backbone.layers.2.norm.weight"},
        {.tensor = "layers.1.norm", .name = "backbone.layers.01.norm.weight"},
        {.tensor = "lm_head", .name = "lm_head.bias", .untied = true},
        {.tensor = "lm_head", .shape = "8,10", .untied = true},
    };
    // clang-format on
    size_t count = 0;
    while (spoils[count].tensor != NULL) {
        count++;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        spoils[count++] = (struct spoil){.tensor = names[i], .missing = true};
        spoils[count++] = (struct spoil){.tensor = names[i], .value = NAN};
        spoils[count++] = (struct spoil){.tensor = names[i], .value = -INFINITY};
    }
    for (size_t i = 0; i < count; i++) {
        struct mamba2_config config;
        struct mamba2_weights weights;
        char *file;
        if (bind(CONFIG "}", &spoils[i], &config, &weights, &file) != STATUS_MISMATCH) {
            fail_msg("taken: case %zu, %s", i, spoils[i].tensor);
        }
        free(file);
    }
}

static void config_and_file_must_agree(void **state) {
    (void)state;
    static const char *const texts[] = {
        CONFIG ",\"tie_word_embeddings\":false}", // but there is no head
        CONFIG ",\"use_conv_bias\":false}",       // but there are biases
        CONFIG ",\"use_bias\":true}",             // but there are none
        CONFIG ",\"num_hidden_layers\":1}",       // but there are two
        CONFIG ",\"num_hidden_layers\":3}",
        CONFIG ",\"vocab_size\":11}",
        CONFIG ",\"state_size\":8}",
        CONFIG ",\"conv_kernel\":3}",
    };
    const struct spoil none = {0};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct mamba2_config config;
        struct mamba2_weights weights;
        char *file;
        if (bind(texts[i], &none, &config, &weights, &file) != STATUS_MISMATCH) {
            fail_msg("taken: %s", texts[i]);
        }
        free(file);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_headers_are_refused),     cmocka_unit_test(lying_lengths_are_refused),
        cmocka_unit_test(every_f16_and_bf16_is_exact), cmocka_unit_test(good_models_are_bound),
        cmocka_unit_test(spoilt_models_are_refused),   cmocka_unit_test(config_and_file_must_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
