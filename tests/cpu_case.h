#pragma once
// Drawn matrices, and the CPU backend with every instruction set of this machine.

#include "ops/cpu/cpu_backend.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ISAS_MOST 4

// Numbers that repeat: xorshift, in [-1, 1).
static inline float draw(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return (float)((double)(*seed >> 40) / (double)(1 << 23) - 1.0);
}

static inline float *draw_many(uint64_t *seed, int64_t count, float scale) {
    float *made = malloc((size_t)count * sizeof *made);
    assert_non_null(made);
    for (int64_t i = 0; i < count; i++) {
        made[i] = scale * draw(seed);
    }
    return made;
}

static inline struct matrix draw_matrix(uint64_t *seed, int64_t rows, int64_t columns,
                                        int64_t stride, float scale) {
    return (struct matrix){draw_many(seed, rows * stride, scale), rows, columns, stride};
}

static inline struct matrix copy_of(const struct matrix *m) {
    struct matrix copy = *m;
    copy.data = malloc((size_t)(m->rows * m->stride) * sizeof *copy.data);
    assert_non_null(copy.data);
    memcpy(copy.data, m->data, (size_t)(m->rows * m->stride) * sizeof *copy.data);
    return copy;
}

// |got - want| <= relative * |want| + absolute, and what lies between the rows is as it was.
static inline void compare(const struct matrix *got, const struct matrix *want, double relative,
                           double absolute) {
    for (int64_t t = 0; t < got->rows; t++) {
        for (int64_t c = 0; c < got->stride; c++) {
            const double a = (double)got->data[t * got->stride + c];
            const double b = (double)want->data[t * want->stride + c];
            const double allowed = c < got->columns ? relative * fabs(b) + absolute : 0.0;
            if (!(fabs(a - b) <= allowed)) {
                fail_msg("row %lld of %lld, column %lld of %lld: %.9g, expected %.9g", (long long)t,
                         (long long)got->rows, (long long)c, (long long)got->columns, a, b);
            }
        }
    }
}

static inline struct backend *open_backend(const char *isa, int64_t threads) {
    struct backend *backend = NULL;
    const struct cpu_backend_settings settings = {.threads = threads, .isa = isa};
    assert_int_equal(cpu_backend_open(&settings, &backend), STATUS_OK);
    return backend;
}

// Runs check with a backend of every instruction set, with one to three threads.
static inline void with_backends(void (*check)(struct backend *backend, int64_t turn)) {
    const char *isa[ISAS_MOST];
    const size_t count = cpu_isa_list(isa, ISAS_MOST);
    for (size_t i = 0; i < count; i++) {
        struct backend *backend = open_backend(isa[i], (int64_t)(i % 3) + 1);
        for (int64_t turn = 0; turn < 8; turn++) {
            check(backend, turn);
        }
        backend->table->close(backend);
    }
}
