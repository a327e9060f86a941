// The float64 oracle against the golden results, which two public implementations agree with. It
// must be right to the last digits: everything else is tested against it.
#include "ops/ref/oracle.h"

#include "ops/base/json.h"
#include "ops/model/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

// Both are float64 and differ in the order of their sums only: 2e-16 an operation, some thousand
// operations a token. Measured: 4e-14 of max(1, nll), so what passes is no other formula.
#define NLL_TOLERANCE 1e-11
// One head's root mean square: the same, relative.
#define STATE_TOLERANCE 1e-10

#define LAYERS_MOST 8

static void path_to(char *path, size_t room, const char *name) {
    const char *shared = getenv("LONGSCAN_SHARED");
    const char *base = shared == NULL ? TESTS_FOLDER "/../../shared" : shared;
    const int length = snprintf(path, room, "%s/%s", base, name);
    assert_true(length > 0 && (size_t)length < room);
}

// Owns: the caller frees it.
static char *read_text(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    const long size = ftell(file);
    assert_true(size > 0);
    rewind(file);
    char *text = malloc((size_t)size);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)size, file), size);
    fclose(file);
    *bytes = (size_t)size;
    return text;
}

struct golden {
    int32_t *token;
    double *nll; // [tokens - 1]
    int64_t tokens, nlls;
    double state_rms[LAYERS_MOST * 64]; // layer by layer
    int64_t states;
};

static void read_numbers(struct json *json, double *numbers, int64_t *count) {
    assert_true(json_array(json));
    while (json_item(json)) {
        assert_true(json_number(json, &numbers[(*count)++]));
    }
}

static void read_golden(const char *path, struct golden *golden) {
    size_t bytes = 0;
    char *text = read_text(path, &bytes);
    struct json json;
    const char *key = NULL, *raw = NULL;
    size_t key_bytes = 0, raw_bytes = 0;
    *golden = (struct golden){
        // No list has more items than the text has characters.
        .token = calloc(bytes, sizeof(int32_t)),
        .nll = calloc(bytes, sizeof(double)),
    };
    assert_non_null(golden->token);
    assert_non_null(golden->nll);
    json_open(&json, text, bytes);
    assert_true(json_object(&json));
    while (json_key(&json, &key, &key_bytes)) {
        if (json_is(key, key_bytes, "tokens")) {
            assert_true(json_array(&json));
            while (json_item(&json)) {
                int64_t token = 0;
                assert_true(json_int(&json, &token));
                golden->token[golden->tokens++] = (int32_t)token;
            }
        } else if (json_is(key, key_bytes, "text")) {
            assert_true(json_string(&json, &raw, &raw_bytes));
            char *plain = malloc(raw_bytes + 1);
            assert_non_null(plain);
            golden->tokens = (int64_t)json_unescape(raw, raw_bytes, plain);
            for (int64_t i = 0; i < golden->tokens; i++) {
                golden->token[i] = (unsigned char)plain[i];
            }
            free(plain);
        } else if (json_is(key, key_bytes, "token_nll")) {
            read_numbers(&json, golden->nll, &golden->nlls);
        } else if (json_is(key, key_bytes, "state_rms")) {
            assert_true(json_array(&json));
            while (json_item(&json)) {
                read_numbers(&json, golden->state_rms, &golden->states);
            }
        } else {
            assert_true(json_skip(&json));
        }
    }
    assert_true(json_end(&json));
    assert_int_equal(golden->nlls, golden->tokens - 1);
    free(text);
}

// The file's weights as the oracle takes them: these files are f32, so nothing is converted.
static const float *plain(const struct tensor *tensor) {
    const float *values = NULL;
    if (tensor == NULL) return NULL;
    assert_false(tensor_needs_room(tensor));
    tensor_f32(tensor, NULL, &values);
    return values;
}

static struct oracle_weights oracle_weights_of(const struct mamba2_config *config,
                                               const struct mamba2_weights *weights,
                                               struct oracle_layer *layers) {
    assert_true(config->layers <= LAYERS_MOST);
    for (int64_t l = 0; l < config->layers; l++) {
        const struct mamba2_layer_weights *from = &weights->layers[l];
        layers[l] = (struct oracle_layer){
            .norm = plain(from->norm),
            .in_proj = plain(from->in_proj),
            .in_proj_bias = plain(from->in_bias),
            .conv = plain(from->conv),
            .conv_bias = plain(from->conv_bias),
            .dt_bias = plain(from->dt_bias),
            .a_log = plain(from->a_log),
            .d = plain(from->d),
            .gate_norm = plain(from->gate_norm),
            .out_proj = plain(from->out_proj),
            .out_proj_bias = plain(from->out_bias),
        };
    }
    return (struct oracle_weights){
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
        .embedding = plain(weights->embedding),
        .head = plain(weights->head),
        .final_norm = plain(weights->norm),
        .layer = layers,
    };
}

static void check_states(const struct oracle *oracle, const struct oracle_weights *weights,
                         const struct golden *golden) {
    const int64_t size = weights->d_state * weights->head_dim;
    assert_int_equal(golden->states, weights->layers * weights->heads);
    for (int64_t i = 0; i < golden->states; i++) {
        const double *state = oracle_state(oracle, i / weights->heads) + i % weights->heads * size;
        double sum = 0.0;
        for (int64_t k = 0; k < size; k++) {
            sum += state[k] * state[k];
        }
        const double rms = sqrt(sum / (double)size);
        assert_true(fabs(rms - golden->state_rms[i]) <= STATE_TOLERANCE * golden->state_rms[i]);
    }
}

static void check_case(const char *model, const char *name) {
    char dir[1024], path[1024];
    struct mamba2_config config;
    struct mamba2_weights loaded = {0};
    struct oracle_layer layers[LAYERS_MOST];
    struct golden golden;
    struct oracle *oracle = NULL;
    path_to(dir, sizeof dir, model);
    path_to(path, sizeof path, name);
    if (access(dir, R_OK) != 0 || access(path, R_OK) != 0) {
        print_message("no %s\n", path);
        skip();
    }
    read_golden(path, &golden);
    assert_true(snprintf(path, sizeof path, "%s/config.json", dir) < (int)sizeof path);
    assert_int_equal(config_read(path, &config), STATUS_OK);
    assert_int_equal(weights_open(dir, &config, &loaded), STATUS_OK);
    const struct oracle_weights weights = oracle_weights_of(&config, &loaded, layers);

    double worst = 0.0;
    assert_int_equal(oracle_open(&weights, &oracle), STATUS_OK);
    for (int64_t i = 0; i < golden.tokens; i++) {
        const double *logits = oracle_step(oracle, golden.token[i]);
        if (i == golden.nlls) break; // the last token's own prediction is not in the file
        const double nll = oracle_nll(logits, weights.vocab, golden.token[i + 1]);
        worst = fmax(worst, fabs(nll - golden.nll[i]) / fmax(1.0, golden.nll[i]));
    }
    print_message("%s: worst error %.1e\n", name, worst);
    assert_true(worst <= NLL_TOLERANCE);
    check_states(oracle, &weights, &golden);

    double first[8];
    const int64_t few = 9; // oracle_score is the same walk
    assert_int_equal(oracle_score(&weights, golden.token, few, first), STATUS_OK);
    for (int64_t i = 0; i < few - 1; i++) {
        assert_true(fabs(first[i] - golden.nll[i]) <= NLL_TOLERANCE * fmax(1.0, golden.nll[i]));
    }
    oracle_close(oracle);
    weights_close(&loaded);
    free(golden.token);
    free(golden.nll);
}

static void tiny_groups(void **state) {
    (void)state;
    check_case("golden/tiny-groups", "golden/tiny-groups/golden.json");
}

static void tiny_state128(void **state) {
    (void)state;
    check_case("golden/tiny-state128", "golden/tiny-state128/golden.json");
}

static void tiny_untied(void **state) {
    (void)state;
    check_case("golden/tiny-untied", "golden/tiny-untied/golden.json");
}

static void passkey_prompt(void **state) {
    (void)state;
    check_case("models/passkey-1.8m", "golden/passkey-1.8m/passkey.json");
}

static void passkey_text(void **state) {
    (void)state;
    check_case("models/passkey-1.8m", "golden/passkey-1.8m/text.json");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_groups),  cmocka_unit_test(tiny_state128),
        cmocka_unit_test(tiny_untied),  cmocka_unit_test(passkey_prompt),
        cmocka_unit_test(passkey_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
