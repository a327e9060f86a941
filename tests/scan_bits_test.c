// Bits of the convolution and the scan: equal for every instruction set, number of threads, place
// in a batch, neighbour, and cut at a tile's border.

#include "tests/scan_case.h"

#include <stdio.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define TAPS    4
#define THREADS 4

static const struct scan_shape shapes[] = {
    {8,  16,  16,  2},
    {1,  64,  128, 1},
    {3,  32,  32,  1},
    {3,  21,  19,  3},
    {2,  112, 256, 1},
    {24, 64,  128, 1},
};
#define SHAPES (int64_t)(sizeof shapes / sizeof *shapes)

static struct backend *open_backend(const char *isa, int64_t threads) {
    const struct cpu_backend_settings settings = {.threads = threads, .isa = isa};
    struct backend *backend = NULL;
    assert_int_equal(cpu_backend_open(&settings, &backend), STATUS_OK);
    return backend;
}

// What a document's pieces gave: y of its rows, and the state after it.
struct result {
    float *y; // [rows, d_inner]
    char *state;
    int64_t rows, d_inner;
    size_t layer_bytes;
};

static struct result result_new(const struct scan_shape *shape, int64_t rows) {
    struct result r = {.rows = rows, .d_inner = shape->heads * shape->head_dim};
    r.y = case_floats(rows * r.d_inner);
    r.state = case_state(shape, TAPS, 0);
    r.layer_bytes = case_layer_bytes(shape, TAPS);
    return r;
}

static void result_free(struct result *r) {
    free(r->y);
    free(r->state);
}

static void result_take(const struct scan_case *c, int64_t span, struct result *r, int64_t first) {
    for (int64_t t = 0; t < c->span[span].rows; t++) {
        memcpy(r->y + (first + t) * r->d_inner, c->y.data + (c->span[span].row + t) * c->y.stride,
               (size_t)r->d_inner * sizeof(float));
    }
}

static void result_equal(const struct result *a, const struct result *b) {
    assert_int_equal(a->rows, b->rows);
    assert_memory_equal(a->y, b->y, (size_t)(a->rows * a->d_inner) * sizeof(float));
    assert_memory_equal(a->state, b->state, a->layer_bytes);
}

// Some documents, each whole, in one batch. Odd ones begin from a state.
static void run_packed(struct backend *backend, const struct scan_shape *shape,
                       const uint64_t *seed, const int64_t *length, int64_t count,
                       struct result *results) {
    struct piece pieces[CASE_PIECES];
    struct scan_case c;
    for (int64_t s = 0; s < count; s++) {
        results[s] = result_new(shape, length[s]);
        char *in = seed[s] % 2 == 1 ? case_state(shape, TAPS, seed[s]) : NULL;
        pieces[s] = (struct piece){seed[s], 0, length[s], in, results[s].state};
    }
    case_open(&c, *shape, TAPS, pieces, count, 1.0f);
    assert_int_equal(case_run(backend, &c), STATUS_OK);
    for (int64_t s = 0; s < count; s++) {
        result_take(&c, s, &results[s], 0);
        free((void *)(uintptr_t)pieces[s].state_in);
    }
    case_close(&c);
}

static struct result run_alone(struct backend *backend, const struct scan_shape *shape,
                               uint64_t seed, int64_t length) {
    struct result r;
    run_packed(backend, shape, &seed, &length, 1, &r);
    return r;
}

// One document cut into pieces, a batch each, the state carried from piece to piece.
static struct result run_cut(struct backend *backend, const struct scan_shape *shape, uint64_t seed,
                             const int64_t *length, int64_t count) {
    int64_t rows = 0, at = 0;
    for (int64_t i = 0; i < count; i++) {
        rows += length[i];
    }
    struct result r = result_new(shape, rows);
    char *carried = seed % 2 == 1 ? case_state(shape, TAPS, seed) : NULL;
    for (int64_t i = 0; i < count; i++) {
        struct scan_case c;
        char *next = case_state(shape, TAPS, 0);
        const struct piece piece = {seed, at, length[i], carried, next};
        case_open(&c, *shape, TAPS, &piece, 1, 1.0f);
        assert_int_equal(case_run(backend, &c), STATUS_OK);
        result_take(&c, 0, &r, at);
        at += length[i];
        case_close(&c);
        free(carried);
        carried = next;
    }
    memcpy(r.state, carried, r.layer_bytes);
    free(carried);
    return r;
}

static const int64_t ragged[] = {1, 2, 3, 63, 64, 65, 130, 192, 200};
static const uint64_t seeds[] = {11, 12, 13, 14, 15, 16, 17, 18, 19};
#define RAGGED (int64_t)(sizeof ragged / sizeof *ragged)

static void instruction_sets(void **state) {
    (void)state;
    const char *names[8];
    const size_t count = cpu_isa_list(names, 8);
    for (int64_t k = 0; k < SHAPES; k++) {
        // The scalar set takes long for the largest shape: fewer spans are enough there.
        const int64_t spans = shapes[k].heads > 8 ? 6 : RAGGED;
        struct result expected[RAGGED], got[RAGGED];
        struct backend *best = open_backend(names[0], 1);
        run_packed(best, &shapes[k], seeds, ragged, spans, expected);
        best->table->close(best);
        for (size_t i = 0; i < count; i++) {
            for (int64_t threads = 1; threads <= (i == 0 ? THREADS : 2); threads++) {
                struct backend *backend = open_backend(names[i], threads);
                run_packed(backend, &shapes[k], seeds, ragged, spans, got);
                backend->table->close(backend);
                for (int64_t s = 0; s < spans; s++) {
                    result_equal(&got[s], &expected[s]);
                    result_free(&got[s]);
                }
            }
        }
        for (int64_t s = 0; s < spans; s++) {
            result_free(&expected[s]);
        }
    }
}

// Beside others or alone, first or last: nothing changes. Nor does a neighbour's content.
static void packing(void **state) {
    (void)state;
    struct backend *backend = open_backend(NULL, 2);
    for (int64_t k = 0; k < SHAPES; k++) {
        struct result packed[RAGGED], other[RAGGED];
        uint64_t other_seeds[RAGGED];
        run_packed(backend, &shapes[k], seeds, ragged, RAGGED, packed);
        for (int64_t s = 0; s < RAGGED; s++) {
            struct result alone = run_alone(backend, &shapes[k], seeds[s], ragged[s]);
            result_equal(&alone, &packed[s]);
            result_free(&alone);
            other_seeds[s] = s == 4 ? 99 : seeds[s];
        }
        run_packed(backend, &shapes[k], other_seeds, ragged, RAGGED, other);
        for (int64_t s = 0; s < RAGGED; s++) {
            if (s != 4) result_equal(&other[s], &packed[s]);
            result_free(&other[s]);
            result_free(&packed[s]);
        }
    }
    backend->table->close(backend);
}

static void cuts(void **state) {
    (void)state;
    struct backend *backend = open_backend(NULL, 2);
    const int64_t whole = 64 + 128 + 64 + 320 + 17;
    const int64_t some[] = {64, 128, 64, 320, 17};
    const int64_t other[] = {320, 273};
    for (int64_t k = 0; k < SHAPES; k++) {
        for (uint64_t seed = 20; seed < 22; seed++) {
            struct result expected = run_alone(backend, &shapes[k], seed, whole);
            struct result got = run_cut(backend, &shapes[k], seed, some, 5);
            result_equal(&got, &expected);
            result_free(&got);
            got = run_cut(backend, &shapes[k], seed, other, 2);
            result_equal(&got, &expected);
            result_free(&got);
            result_free(&expected);
        }
    }
    backend->table->close(backend);
}

static void long_documents(void **state) {
    (void)state;
    struct backend *backend = open_backend(NULL, 2);
    const struct scan_shape shape = {2, 64, 128, 1};
    const int64_t length[] = {1000, 1024, 2065, 1, 2, 3, 63, 64, 65};
    const int64_t chunks[] = {1024, 1024, 17};
    struct result packed[RAGGED];
    run_packed(backend, &shape, seeds, length, RAGGED, packed);
    struct result cut = run_cut(backend, &shape, seeds[2], chunks, 3);
    result_equal(&cut, &packed[2]);
    result_free(&cut);
    for (int64_t s = 0; s < RAGGED; s++) {
        result_free(&packed[s]);
    }
    backend->table->close(backend);
}

// A token sees nothing of those after it: a document's beginning has the bits of the whole, and a
// NaN later on leaves it alone.
static void causality(void **state) {
    (void)state;
    struct backend *backend = open_backend(NULL, 2);
    for (int64_t k = 0; k < SHAPES; k++) {
        const struct piece piece = {30, 0, 200, NULL, NULL};
        struct scan_case whole, begun;
        case_open(&whole, shapes[k], TAPS, &piece, 1, 1.0f);
        assert_int_equal(case_run(backend, &whole), STATUS_OK);
        for (int64_t rows = 61; rows < 200; rows += 13) {
            case_open(&begun, shapes[k], TAPS, &piece, 1, 1.0f);
            for (int64_t r = rows; r < 200; r++) {
                begun.raw.data[r * begun.raw.stride + r % begun.conv_width] = NAN;
            }
            assert_int_equal(case_run(backend, &begun), STATUS_OK);
            for (int64_t r = 0; r < rows; r++) {
                assert_memory_equal(begun.y.data + r * begun.y.stride,
                                    whole.y.data + r * whole.y.stride,
                                    (size_t)whole.d_inner * sizeof(float));
            }
            case_close(&begun);
        }
        case_close(&whole);
    }
    backend->table->close(backend);
}

// state_in and state_out of the SSM part may be the same memory; a layer that is not the first
// lies where the batch says; a state nobody needs changes nothing.
static void state_memory(void **state) {
    (void)state;
    struct backend *backend = open_backend(NULL, 2);
    for (int64_t k = 0; k < SHAPES; k++) {
        const int64_t rows = 150;
        const int64_t layer_bytes = (int64_t)case_layer_bytes(&shapes[k], TAPS);
        struct result expected = run_alone(backend, &shapes[k], 41, rows);
        struct scan_case c;
        char *slot = malloc((size_t)(3 * layer_bytes));
        char *in = case_state(&shapes[k], TAPS, 41);
        assert_non_null(slot);
        memset(slot, 0x77, (size_t)(3 * layer_bytes));
        memcpy(slot + 2 * layer_bytes, in, (size_t)layer_bytes);
        struct piece piece = {41, 0, rows, slot, slot};
        case_open(&c, shapes[k], TAPS, &piece, 1, 1.0f);
        c.batch.layer = 2;
        c.span[0].in_layer_bytes = layer_bytes;
        c.span[0].out_layer_bytes = layer_bytes;
        // The convolution parts may not overlap, so that one runs from its own copy.
        const struct conv_args conv = case_conv_args(&c);
        const struct scan_args scan = case_scan_args(&c);
        const struct backend_table *table = backend->table;
        assert_int_equal(table->causal_conv(backend, &conv), STATUS_OK);
        assert_int_equal(table->chunk_cumsum(backend, &scan), STATUS_OK);
        assert_int_equal(table->chunk_cb(backend, &scan), STATUS_OK);
        assert_int_equal(table->chunk_state(backend, &scan), STATUS_OK);
        assert_int_equal(table->state_passing(backend, &scan), STATUS_OK);
        assert_int_equal(table->chunk_scan(backend, &scan), STATUS_OK);
        struct result got = result_new(&shapes[k], rows);
        result_take(&c, 0, &got, 0);
        memcpy(got.state, slot + 2 * layer_bytes, (size_t)c.batch.conv_offset);
        memcpy(got.state + c.batch.conv_offset, expected.state + c.batch.conv_offset,
               (size_t)(layer_bytes - c.batch.conv_offset));
        result_equal(&got, &expected);
        for (int64_t i = 0; i < 2 * layer_bytes; i++) {
            assert_int_equal(slot[i], 0x77);
        }
        case_close(&c);

        piece = (struct piece){41, 0, rows, in, NULL};
        case_open(&c, shapes[k], TAPS, &piece, 1, 1.0f);
        assert_int_equal(case_run(backend, &c), STATUS_OK);
        result_take(&c, 0, &got, 0);
        result_equal(&got, &expected);
        case_close(&c);
        result_free(&got);
        result_free(&expected);
        free(slot);
        free(in);
    }
    backend->table->close(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(instruction_sets),
        cmocka_unit_test(packing),
        cmocka_unit_test(cuts),
        cmocka_unit_test(long_documents),
        cmocka_unit_test(causality),
        cmocka_unit_test(state_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
