// The convolution and the scan of the CPU backend against the references in double: each stage by
// its formula, and all of them together against the recurrence token by token.

#include "ops/ref/ref.h"
#include "tests/scan_case.h"

#include <stdio.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

// Errors are the largest difference over the largest value of the reference. A rounding is 6e-8.
#define CONV_TOLERANCE   6e-7 // some roundings, and exp in SiLU
#define CUMSUM_TOLERANCE 2e-6 // up to 64 additions, each half an ulp of the sum so far
#define CHAIN_TOLERANCE  2e-6 // chains of up to 256 roundings of random sign: 16 x 6e-8, twice
#define PASS_TOLERANCE   2e-6 // up to 33 tiles, two roundings each, the older ones decayed
// exp(s_i - s_j) from sums s of up to -100, whose last bit is worth 8e-6; and those before.
#define SCAN_TOLERANCE 2e-5
// The whole in the 2-norm, where few numbers have such decays.
#define NORM_TOLERANCE 3e-6

struct error {
    double most, most_of, square, square_of;
};

static void error_add(struct error *error, double got, double expected) {
    const double difference = got - expected;
    // A NaN on either side is the largest error there is.
    const double size = isnan(difference) ? (double)INFINITY : fabs(difference);
    error->most = fmax(error->most, size);
    error->most_of = fmax(error->most_of, fabs(expected));
    error->square += difference * difference;
    error->square_of += expected * expected;
}

static void error_check(const struct error *error, const char *what, double tolerance) {
    const double found = error->most / error->most_of;
    if (!(found <= tolerance)) fail_msg("%s: error %.2e, at most %.2e", what, found, tolerance);
}

static void norm_check(const struct error *error, const char *what, double tolerance) {
    const double found = sqrt(error->square / error->square_of);
    if (!(found <= tolerance)) fail_msg("%s: error %.2e, at most %.2e", what, found, tolerance);
}

static void matrix_check(const struct matrix *got, const struct matrix *expected, const char *what,
                         double tolerance) {
    struct error error = {0};
    for (int64_t r = 0; r < expected->rows; r++) {
        for (int64_t k = 0; k < expected->columns; k++) {
            error_add(&error, (double)got->data[r * got->stride + k],
                      (double)expected->data[r * expected->stride + k]);
        }
    }
    error_check(&error, what, tolerance);
}

static struct matrix matrix_like(const struct matrix *m) {
    return case_matrix(m->rows, m->columns, 0);
}

static struct backend *open_backend(const char *isa, int64_t threads) {
    const struct cpu_backend_settings settings = {.threads = threads, .isa = isa};
    struct backend *backend = NULL;
    assert_int_equal(cpu_backend_open(&settings, &backend), STATUS_OK);
    return backend;
}

// ---- the convolution

static void check_conv(struct backend *backend, const struct scan_case *c) {
    const struct conv_args args = case_conv_args(c);
    struct conv_args expected = args;
    expected.out = matrix_like(&args.out);
    ref_causal_conv(&expected);
    assert_int_equal(backend->table->causal_conv(backend, &args), STATUS_OK);
    matrix_check(&args.out, &expected.out, "causal_conv", CONV_TOLERANCE);
    free(expected.out.data);

    // A copy of numbers, so equal to the bit.
    const size_t tail = (size_t)((c->d_conv - 1) * c->conv_width) * sizeof(float);
    const size_t ssm = (size_t)c->batch.conv_offset;
    char *kept[CASE_PIECES] = {0};
    ref_conv_tail(&args);
    for (int64_t s = 0; s < c->batch.spans; s++) {
        char *out = c->span[s].state_out;
        if (out == NULL) continue;
        kept[s] = malloc(tail + 1);
        assert_non_null(kept[s]);
        memcpy(kept[s], out + ssm, tail);
        memset(out + ssm, 0xff, tail);
    }
    assert_int_equal(backend->table->conv_tail(backend, &args), STATUS_OK);
    for (int64_t s = 0; s < c->batch.spans; s++) {
        if (kept[s] == NULL) continue;
        assert_memory_equal(c->span[s].state_out + ssm, kept[s], tail);
        free(kept[s]);
    }
}

// ---- the stages, each after the CPU's own results of the stages before

static void check_cb(const struct scan_case *c, const struct scan_args *args) {
    struct scan_args expected = *args;
    struct error error = {0};
    const int64_t q = CPU_TILE_TOKENS;
    expected.cb = case_floats(c->batch.tiles * c->shape.groups * q * q);
    ref_chunk_cb(&expected, q);
    for (int64_t k = 0; k < c->batch.tiles * c->shape.groups; k++) {
        for (int64_t i = 0; i < c->tile[k / c->shape.groups].rows; i++) {
            for (int64_t j = 0; j <= i; j++) {
                error_add(&error, (double)args->cb[(k * q + i) * q + j],
                          (double)expected.cb[(k * q + i) * q + j]);
            }
        }
    }
    error_check(&error, "chunk_cb", CHAIN_TOLERANCE);
    free(expected.cb);
}

// Tile by tile, where the number is defined: see cpu_scan.c.
static void check_tiles(const struct scan_case *c, const float *got, const float *expected,
                        bool passed, const char *what, double tolerance) {
    struct error error = {0};
    for (int64_t t = 0; t < c->batch.tiles; t++) {
        const struct scan_span *span = &c->span[c->tile[t].span];
        const bool unseen =
            passed ? span->state_in == NULL && t == span->first_tile
                   : span->state_out == NULL && t == span->first_tile + span->tiles - 1;
        for (int64_t i = t * c->state_floats; !unseen && i < (t + 1) * c->state_floats; i++) {
            error_add(&error, (double)got[i], (double)expected[i]);
        }
    }
    if (error.most_of > 0.0) error_check(&error, what, tolerance);
}

static void check_passing(struct backend *backend, const struct scan_case *c,
                          const struct scan_args *args) {
    const size_t bytes = (size_t)(c->batch.tiles * c->state_floats) * sizeof(float);
    struct scan_args expected = *args;
    struct error error = {0};
    float *out[CASE_PIECES] = {0};
    expected.states = case_floats(c->batch.tiles * c->state_floats);
    memcpy(expected.states, args->states, bytes);
    ref_state_passing(&expected);
    for (int64_t s = 0; s < c->batch.spans; s++) {
        if (c->span[s].state_out == NULL) continue;
        out[s] = case_floats(c->state_floats);
        memcpy(out[s], c->span[s].state_out, (size_t)c->state_floats * sizeof(float));
        memset(c->span[s].state_out, 0xff, (size_t)c->state_floats * sizeof(float));
    }
    assert_int_equal(backend->table->state_passing(backend, args), STATUS_OK);
    check_tiles(c, args->states, expected.states, true, "state_passing", PASS_TOLERANCE);
    for (int64_t s = 0; s < c->batch.spans; s++) {
        const float *got = (const float *)(const void *)c->span[s].state_out;
        for (int64_t i = 0; out[s] != NULL && i < c->state_floats; i++) {
            error_add(&error, (double)got[i], (double)out[s][i]);
        }
        free(out[s]);
    }
    if (error.most_of > 0.0) error_check(&error, "state_out", PASS_TOLERANCE);
    free(expected.states);
}

static void check_scan(struct backend *backend, const struct scan_case *c,
                       const struct scan_args *args) {
    struct scan_args expected = *args;
    expected.y = matrix_like(&args->y);
    expected.states = case_floats(c->batch.tiles * c->state_floats);
    memcpy(expected.states, args->states,
           (size_t)(c->batch.tiles * c->state_floats) * sizeof(float));
    for (int64_t s = 0; s < c->batch.spans; s++) {
        if (c->span[s].state_in != NULL) continue;
        float *first = expected.states + c->span[s].first_tile * c->state_floats;
        memset(first, 0, (size_t)c->state_floats * sizeof(float));
    }
    ref_chunk_scan(&expected, CPU_TILE_TOKENS);
    assert_int_equal(backend->table->chunk_scan(backend, args), STATUS_OK);
    matrix_check(&args->y, &expected.y, "chunk_scan", SCAN_TOLERANCE);
    free(expected.y.data);
    free(expected.states);
}

static void check_stages(struct backend *backend, const struct scan_case *c) {
    const struct scan_args args = case_scan_args(c);
    struct scan_args expected = args;
    expected.cumsum = matrix_like(&args.cumsum);
    ref_chunk_cumsum(&expected);
    assert_int_equal(backend->table->chunk_cumsum(backend, &args), STATUS_OK);
    matrix_check(&args.cumsum, &expected.cumsum, "chunk_cumsum", CUMSUM_TOLERANCE);
    free(expected.cumsum.data);

    assert_int_equal(backend->table->chunk_cb(backend, &args), STATUS_OK);
    check_cb(c, &args);

    expected = args;
    expected.states = case_floats(c->batch.tiles * c->state_floats);
    ref_chunk_state(&expected);
    assert_int_equal(backend->table->chunk_state(backend, &args), STATUS_OK);
    check_tiles(c, args.states, expected.states, false, "chunk_state", SCAN_TOLERANCE);
    free(expected.states);

    check_passing(backend, c, &args);
    check_scan(backend, c, &args);
}

// After check_stages: y and the states out against the recurrence.
static void check_whole(const struct scan_case *c) {
    struct scan_args expected = case_scan_args(c);
    struct scan_span span[CASE_PIECES];
    struct error error = {0}, state_error = {0};
    memcpy(span, c->span, sizeof span);
    for (int64_t s = 0; s < c->batch.spans; s++) {
        if (span[s].state_out != NULL) span[s].state_out = (char *)case_floats(c->state_floats);
    }
    expected.batch.span = span;
    expected.y = matrix_like(&c->y);
    assert_int_equal(ref_scan(&expected), STATUS_OK);
    matrix_check(&c->y, &expected.y, "y", SCAN_TOLERANCE);
    for (int64_t r = 0; r < c->batch.rows; r++) {
        for (int64_t k = 0; k < c->d_inner; k++) {
            error_add(&error, (double)c->y.data[r * c->y.stride + k],
                      (double)expected.y.data[r * expected.y.stride + k]);
        }
    }
    norm_check(&error, "y, 2-norm", NORM_TOLERANCE);
    for (int64_t s = 0; s < c->batch.spans; s++) {
        const float *got = (const float *)(const void *)c->span[s].state_out;
        const float *right = (const float *)(const void *)span[s].state_out;
        for (int64_t i = 0; got != NULL && i < c->state_floats; i++) {
            error_add(&state_error, (double)got[i], (double)right[i]);
        }
        free(span[s].state_out);
    }
    if (state_error.most_of > 0.0) norm_check(&state_error, "state, 2-norm", NORM_TOLERANCE);
    free(expected.y.data);
}

// Spans of the given lengths; of every four, one has a state in, one a state out, one has both.
static void check_case(struct scan_shape shape, int64_t d_conv, const int64_t *length,
                       int64_t count, bool bias) {
    struct piece pieces[CASE_PIECES];
    struct scan_case c;
    struct backend *backend = open_backend(NULL, 2);
    for (int64_t s = 0; s < count; s++) {
        char *in = s % 4 == 1 || s % 4 == 3 ? case_state(&shape, d_conv, (uint64_t)s + 100) : NULL;
        char *out = s % 4 == 2 || s % 4 == 3 ? case_state(&shape, d_conv, 0) : NULL;
        pieces[s] = (struct piece){(uint64_t)s + 7, 0, length[s], in, out};
    }
    case_open(&c, shape, d_conv, pieces, count, 1.0f);
    if (!bias) {
        free(c.bias);
        c.bias = NULL;
    }
    check_conv(backend, &c);
    check_stages(backend, &c);
    check_whole(&c);
    for (int64_t s = 0; s < count; s++) {
        free((void *)(uintptr_t)c.span[s].state_in);
        free(c.span[s].state_out);
    }
    case_close(&c);
    backend->table->close(backend);
}

static const int64_t ragged[] = {1, 2, 3, 63, 64, 65, 300, 256, 1, 2, 3, 197};
#define RAGGED (int64_t)(sizeof ragged / sizeof *ragged)

static void grouped(void **state) {
    (void)state;
    check_case((struct scan_shape){8, 16, 16, 2}, 4, ragged, RAGGED, true);
}

static void one_head(void **state) {
    (void)state;
    check_case((struct scan_shape){1, 64, 128, 1}, 4, ragged, RAGGED, true);
}

static void head_dim_32(void **state) {
    (void)state;
    check_case((struct scan_shape){3, 32, 32, 1}, 4, ragged, RAGGED, true);
}

static void odd_sizes(void **state) {
    (void)state;
    check_case((struct scan_shape){3, 21, 19, 3}, 4, ragged, RAGGED, true);
    check_case((struct scan_shape){2, 7, 5, 1}, 2, ragged, RAGGED, false);
    check_case((struct scan_shape){2, 8, 16, 1}, 1, ragged, RAGGED, true);
}

static void large_sizes(void **state) {
    (void)state;
    const int64_t length[] = {70, 1, 65, 64};
    check_case((struct scan_shape){2, 128, 256, 1}, 7, length, 4, true);
    check_case((struct scan_shape){2, 112, 300, 2}, 4, length, 4, true);
}

static void long_spans(void **state) {
    (void)state;
    const int64_t length[] = {1000, 1024, 2065, 1, 2, 3, 63, 64, 65};
    check_case((struct scan_shape){2, 64, 64, 1}, 4, length, 9, true);
}

static void as_130m(void **state) {
    (void)state;
    const int64_t length[] = {3, 65, 40, 130};
    check_case((struct scan_shape){24, 64, 128, 1}, 4, length, 4, true);
}

// dt * A down to -1.6e5 a token: decays underflow everywhere. The results are still those of the
// recurrence, and no denormal number is left to slow down whoever comes next.
static void extreme_decays(void **state) {
    (void)state;
    const struct scan_shape shape = {4, 64, 128, 1};
    for (float scale = 1e1f; scale < 2e5f; scale *= 10.0f) {
        struct scan_case c;
        struct backend *backend = open_backend(NULL, 2);
        struct piece piece = {5, 0, 333, case_state(&shape, 4, 3), case_state(&shape, 4, 0)};
        case_open(&c, shape, 4, &piece, 1, scale);
        assert_int_equal(case_run(backend, &c), STATUS_OK);
        const float *out = (const float *)(const void *)piece.state_out;
        for (int64_t i = 0; i < c.state_floats; i++) {
            assert_true(out[i] == 0.0f || isnormal(out[i]));
        }
        for (int64_t r = 0; r < c.batch.rows; r++) {
            for (int64_t k = 0; k < c.d_inner; k++) {
                const float y = c.y.data[r * c.y.stride + k];
                assert_true(y == 0.0f || isnormal(y));
            }
        }
        check_whole(&c);
        free((void *)(uintptr_t)piece.state_in);
        free(piece.state_out);
        case_close(&c);
        backend->table->close(backend);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grouped),     cmocka_unit_test(one_head),
        cmocka_unit_test(head_dim_32), cmocka_unit_test(odd_sizes),
        cmocka_unit_test(large_sizes), cmocka_unit_test(long_spans),
        cmocka_unit_test(as_130m),     cmocka_unit_test(extreme_decays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
