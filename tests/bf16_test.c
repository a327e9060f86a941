// The products in bf16 and bf16x3: their bits equal a plain loop's written from the definition in
// ops/cpu/bf16_kernels.h, whatever the instruction set, the rows in the call, their place in it and
// the threads; and their error is what the rounding of the operands allows.

#include "ops/cpu/float_mode.h"
#include "ops/cpu/kernels.h"
#include "ops/op.h"
#include "tests/amx_emulated.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ISAS_MOST    8
#define THREADS_MOST 4
#define EMULATED     "amx-emulated"

static uint64_t draw(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static float of_bits(uint32_t bits) {
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static uint32_t bits_of(float number) {
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

static float *draw_many(uint64_t *seed, int64_t count) {
    float *made = malloc((size_t)count * sizeof *made);
    assert_non_null(made);
    for (int64_t i = 0; i < count; i++) {
        made[i] = (float)((double)(draw(seed) >> 40) / (double)(1 << 23) - 1.0);
    }
    return made;
}

static size_t isa_list(const char **names) {
    const size_t count = cpu_isa_list(names, ISAS_MOST - 1);
    names[count] = EMULATED;
    return count + 1;
}

static struct backend *open_backend(const char *isa, enum cpu_dtype dtype, int64_t threads) {
    const bool emulated = strcmp(isa, EMULATED) == 0;
    struct backend *backend = NULL;
    const struct cpu_backend_settings settings = {
        .dtype = dtype, .threads = threads, .isa = emulated ? "auto" : isa};
    assert_int_equal(cpu_backend_open(&settings, &backend), STATUS_OK);
    if (emulated) {
        cpu_backend_of(backend)->bf16 = &bf16_kernels_amx_emulated;
    } else {
        assert_string_equal(cpu_backend_isa(backend), isa);
    }
    return backend;
}

// The nearest bf16, by trying: of the two neighbours the nearer, of two as near the even one. Not the
// way of the kernels, which add to the bits.
static float rounded(float x) {
    const float below = of_bits(bits_of(x) & 0xffff0000U);
    const float above = of_bits((bits_of(x) & 0xffff0000U) + 0x10000U);
    const double down = fabs((double)x - (double)below), up = fabs((double)above - (double)x);
    const bool even = (bits_of(below) >> 16 & 1U) == 0;
    return down < up || (down == up && even) ? below : above;
}

// One step of the definition: 32 inputs, or as many as there are.
static float step_of(const float *x, const float *w, int64_t count) {
    float even = 0.0f, odd = 0.0f;
    for (int64_t k = 0; k < count; k += 2) {
        even = fmaf(x[k], w[k], even);
    }
    for (int64_t k = 1; k < count; k += 2) {
        odd = fmaf(x[k], w[k], odd);
    }
    return even + odd;
}

struct parts {
    float *hi, *lo;
};

static struct parts split(const float *numbers, int64_t count) {
    struct parts parts = {malloc((size_t)count * sizeof(float)),
                          malloc((size_t)count * sizeof(float))};
    assert_non_null(parts.hi);
    assert_non_null(parts.lo);
    for (int64_t i = 0; i < count; i++) {
        parts.hi[i] = rounded(numbers[i]);
        parts.lo[i] = rounded(numbers[i] - parts.hi[i]);
    }
    return parts;
}

static void drop(struct parts parts) {
    free(parts.hi);
    free(parts.lo);
}

static float chain_of(const struct parts *x, int64_t row, const struct parts *w, int64_t output,
                      int64_t inputs, enum cpu_dtype dtype) {
    float sum = 0.0f;
    for (int64_t k = 0; k < inputs; k += 32) {
        const int64_t count = inputs - k < 32 ? inputs - k : 32;
        const int64_t r = row * inputs + k, n = output * inputs + k;
        sum += step_of(x->hi + r, w->hi + n, count);
        if (dtype == CPU_BF16) continue;
        sum += step_of(x->hi + r, w->lo + n, count);
        sum += step_of(x->lo + r, w->hi + n, count);
    }
    return sum;
}

struct product {
    enum cpu_dtype dtype;
    int64_t rows, inputs, outputs, stride; // stride: of the rows that go in
    float *in, *weight, *bias, *before, *want, *got;
};

static void make_product(struct product *p, uint64_t *seed) {
    const uint64_t mode = float_mode_flush();
    struct parts x, w;
    float *dense = malloc((size_t)(p->rows * p->inputs) * sizeof *dense);
    assert_non_null(dense);
    p->in = draw_many(seed, p->rows * p->stride);
    p->weight = draw_many(seed, p->outputs * p->inputs);
    p->bias = draw_many(seed, p->outputs);
    p->before = draw_many(seed, p->rows * p->outputs);
    p->want = draw_many(seed, p->rows * p->outputs);
    p->got = draw_many(seed, p->rows * p->outputs);
    for (int64_t t = 0; t < p->rows; t++) {
        memcpy(dense + t * p->inputs, p->in + t * p->stride, (size_t)p->inputs * sizeof *dense);
    }
    x = split(dense, p->rows * p->inputs);
    w = split(p->weight, p->outputs * p->inputs);
    for (int64_t t = 0; t < p->rows; t++) {
        for (int64_t n = 0; n < p->outputs; n++) {
            const float sum = chain_of(&x, t, &w, n, p->inputs, p->dtype);
            p->want[t * p->outputs + n] = p->before[t * p->outputs + n] + (sum + p->bias[n]);
        }
    }
    drop(x);
    drop(w);
    free(dense);
    float_mode_write(mode);
}

static void drop_product(struct product *p) {
    float *memory[] = {p->in, p->weight, p->bias, p->before, p->want, p->got};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
        free(memory[i]);
    }
}

static void expect_bits(const float *got, const float *want, int64_t count, const char *isa,
                        int64_t rows, int64_t threads) {
    for (int64_t i = 0; i < count; i++) {
        if (memcmp(got + i, want + i, sizeof *got) != 0) {
            fail_msg("%s, %lld rows, %lld threads: number %lld is %a, expected %a", isa,
                     (long long)rows, (long long)threads, (long long)i, (double)got[i],
                     (double)want[i]);
        }
    }
}

// Rows first ... first + rows - 1 as a call of their own; nothing else may be touched.
static void check_rows(struct backend *backend, const struct product *p,
                       const struct packed_weight *packed, int64_t first, int64_t rows,
                       const char *isa, int64_t threads) {
    const int64_t width = p->outputs, end = first + rows;
    memcpy(p->got, p->before, (size_t)(p->rows * width) * sizeof(float));
    const struct linear_args args = {
        .in = {p->in + first * p->stride, rows, p->inputs, p->stride},
        .weight = packed,
        .bias = p->bias,
        .out = {p->got + first * width,    rows, width,     width    },
        .add = true,
    };
    assert_int_equal(op_linear(backend, &args), STATUS_OK);
    expect_bits(p->got, p->before, first * width, isa, rows, threads);
    expect_bits(p->got + first * width, p->want + first * width, rows * width, isa, rows, threads);
    expect_bits(p->got + end * width, p->before + end * width, (p->rows - end) * width, isa, rows,
                threads);
}

static bool is_slow(const char *isa) {
    return strcmp(isa, "scalar") == 0 || strcmp(isa, EMULATED) == 0;
}

static void check_product(const struct product *p, const char *isa, int64_t threads,
                          uint64_t *seed) {
    struct backend *backend = open_backend(isa, p->dtype, threads);
    struct packed_weight *packed = NULL;
    assert_int_equal(backend->table->pack(backend, p->weight, p->outputs, p->inputs, &packed),
                     STATUS_OK);
    const int64_t step = is_slow(isa) ? 29 : 1;
    for (int64_t rows = 1; rows <= p->rows; rows += rows < 34 && threads == 1 ? 1 : step) {
        const int64_t first = (int64_t)(draw(seed) % (uint64_t)(p->rows - rows + 1));
        check_rows(backend, p, packed, first, rows, isa, threads);
    }
    backend->table->release_packed(backend, packed);
    backend->table->close(backend);
}

static void test_product(void **state) {
    const char *isa[ISAS_MOST];
    const size_t isas = isa_list(isa);
    uint64_t seed = 5;
    (void)state;
    for (int dtype = CPU_BF16X3; dtype <= CPU_BF16; dtype++) {
        struct product p = {.dtype = (enum cpu_dtype)dtype,
                            .rows = 300,
                            .inputs = 83,
                            .outputs = 201,
                            .stride = 90};
        make_product(&p, &seed);
        for (size_t i = 0; i < isas; i++) {
            for (int64_t threads = 1; threads <= THREADS_MOST; threads++) {
                check_product(&p, isa[i], threads, &seed);
            }
        }
        drop_product(&p);
    }
}

// Widths around a step, a panel and a group of outputs.
static void test_widths(void **state) {
    static const int64_t inputs[] = {1, 2, 31, 32, 33, 64, 95, 256};
    static const int64_t outputs[] = {1, 15, 16, 17, 63, 64, 65, 130};
    const char *isa[ISAS_MOST];
    const size_t isas = isa_list(isa);
    uint64_t seed = 15;
    (void)state;
    for (int turn = 0; turn < 16; turn++) {
        struct product p = {.dtype = turn % 2 == 0 ? CPU_BF16 : CPU_BF16X3,
                            .rows = 37,
                            .inputs = inputs[turn / 2],
                            .outputs = outputs[(turn * 3 + 1) % 8],
                            .stride = inputs[turn / 2]};
        make_product(&p, &seed);
        for (size_t i = 0; i < isas; i++) {
            struct backend *backend = open_backend(isa[i], p.dtype, 2);
            struct packed_weight *packed = NULL;
            assert_int_equal(backend->table->pack(backend, p.weight, p.outputs, p.inputs, &packed),
                             STATUS_OK);
            check_rows(backend, &p, packed, 0, p.rows, isa[i], 2);
            check_rows(backend, &p, packed, 5, 17, isa[i], 2);
            backend->table->release_packed(backend, packed);
            backend->table->close(backend);
        }
        drop_product(&p);
    }
}

// Exponents from what rounds to nothing to what is far from overflow, so that products and sums
// become denormal and are flushed, and both signs of zero.
static void test_tiny(void **state) {
    const char *isa[ISAS_MOST];
    const size_t isas = isa_list(isa);
    uint64_t seed = 25;
    (void)state;
    for (int dtype = CPU_BF16X3; dtype <= CPU_BF16; dtype++) {
        struct product p = {
            .dtype = (enum cpu_dtype)dtype, .rows = 40, .inputs = 70, .outputs = 70, .stride = 70};
        make_product(&p, &seed);
        const uint64_t mode = float_mode_flush();
        for (int64_t i = 0; i < 40 * 70; i++) {
            p.in[i] = of_bits((uint32_t)draw(&seed) & 0xa0ffffffU);
            p.before[i] = 0.0f;
        }
        for (int64_t i = 0; i < 70 * 70; i++) {
            p.weight[i] = of_bits(((uint32_t)draw(&seed) & 0x83ffffffU) | 0x1e000000U);
        }
        struct parts x = split(p.in, 40 * 70), w = split(p.weight, 70 * 70);
        int64_t zeros = 0;
        for (int64_t i = 0; i < 40 * 70; i++) {
            p.bias[i % 70] = 0.0f;
            p.want[i] = 0.0f + (chain_of(&x, i / 70, &w, i % 70, 70, p.dtype) + 0.0f);
            zeros += p.want[i] == 0.0f ? 1 : 0;
        }
        assert_true(zeros > 0 && zeros < 40 * 70);
        drop(x);
        drop(w);
        float_mode_write(mode);
        for (size_t i = 0; i < isas; i++) {
            check_product(&p, isa[i], 1, &seed);
        }
        drop_product(&p);
    }
}

// What is not finite stays so, in its own row only.
static void test_not_finite(void **state) {
    const char *isa[ISAS_MOST];
    const size_t isas = isa_list(isa);
    uint64_t seed = 35;
    (void)state;
    for (int turn = 0; turn < 4; turn++) {
        struct product p = {.dtype = turn % 2 == 0 ? CPU_BF16 : CPU_BF16X3,
                            .rows = 9,
                            .inputs = 40,
                            .outputs = 20,
                            .stride = 40};
        make_product(&p, &seed);
        p.in[4 * 40 + 33] = turn < 2 ? of_bits(0x7fffffffU) : INFINITY; // the first rounds up to 0
        for (size_t i = 0; i < isas; i++) {
            struct backend *backend = open_backend(isa[i], p.dtype, 1);
            struct packed_weight *packed = NULL;
            assert_int_equal(backend->table->pack(backend, p.weight, p.outputs, p.inputs, &packed),
                             STATUS_OK);
            const struct linear_args args = {
                .in = {p.in,  9, 40, 40},
                .weight = packed,
                .bias = p.bias,
                .out = {p.got, 9, 20, 20},
                .add = true
            };
            memcpy(p.got, p.before, sizeof(float[9 * 20]));
            assert_int_equal(op_linear(backend, &args), STATUS_OK);
            for (int64_t n = 0; n < 20; n++) {
                assert_true(!isfinite(p.got[4 * 20 + n]));
            }
            expect_bits(p.got, p.want, 4 * 20, isa[i], 9, 1);
            expect_bits(p.got + 5 * 20, p.want + 5 * 20, 4 * 20, isa[i], 9, 1);
            backend->table->release_packed(backend, packed);
            backend->table->close(backend);
        }
        drop_product(&p);
    }
}

#define HEAD_ROWS  90
#define HEAD_WIDTH 40
#define VOCAB      2600

static void head_of(struct backend *backend, const float *in, const float *weight,
                    const int32_t *target, int64_t first, int64_t rows, float *nll) {
    struct packed_weight *packed = NULL;
    assert_int_equal(backend->table->pack(backend, weight, VOCAB, HEAD_WIDTH, &packed), STATUS_OK);
    const struct head_args args = {
        .in = {(float *)(uintptr_t)(in + first * HEAD_WIDTH), rows, HEAD_WIDTH, HEAD_WIDTH},
        .weight = packed,
        .target = target + first,
        .nll = nll,
    };
    assert_int_equal(op_head(backend, &args), STATUS_OK);
    backend->table->release_packed(backend, packed);
}

static void test_head(void **state) {
    static const uint64_t known[] = {
        [CPU_BF16X3] = UINT64_C(0x63d2b41b9dde5448), [CPU_BF16] = UINT64_C(0xf2a1d32c5bbe4d0c)};
    const char *isa[ISAS_MOST];
    const size_t isas = isa_list(isa);
    uint64_t seed = 6;
    float *in = draw_many(&seed, HEAD_ROWS * HEAD_WIDTH);
    float *weight = draw_many(&seed, VOCAB * HEAD_WIDTH);
    int32_t target[HEAD_ROWS];
    float want[HEAD_ROWS], got[HEAD_ROWS];
    (void)state;
    for (int64_t t = 0; t < HEAD_ROWS; t++) {
        target[t] = draw(&seed) % 4 == 0 ? -1 : (int32_t)(draw(&seed) % VOCAB);
    }
    for (int dtype = CPU_BF16X3; dtype <= CPU_BF16; dtype++) {
        struct backend *one = open_backend(isa[0], (enum cpu_dtype)dtype, 1);
        head_of(one, in, weight, target, 0, HEAD_ROWS, want);
        one->table->close(one);
        uint64_t hash = UINT64_C(14695981039346656037);
        for (int64_t t = 0; t < HEAD_ROWS; t++) {
            hash = (hash ^ (uint64_t)bits_of(want[t])) * UINT64_C(1099511628211);
        }
        if (hash != known[dtype]) {
            fail_msg("hash of the bits 0x%016llx, known 0x%016llx", (unsigned long long)hash,
                     (unsigned long long)known[dtype]);
        }
        for (size_t i = 0; i < isas; i++) {
            for (int64_t threads = 1; threads <= THREADS_MOST; threads++) {
                struct backend *backend = open_backend(isa[i], (enum cpu_dtype)dtype, threads);
                for (int64_t turn = 0; turn < 5; turn++) {
                    const int64_t rows = turn == 0 ? HEAD_ROWS : (int64_t)(draw(&seed) % 90) + 1;
                    const int64_t first = (int64_t)(draw(&seed) % (uint64_t)(HEAD_ROWS - rows + 1));
                    head_of(backend, in, weight, target, first, rows, got);
                    expect_bits(got, want + first, rows, isa[i], rows, threads);
                }
                backend->table->close(backend);
            }
        }
    }
    free(weight);
    free(in);
}

// Against float64, in the 2-norm: two operands off by up to 2^-9 each in bf16, by 2^-17 in bf16x3,
// which also leaves lo lo out. Another dtype would fall outside of its band.
static void test_error(void **state) {
    static const double least[] = {[CPU_BF16X3] = 1e-6, [CPU_BF16] = 1e-3};
    static const double most[] = {[CPU_BF16X3] = 6e-6, [CPU_BF16] = 3e-3};
    enum { INPUTS = 768, OUTPUTS = 128, ROWS = 64 };
    uint64_t seed = 45;
    (void)state;
    for (int dtype = CPU_BF16X3; dtype <= CPU_BF16; dtype++) {
        struct product p = {.dtype = (enum cpu_dtype)dtype,
                            .rows = ROWS,
                            .inputs = INPUTS,
                            .outputs = OUTPUTS,
                            .stride = INPUTS};
        double apart = 0.0, whole = 0.0;
        make_product(&p, &seed);
        for (int64_t i = 0; i < (int64_t)ROWS * OUTPUTS; i++) {
            double exact = 0.0;
            for (int64_t k = 0; k < INPUTS; k++) {
                exact += (double)p.in[i / OUTPUTS * INPUTS + k] *
                         (double)p.weight[i % OUTPUTS * INPUTS + k];
            }
            const double product =
                (double)p.want[i] - (double)p.before[i] - (double)p.bias[i % OUTPUTS];
            apart += (product - exact) * (product - exact);
            whole += exact * exact;
        }
        const double error = sqrt(apart / whole);
        print_message("%s: relative error %.2g\n", dtype == CPU_BF16 ? "bf16" : "bf16x3", error);
        assert_true(error > least[dtype] && error < most[dtype]);
        struct backend *backend = open_backend("scalar", p.dtype, 2);
        struct packed_weight *packed = NULL;
        assert_int_equal(backend->table->pack(backend, p.weight, OUTPUTS, INPUTS, &packed),
                         STATUS_OK);
        check_rows(backend, &p, packed, 0, ROWS, "scalar", 2);
        backend->table->release_packed(backend, packed);
        backend->table->close(backend);
        drop_product(&p);
    }
}

static void test_names(void **state) {
    char numerics[3][128];
    (void)state;
    for (int dtype = CPU_F32; dtype <= CPU_BF16; dtype++) {
        struct backend *backend = open_backend("scalar", (enum cpu_dtype)dtype, 1);
        strcpy(numerics[dtype], backend->numerics);
        backend->table->close(backend);
    }
    assert_string_equal(numerics[CPU_F32], "cpu f32 v1 fma-chain tile64 head1024"); // as released
    assert_string_not_equal(numerics[CPU_BF16], numerics[CPU_BF16X3]);
    assert_string_not_equal(numerics[CPU_BF16], numerics[CPU_F32]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),      cmocka_unit_test(test_error),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_widths),     cmocka_unit_test(test_head),
        cmocka_unit_test(test_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
