// The judge of `longscan verify` has to find what is wrong: a right backend passes, and each way of
// being wrong fails the check that is there for it.

#include "src/verify.h"

#include "ops/cpu/cpu_backend.h"
#include "ops/model/random_weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define TOKENS 2200

static const char config_text[] =
    "{\"model_type\":\"mamba2\",\"hidden_size\":32,\"num_hidden_layers\":4,\"state_size\":16,"
    "\"head_dim\":16,\"num_heads\":4,\"expand\":2,\"n_groups\":1,\"vocab_size\":64,"
    "\"tie_word_embeddings\":true,\"bos_token_id\":0,\"eos_token_id\":0,\"pad_token_id\":0}";

struct world {
    struct backend *backend;
    struct mamba2_config config;
    struct mamba2_weights weights;
    int32_t token[TOKENS];
};

static const struct backend_table *plain;

static int open_world(void **state) {
    // a window as large as a step, so that states pass between steps only
    const struct cpu_backend_settings cpu = {.threads = 1, .window_tokens = 4096};
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    assert_int_equal(cpu_backend_open(&cpu, &world->backend), STATUS_OK);
    assert_int_equal(config_parse("config", config_text, strlen(config_text), &world->config),
                     STATUS_OK);
    assert_int_equal(weights_random(&world->config, 7, &world->weights), STATUS_OK);
    for (int i = 0; i < TOKENS; i++) {
        world->token[i] = i * 37 % 61;
    }
    plain = world->backend->table;
    *state = world;
    return 0;
}

static int close_world(void **state) {
    struct world *world = *state;
    weights_close(&world->weights);
    world->backend->table->close(world->backend);
    free(world);
    return 0;
}

// With `table` in place of the backend's own while the judge is at work.
static struct verify_report judged_as(struct world *world, const struct backend_table *table,
                                      const char *dtype) {
    struct verify_report report;
    struct verify_subject subject = {.backend = world->backend,
                                     .config = &world->config,
                                     .weights = &world->weights,
                                     .name = "small",
                                     .token = world->token,
                                     .tokens = TOKENS,
                                     .seed = 1,
                                     .oracle_work = 1e9};
    assert_int_equal(verify_tolerance_of(dtype, &subject.tolerance), STATUS_OK);
    world->backend->table = table;
    assert_int_equal(verify_model(&subject, &report), STATUS_OK);
    world->backend->table = plain;
    return report;
}

static struct verify_report judged(struct world *world, const struct backend_table *table) {
    return judged_as(world, table, "f32");
}

static bool passed(const struct verify_report *report, const char *name) {
    for (int i = 0; i < report->count; i++) {
        if (strcmp(report->check[i].name, name) == 0) return report->check[i].passed;
    }
    fail_msg("there is no check %s", name);
    return false;
}

static void assert_found(struct world *world, const struct backend_table *table,
                         const char *check) {
    const struct verify_report report = judged(world, table);
    assert_false(report.passed);
    assert_false(passed(&report, check));
}

static void a_right_backend_passes(void **state) {
    const struct verify_report report = judged(*state, plain);
    assert_int_equal(report.count, 5);
    for (int i = 0; i < report.count; i++) {
        assert_true(report.check[i].passed);
    }
    assert_true(report.passed);
    assert_int_equal(report.check[0].tokens, TOKENS);
    assert_true(report.check[0].most > 0 && report.check[0].state > 0); // it has compared something
}

// A thousandth too much of every product: like one that sums in too few digits.
static enum status linear_rough(struct backend *backend, const struct linear_args *args) {
    TRY(plain->linear(backend, args));
    for (int64_t row = 0; row < args->out.rows && !args->add; row++) {
        for (int64_t i = 0; i < args->out.columns; i++) {
            args->out.data[row * args->out.stride + i] *= 1.001F;
        }
    }
    return STATUS_OK;
}

static void wrong_numbers_are_found(void **state) {
    struct backend_table table = *plain;
    table.linear = linear_rough;
    const struct verify_report report = judged(*state, &table);
    assert_false(report.passed);
    assert_false(passed(&report, "float64"));
    assert_true(passed(&report, "cuts")); // wrong everywhere alike
}

static float to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// What a product in bf16 does to its inputs, more or less.
static enum status linear_bf16(struct backend *backend, const struct linear_args *args) {
    for (int64_t row = 0; row < args->in.rows; row++) {
        for (int64_t i = 0; i < args->in.columns; i++) {
            float *value = &args->in.data[row * args->in.stride + i];
            *value = to_bf16(*value);
        }
    }
    return plain->linear(backend, args);
}

static enum status linear_bf16_and_rough(struct backend *backend, const struct linear_args *args) {
    const enum status status = linear_bf16(backend, args);
    for (int64_t row = 0; row < args->out.rows && !args->add; row++) {
        args->out.data[row * args->out.stride + args->out.columns / 2] *= 0.5F; // one of 164
    }
    return status;
}

static void a_dtype_is_judged_by_its_own_measure(void **state) {
    struct backend_table table = *plain;
    table.linear = linear_bf16;
    const struct verify_report narrow = judged_as(*state, &table, "bf16");
    assert_true(narrow.passed);
    const struct verify_report wide = judged_as(*state, &table, "f32");
    assert_false(passed(&wide, "float64"));
    assert_true(passed(&wide, "cuts"));
    table.linear = linear_bf16_and_rough;
    const struct verify_report rough = judged_as(*state, &table, "bf16");
    assert_false(passed(&rough, "float64"));
}

// The last bit of a product depends on the row's place in the call, as with a library that takes
// another kernel for the rows that are left over.
static enum status linear_by_place(struct backend *backend, const struct linear_args *args) {
    TRY(plain->linear(backend, args));
    for (int64_t row = args->out.rows / 16 * 16; row < args->out.rows; row++) {
        float *first = &args->out.data[row * args->out.stride];
        *first = nextafterf(*first, 2 * *first);
    }
    return STATUS_OK;
}

static void bits_that_depend_on_the_place_are_found(void **state) {
    struct backend_table table = *plain;
    table.linear = linear_by_place;
    const struct verify_report report = judged(*state, &table);
    assert_false(report.passed);
    assert_true(passed(&report, "float64")); // a last bit is no error
    assert_false(passed(&report, "neighbours"));
    assert_false(passed(&report, "places"));
}

// A document that goes on is scored as if it began anew.
static enum status passing_without_past(struct backend *backend, const struct scan_args *args) {
    struct scan_args other = *args;
    struct scan_span *span = calloc((size_t)args->batch.spans, sizeof *span);
    assert_non_null(span);
    memcpy(span, args->batch.span, (size_t)args->batch.spans * sizeof *span);
    for (int64_t i = 0; i < args->batch.spans; i++) {
        if (span[i].state_in != NULL && args->batch.layer == 2) span[i].state_in = NULL;
    }
    other.batch.span = span;
    const enum status status = plain->state_passing(backend, &other);
    free(span);
    return status;
}

static void a_lost_state_is_found(void **state) {
    struct backend_table table = *plain;
    table.state_passing = passing_without_past;
    assert_found(*state, &table, "cuts");
}

// One NLL in a thousand is no number.
static enum status head_with_nan(struct backend *backend, const struct head_args *args) {
    TRY(plain->head(backend, args));
    if (args->in.rows > 100) args->nll[100] = NAN;
    return STATUS_OK;
}

static void nan_is_no_small_error(void **state) {
    struct backend_table table = *plain;
    table.head = head_with_nan;
    assert_found(*state, &table, "float64");
}

// The state that is kept differs from the one that was scored with.
static enum status tail_forgotten(struct backend *backend, const struct conv_args *args) {
    (void)backend;
    (void)args;
    return STATUS_OK;
}

static void a_tail_that_is_not_kept_is_found(void **state) {
    struct backend_table table = *plain;
    table.conv_tail = tail_forgotten;
    assert_found(*state, &table, "cuts");
}

// Large models: few tokens with all layers, and some layers with more tokens.
static void a_large_model_is_judged_in_part(void **state) {
    struct world *world = *state;
    struct verify_report report;
    struct verify_subject subject = {.backend = world->backend,
                                     .config = &world->config,
                                     .weights = &world->weights,
                                     .name = "small",
                                     .token = world->token,
                                     .tokens = TOKENS,
                                     .oracle_work = 4e6};
    assert_int_equal(verify_tolerance_of("f32", &subject.tolerance), STATUS_OK);
    assert_int_equal(verify_model(&subject, &report), STATUS_OK);
    assert_true(report.passed);
    assert_int_equal(report.check[0].layers, 4);
    assert_int_equal(report.check[report.count - 1].layers, 3);
    assert_string_equal(report.check[report.count - 1].name, "float64");
    assert_true(report.check[report.count - 1].tokens > report.check[0].tokens);
    assert_true(report.check[0].tokens < 200);
}

// So large that not even four tokens are for all layers, on a backend where bits are compared anyway.
static void a_huge_model_is_compared_too(void **state) {
    struct world *world = *state;
    struct verify_report report;
    struct verify_subject subject = {.backend = world->backend,
                                     .config = &world->config,
                                     .weights = &world->weights,
                                     .name = "small",
                                     .token = world->token,
                                     .tokens = TOKENS,
                                     .oracle_work = 1e3};
    struct backend_table table = *plain;
    table.linear = linear_rough;
    assert_int_equal(verify_tolerance_of("f32", &subject.tolerance), STATUS_OK);
    world->backend->table = &table;
    const enum status status = verify_model(&subject, &report);
    world->backend->table = plain;
    assert_int_equal(status, STATUS_OK);
    assert_false(passed(&report, "float64"));
    assert_false(report.passed);
}

static void random_weights_are_the_same_again(void **state) {
    struct world *world = *state;
    struct mamba2_weights again, other;
    assert_int_equal(weights_random(&world->config, 7, &again), STATUS_OK);
    assert_int_equal(weights_random(&world->config, 8, &other), STATUS_OK);
    assert_int_equal(again.hash, world->weights.hash);
    assert_int_not_equal(other.hash, again.hash);
    const struct tensor *mine = world->weights.layers[2].in_proj;
    assert_memory_equal(again.layers[2].in_proj->data, mine->data, mine->bytes);
    assert_memory_not_equal(other.layers[2].in_proj->data, mine->data, mine->bytes);
    assert_memory_not_equal(world->weights.layers[1].in_proj->data, mine->data, mine->bytes);
    weights_close(&again);
    weights_close(&other);
}

static double deviation(const struct tensor *tensor, double *most) {
    const float *value = (const float *)(const void *)tensor->data;
    double sum = 0;
    *most = 0;
    for (int64_t i = 0; i < tensor->count; i++) {
        sum += (double)value[i] * (double)value[i];
        if (fabs((double)value[i]) > *most) *most = fabs((double)value[i]);
    }
    return sqrt(sum / (double)tensor->count);
}

static void official_shapes_have_official_weights(void **state) {
    struct mamba2_config config;
    struct mamba2_weights weights;
    double most;
    (void)state;
    assert_int_equal(shape_config("none", &config), STATUS_USAGE);
    assert_int_equal(shape_config("2.7b", &config), STATUS_OK);
    assert_int_equal(config.heads, 80);
    assert_int_equal(config.proj_width, 10576);
    assert_int_equal(shape_config("130m", &config), STATUS_OK);
    assert_int_equal(config.proj_width, 3352);
    assert_int_equal(weights_random(&config, 1, &weights), STATUS_OK);
    assert_int_equal(weights.parameters, 128989632); // as published for mamba2-130m
    assert_true(fabs(deviation(weights.embedding, &most) - 0.02) < 1e-4);
    assert_true(fabs(deviation(weights.layers[23].in_proj, &most) - 1 / sqrt(3 * 768.0)) < 1e-4);
    assert_true(most <= 1 / sqrt(768.0));
    assert_true(fabs(deviation(weights.layers[0].out_proj, &most) - 1 / sqrt(3 * 1536.0 * 24)) <
                1e-5);
    for (int head = 0; head < 24; head++) {
        const float a = ((const float *)(const void *)weights.layers[23].a_log->data)[head];
        const float dt = ((const float *)(const void *)weights.layers[23].dt_bias->data)[head];
        assert_true(a >= 0 && (double)a <= log(16));
        assert_true(log1p(exp((double)dt)) > 0.00099 && log1p(exp((double)dt)) < 0.101);
    }
    weights_close(&weights);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_backend_passes),
        cmocka_unit_test(wrong_numbers_are_found),
        cmocka_unit_test(a_dtype_is_judged_by_its_own_measure),
        cmocka_unit_test(bits_that_depend_on_the_place_are_found),
        cmocka_unit_test(a_lost_state_is_found),
        cmocka_unit_test(nan_is_no_small_error),
        cmocka_unit_test(a_tail_that_is_not_kept_is_found),
        cmocka_unit_test(a_large_model_is_judged_in_part),
        cmocka_unit_test(a_huge_model_is_compared_too),
        cmocka_unit_test(random_weights_are_the_same_again),
        cmocka_unit_test(official_shapes_have_official_weights),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
