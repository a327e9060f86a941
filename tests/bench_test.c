// What bench says a step needs, against products counted by hand, and its prediction for more ranks.

#include "src/bench.h"

#include "ops/model/random_weights.h"

#include <math.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define TOKENS 32768

static void assert_near(double got, double expected) {
    if (fabs(got - expected) > 0.002 * fabs(expected)) fail_msg("%g, expected %g", got, expected);
}

static void a_370m_step_needs_what_was_counted_by_hand(void **state) {
    struct mamba2_config config;
    struct stage_cost cost[STAGES];
    const struct step_shape shape = {.rows = TOKENS, .chunks = TOKENS / CHUNK_TOKENS};
    (void)state;
    assert_int_equal(shape_config("370m", &config), STATUS_OK);
    bench_cost(&config, &shape, (struct element_bytes){2, 2}, cost);
    assert_near(cost[STAGE_PROJECT].flops, 48 * 294.2e9);
    assert_near(cost[STAGE_PROJECT_BACK].flops, 48 * 137.4e9);
    assert_near(cost[STAGE_HEAD].flops, 3.375e12);
    // states: 17.2; C.B of half of each tile: 0.27; convolution: 0.6
    assert_near(cost[STAGE_PREPARE].flops, 48 * (17.18e9 + 0.268e9 + 0.604e9));
    assert_near(cost[STAGE_SCAN].flops, 48 * (17.18e9 + 4.295e9));
    // residual 134.2 MB, weights 9.0, out 287.3
    assert_near(cost[STAGE_PROJECT].bytes, 48 * (134.2e6 + 8.98e6 + 287.3e6));
    // 33.5 MB of states at 1,024 tokens, once in and once out
    assert_near(cost[STAGE_PASS].bytes, 48 * 2 * 33.55e6);
    // x, B and C 151.0; y 134.2; dt and its sum 8.4; states before chunks
    assert_near(cost[STAGE_SCAN].bytes, 48 * (151.0e6 + 134.2e6 + 8.39e6 + 33.55e6));
    // y and z 268.4, weights 4.2, residual in and out 268.4
    assert_near(cost[STAGE_PROJECT_BACK].bytes, 48 * (268.4e6 + 4.19e6 + 268.4e6));
}

// As on a CPU in bf16: only what is read of weights becomes less.
static void weights_may_be_narrower_than_rows(void **state) {
    struct mamba2_config config;
    struct stage_cost wide[STAGES], narrow[STAGES];
    const struct step_shape shape = {.rows = TOKENS, .chunks = TOKENS / CHUNK_TOKENS};
    (void)state;
    assert_int_equal(shape_config("370m", &config), STATUS_OK);
    bench_cost(&config, &shape, (struct element_bytes){4, 4}, wide);
    bench_cost(&config, &shape, (struct element_bytes){2, 4}, narrow);
    assert_near(wide[STAGE_PROJECT].bytes - narrow[STAGE_PROJECT].bytes, 48 * 8.98e6);
    assert_near(wide[STAGE_PROJECT_BACK].bytes - narrow[STAGE_PROJECT_BACK].bytes, 48 * 4.19e6);
    assert_near(wide[STAGE_HEAD].bytes - narrow[STAGE_HEAD].bytes, 2 * 51.5e6);
    assert_true(wide[STAGE_SCAN].bytes == narrow[STAGE_SCAN].bytes);
    assert_true(narrow[STAGE_SCAN].rest && narrow[STAGE_PREPARE].rest);
    assert_false(narrow[STAGE_PROJECT].rest || narrow[STAGE_HEAD].rest);
}

static void short_documents_have_no_states(void **state) {
    struct mamba2_config config;
    struct stage_cost cost[STAGES];
    const struct step_shape shape = {.rows = TOKENS, .chunks = 40, .starts = 40, .ends = 40};
    (void)state;
    assert_int_equal(shape_config("370m", &config), STATUS_OK);
    bench_cost(&config, &shape, (struct element_bytes){2, 2}, cost);
    assert_true(cost[STAGE_PASS].bytes == 0);
}

static void the_floor_is_the_longer_of_two(void **state) {
    const struct ceilings ceilings = {.copy_bytes = 1e12, .product_flops = 1e15};
    const struct ceilings apart = {.copy_bytes = 1e12, .product_flops = 1e15, .rest_flops = 1e14};
    const struct ceilings none = {0};
    (void)state;
    assert_near(bench_floor(&ceilings, &(struct stage_cost){1e9, 1e9, false}), 1e-3);
    assert_near(bench_floor(&ceilings, &(struct stage_cost){1e9, 5e12, false}), 5e-3);
    assert_near(bench_floor(&ceilings, &(struct stage_cost){1e9, 5e12, true}), 5e-3);
    assert_near(bench_floor(&apart, &(struct stage_cost){1e9, 5e12, false}), 5e-3);
    assert_near(bench_floor(&apart, &(struct stage_cost){1e9, 5e12, true}), 50e-3);
    assert_true(bench_floor(&none, &(struct stage_cost){1e9, 1e12, false}) == 0);
}

// A step of 46 ms, of which 19 us a layer are state passing; one window.
static struct bench_results results_370m(void) {
    struct bench_results results = {.step_tokens = TOKENS, .windows = 1};
    results.model.layers = 48;
    results.one.seconds = 46e-3;
    results.stages.seconds[STAGE_PASS] = 48 * 19e-6;
    return results;
}

static void more_ranks_cost_a_lag_each(void **state) {
    const struct bench_results results = results_370m();
    (void)state;
    const struct bench_guess one = bench_guess(&results, 1, TOKENS * 128, 25e-6);
    assert_int_equal(one.steps, 128);
    assert_near(one.seconds, 128 * 46e-3);
    assert_near(one.efficiency, 1);
    const struct bench_guess eight = bench_guess(&results, 8, TOKENS * 128, 25e-6);
    assert_int_equal(eight.steps, 16);
    assert_near(eight.lag, 44e-6);
    assert_near(eight.seconds, 16 * 46e-3 + 7 * 44e-6);
    assert_false(eight.stalls);
    const struct bench_guess many = bench_guess(&results, 64, TOKENS * 128, 111e-6);
    assert_near(many.lag, 130e-6);
    assert_near(many.speed_up, 128 * 46 / (2 * 46 + 63 * 0.13));
    assert_false(many.stalls);
    // beyond 266 ranks the first waits for a quarter of the last one's layers
    assert_false(bench_guess(&results, 266, TOKENS * 1280, 111e-6).stalls);
    const struct bench_guess stalled = bench_guess(&results, 268, TOKENS * 1280, 111e-6);
    assert_true(stalled.stalls);
    assert_near(stalled.seconds, 4 * (267 * 0.13e-3 + 11.5e-3) + 46e-3 + 267 * 0.13e-3);
}

static void windows_make_the_lag_longer(void **state) {
    struct bench_results results = results_370m();
    (void)state;
    results.windows = 8;
    const struct bench_guess two = bench_guess(&results, 2, TOKENS * 128, 25e-6);
    assert_near(two.lag, 25e-6 + 19e-6 / 8 + 46e-3 / 48 * 7 / 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_370m_step_needs_what_was_counted_by_hand),
        cmocka_unit_test(weights_may_be_narrower_than_rows),
        cmocka_unit_test(short_documents_have_no_states),
        cmocka_unit_test(the_floor_is_the_longer_of_two),
        cmocka_unit_test(more_ranks_cost_a_lag_each),
        cmocka_unit_test(windows_make_the_lag_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
