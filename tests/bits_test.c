// What the CPU backend promises about bits: a matrix product's equal a scalar chain of fmaf, a
// row's result hangs on nothing but its own inputs, and threads and instruction sets change nothing.

#include "ops/cpu/cpu_backend.h"
#include "ops/cpu/float_mode.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/team.h"
#include "ops/op.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define ISAS_MOST    4
#define THREADS_MOST 4

static uint64_t draw(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static float *draw_many(uint64_t *seed, int64_t count) {
    float *made = malloc((size_t)count * sizeof *made);
    assert_non_null(made);
    for (int64_t i = 0; i < count; i++) {
        made[i] = (float)((double)(draw(seed) >> 40) / (double)(1 << 23) - 1.0);
    }
    return made;
}

static struct backend *open_backend(const char *isa, int64_t threads) {
    struct backend *backend = NULL;
    const struct cpu_backend_settings settings = {.threads = threads, .isa = isa};
    assert_int_equal(cpu_backend_open(&settings, &backend), STATUS_OK);
    return backend;
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

// FNV-1a over the bits of numbers: what a machine gives must be what all machines give, so the tests
// compare it with the value found on x86-64 and aarch64 when they were written.
static uint64_t hash_bits(uint64_t hash, const float *numbers, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, numbers + i, sizeof bits);
        hash = (hash ^ bits) * UINT64_C(1099511628211);
    }
    return hash;
}

#define HASH_START UINT64_C(14695981039346656037)

static void expect_hash(uint64_t hash, uint64_t known) {
    if (hash != known) {
        fail_msg("hash of the bits 0x%016llx, known 0x%016llx", (unsigned long long)hash,
                 (unsigned long long)known);
    }
}

#define ROWS    300
#define INPUTS  83
#define OUTPUTS 201

// The measure: a scalar chain an output, then the bias, then what stood there.
static float *product_by_chain(const float *in, const float *weight, const float *bias,
                               const float *before) {
    float *out = malloc((size_t)ROWS * OUTPUTS * sizeof *out);
    assert_non_null(out);
    for (int64_t t = 0; t < ROWS; t++) {
        for (int64_t n = 0; n < OUTPUTS; n++) {
            float sum = 0.0f;
            for (int64_t k = 0; k < INPUTS; k++) {
                sum = fmaf(in[t * INPUTS + k], weight[n * INPUTS + k], sum);
            }
            out[t * OUTPUTS + n] = before[t * OUTPUTS + n] + (sum + bias[n]);
        }
    }
    return out;
}

struct product {
    float *in, *weight, *bias, *before, *want, *got;
};

static void check_product(const struct product *p, const char *isa, int64_t threads,
                          uint64_t *seed) {
    struct backend *backend = open_backend(isa, threads);
    struct packed_weight *packed = NULL;
    assert_int_equal(backend->table->pack(backend, p->weight, OUTPUTS, INPUTS, &packed), STATUS_OK);
    for (int64_t rows = 1; rows <= ROWS; rows += strcmp(isa, "scalar") == 0 ? 37 : 1) {
        const int64_t first = (int64_t)(draw(seed) % (uint64_t)(ROWS - rows + 1));
        memcpy(p->got, p->before, (size_t)ROWS * OUTPUTS * sizeof(float));
        const struct linear_args args = {
            .in = {p->in + first * INPUTS,   rows, INPUTS,  INPUTS },
            .weight = packed,
            .bias = p->bias,
            .out = {p->got + first * OUTPUTS, rows, OUTPUTS, OUTPUTS},
            .add = true,
        };
        assert_int_equal(op_linear(backend, &args), STATUS_OK);
        expect_bits(p->got, p->before, first * OUTPUTS, isa, rows, threads);
        expect_bits(p->got + first * OUTPUTS, p->want + first * OUTPUTS, rows * OUTPUTS, isa, rows,
                    threads);
        expect_bits(p->got + (first + rows) * OUTPUTS, p->before + (first + rows) * OUTPUTS,
                    (ROWS - first - rows) * OUTPUTS, isa, rows, threads);
    }
    backend->table->release_packed(backend, packed);
    backend->table->close(backend);
}

static void test_product(void **state) {
    const char *isa[ISAS_MOST];
    const size_t isas = cpu_isa_list(isa, ISAS_MOST);
    uint64_t seed = 5;
    struct product p = {
        .in = draw_many(&seed, ROWS * INPUTS),
        .weight = draw_many(&seed, OUTPUTS * INPUTS),
        .bias = draw_many(&seed, OUTPUTS),
        .before = draw_many(&seed, ROWS * OUTPUTS),
        .got = draw_many(&seed, ROWS * OUTPUTS),
    };
    (void)state;
    p.want = product_by_chain(p.in, p.weight, p.bias, p.before);
    for (size_t i = 0; i < isas; i++) {
        for (int64_t threads = 1; threads <= THREADS_MOST; threads++) {
            check_product(&p, isa[i], threads, &seed);
        }
    }
    free(p.want);
    free(p.got);
    free(p.before);
    free(p.bias);
    free(p.weight);
    free(p.in);
}

#define HEAD_ROWS  90
#define HEAD_WIDTH 40
#define VOCAB      2600

// Scores rows first ... first + rows - 1 of a batch as a batch of their own.
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
    const char *isa[ISAS_MOST];
    const size_t isas = cpu_isa_list(isa, ISAS_MOST);
    uint64_t seed = 6;
    float *in = draw_many(&seed, HEAD_ROWS * HEAD_WIDTH);
    float *weight = draw_many(&seed, VOCAB * HEAD_WIDTH);
    int32_t target[HEAD_ROWS];
    float want[HEAD_ROWS];
    float got[HEAD_ROWS];
    (void)state;
    for (int64_t t = 0; t < HEAD_ROWS; t++) {
        target[t] = draw(&seed) % 4 == 0 ? -1 : (int32_t)(draw(&seed) % VOCAB);
    }
    struct backend *one = open_backend(isa[0], 1);
    head_of(one, in, weight, target, 0, HEAD_ROWS, want);
    one->table->close(one);
    expect_hash(hash_bits(HASH_START, want, HEAD_ROWS), UINT64_C(0x78bde2a8826b021f));
    for (size_t i = 0; i < isas; i++) {
        for (int64_t threads = 1; threads <= THREADS_MOST; threads++) {
            struct backend *backend = open_backend(isa[i], threads);
            for (int64_t turn = 0; turn < 6; turn++) {
                const int64_t rows = turn == 0 ? HEAD_ROWS : (int64_t)(draw(&seed) % HEAD_ROWS) + 1;
                const int64_t first = (int64_t)(draw(&seed) % (uint64_t)(HEAD_ROWS - rows + 1));
                head_of(backend, in, weight, target, first, rows, got);
                expect_bits(got, want + first, rows, isa[i], rows, threads);
            }
            backend->table->close(backend);
        }
    }
    free(weight);
    free(in);
}

// Norms and dt: every instruction set against the first, with widths that are no multiple of 16.
static void test_rows(void **state) {
    enum { WIDTH = 331, COUNT = 37 };
    const char *isa[ISAS_MOST];
    const size_t isas = cpu_isa_list(isa, ISAS_MOST);
    uint64_t seed = 7;
    float *y = draw_many(&seed, COUNT * WIDTH);
    float *z = draw_many(&seed, COUNT * WIDTH);
    float *weight = draw_many(&seed, WIDTH);
    float *out[ISAS_MOST][4];
    (void)state;
    if (isas == 0) {
        fail_msg("there is no instruction set");
        return;
    }
    for (size_t i = 0; i < isas; i++) {
        struct backend *backend = open_backend(isa[i], (int64_t)i + 1);
        struct matrix made[4];
        for (int j = 0; j < 4; j++) {
            out[i][j] = draw_many(&seed, COUNT * WIDTH);
            made[j] = (struct matrix){out[i][j], COUNT, WIDTH, WIDTH};
        }
        const struct matrix in = {y, COUNT, WIDTH, WIDTH};
        const struct matrix gate = {z, COUNT, WIDTH, WIDTH};
        const struct rms_norm_args norm = {in, made[0], weight, 1e-5f};
        struct gated_norm_args gated = {in, gate, made[1], weight, 1, 1e-5f, false};
        const struct dt_args dt = {in, made[3], weight, 0.001f, 0.5f};
        assert_int_equal(op_rms_norm(backend, &norm), STATUS_OK);
        assert_int_equal(op_gated_norm(backend, &gated), STATUS_OK);
        gated.out = made[2];
        gated.norm_before_gate = true;
        assert_int_equal(op_gated_norm(backend, &gated), STATUS_OK);
        assert_int_equal(op_dt(backend, &dt), STATUS_OK);
        backend->table->close(backend);
        for (int j = 0; j < 4; j++) {
            expect_bits(out[i][j], out[0][j], COUNT * WIDTH, isa[i], COUNT, (int64_t)i + 1);
        }
    }
    uint64_t hash = HASH_START;
    for (int j = 0; j < 4; j++) {
        hash = hash_bits(hash, out[0][j], COUNT * WIDTH);
    }
    expect_hash(hash, UINT64_C(0x72e14b3e9f8a71de));
    for (size_t i = 0; i < isas; i++) {
        for (int j = 0; j < 4; j++) {
            free(out[i][j]);
        }
    }
    free(weight);
    free(z);
    free(y);
}

struct elementary {
    const char *name;
    double (*exact)(double x);
    double low, high, units; // over [low, high] the error is at most so many units of 2^-24
    uint64_t hash;
};

static double exact_silu(double x) {
    return x / (1.0 + exp(-x));
}

static double exact_softplus(double x) {
    return x > 40.0 ? x : log1p(exp(x));
}

static void apply(const struct cpu_kernels *kernels, const char *name, const float *in, int64_t n,
                  float *out) {
    const uint64_t mode = float_mode_flush();
    if (strcmp(name, "exp") == 0) kernels->exp(in, n, out);
    if (strcmp(name, "silu") == 0) kernels->silu(in, n, out);
    if (strcmp(name, "softplus") == 0) kernels->softplus(in, n, out);
    float_mode_write(mode);
}

#define SAMPLE 4099 // floats at a time; odd, so that every call has a tail

static double worst_error(const struct elementary *f, const float *in, const float *out) {
    double worst = 0.0;
    for (int64_t i = 0; i < SAMPLE; i++) {
        const double want = f->exact((double)in[i]);
        if (fabs(want) < 0x1p-126) continue;
        const double error = fabs((double)out[i] - want) / fabs(want) * 0x1p24;
        worst = error > worst ? error : worst;
    }
    return worst;
}

static void check_elementary(const struct elementary *f, const char *const *isa, size_t isas) {
    static float in[SAMPLE], want[SAMPLE], got[SAMPLE];
    uint64_t seed = 8;
    uint64_t hash = HASH_START;
    double worst = 0.0;
    for (int64_t turn = 0; turn < 300; turn++) {
        for (int64_t i = 0; i < SAMPLE; i++) {
            const double part = ((double)(turn * SAMPLE + i) + 0.5) / (300.0 * SAMPLE);
            in[i] = (float)(f->low + (f->high - f->low) * part);
            // Every other one with any exponent, so that tiny arguments are among them.
            if (i % 2 == 1) in[i] = ldexpf(in[i], -(int)(draw(&seed) % 40));
        }
        apply(cpu_kernels_find(isa[0]), f->name, in, SAMPLE, want);
        const double error = worst_error(f, in, want);
        worst = error > worst ? error : worst;
        hash = hash_bits(hash, want, SAMPLE);
        for (size_t i = 1; i < isas; i++) {
            apply(cpu_kernels_find(isa[i]), f->name, in, SAMPLE, got);
            expect_bits(got, want, SAMPLE, isa[i], turn, 1);
        }
    }
    print_message("%s: error at most %.2f units of 2^-24\n", f->name, worst);
    assert_true(worst <= f->units);
    expect_hash(hash, f->hash);
}

static void test_elementary(void **state) {
    // exp: the polynomial 0.05, its last two steps and the scaling up to half a unit in the last
    // place each, which is up to 1 of 2^-24. silu adds an add, a product and a division; softplus a
    // division, the atanh series and a sum.
    static const struct elementary functions[] = {
        {"exp",      exp,            -87.0, 88.0, 2.5, UINT64_C(0xc46333f6d28568b5)},
        {"silu",     exact_silu,     -80.0, 80.0, 5.0, UINT64_C(0xe7cb46bb190330c2)},
        {"softplus", exact_softplus, -87.0, 60.0, 8.0, UINT64_C(0x28920db7c93af462)},
    };
    const char *isa[ISAS_MOST];
    const size_t isas = cpu_isa_list(isa, ISAS_MOST);
    (void)state;
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        check_elementary(&functions[i], isa, isas);
    }
}

static void test_elementary_edges(void **state) {
    const char *isa[ISAS_MOST];
    const size_t isas = cpu_isa_list(isa, ISAS_MOST);
    const float in[7] = {0.0f, -87.01f, -1e30f, -INFINITY, NAN, 1e30f, 1e-40f};
    float out[7];
    (void)state;
    for (size_t i = 0; i < isas; i++) {
        const struct cpu_kernels *kernels = cpu_kernels_find(isa[i]);
        apply(kernels, "exp", in, 7, out);
        assert_true(out[0] == 1.0f && out[1] == 0.0f && out[2] == 0.0f && out[3] == 0.0f);
        assert_true(isnan(out[4]) && isfinite(out[5]) && out[5] > 1e38f && out[6] == 1.0f);
        apply(kernels, "silu", in, 7, out);
        assert_true(out[0] == 0.0f && out[2] == 0.0f && isnan(out[4]) && out[5] == in[5]);
        apply(kernels, "softplus", in, 7, out);
        assert_true(out[2] == 0.0f && out[3] == 0.0f && isnan(out[4]) && out[5] == in[5]);
    }
}

struct flushing {
    _Atomic int64_t calls, flushed, workers_seen;
};

struct flushing_job {
    struct flushing *seen;
    volatile float tiny;
};

static void see_mode(int64_t index, int64_t worker, const void *argument) {
    const struct flushing_job *job = argument;
    (void)index;
    atomic_fetch_add(&job->seen->calls, 1);
    atomic_fetch_or(&job->seen->workers_seen, INT64_C(1) << worker);
    const volatile float half = job->tiny * 0.5f;
    if (float_mode_flushes() && half == 0.0f) atomic_fetch_add(&job->seen->flushed, 1);
}

// Every thread of a team flushes, and the caller only while it works for the team.
static void test_flush(void **state) {
    struct team *team = NULL;
    struct flushing seen = {0};
    const struct flushing_job job = {&seen, 0x1p-126f};
    (void)state;
    const bool before = float_mode_flushes();
    assert_int_equal(team_open(THREADS_MOST, &team), STATUS_OK);
    while (atomic_load(&seen.workers_seen) != (1 << THREADS_MOST) - 1) {
        team_run(team, 1000, see_mode, &job);
    }
    assert_int_equal(atomic_load(&seen.calls), atomic_load(&seen.flushed));
    assert_int_equal(float_mode_flushes(), before);
    team_close(team);
}

struct counting {
    _Atomic int64_t *times;
    int64_t count;
};

static void count_index(int64_t index, int64_t worker, const void *argument) {
    const struct counting *counting = argument;
    assert_true(worker >= 0 && worker < THREADS_MOST && index < counting->count);
    atomic_fetch_add_explicit(&counting->times[index], 1, memory_order_relaxed);
}

// Every index once, for counts around the number of workers and above the number of blocks, with
// pauses that let the workers fall asleep in between.
static void test_team(void **state) {
    static const int64_t counts[] = {0, 1, 2, 3, 5, 64, 1000, 65535, 65536, 200003};
    struct team *team = NULL;
    (void)state;
    assert_int_equal(team_open(THREADS_MOST, &team), STATUS_OK);
    for (int64_t turn = 0; turn < 200; turn++) {
        const int64_t count = counts[turn % (turn < 20 ? 10 : 7)];
        struct counting counting = {calloc((size_t)count + 1, sizeof *counting.times), count};
        assert_non_null(counting.times);
        team_run(team, count, count_index, &counting);
        for (int64_t i = 0; i < count; i++) {
            assert_int_equal(atomic_load(&counting.times[i]), 1);
        }
        free(counting.times);
        if (turn % 8 == 0) nanosleep(&(struct timespec){0, 200000}, NULL);
    }
    team_close(team);
    team_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_team),       cmocka_unit_test(test_flush),
        cmocka_unit_test(test_elementary), cmocka_unit_test(test_elementary_edges),
        cmocka_unit_test(test_rows),       cmocka_unit_test(test_head),
        cmocka_unit_test(test_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
