// The row-wise operators of the CPU backend against plain loops in double, over shapes with odd
// sizes, strides, one to three threads and every instruction set of this machine.

#include "ops/cpu/cpu_backend.h"
#include "ops/op.h"
#include "ops/ref/ref.h"
#include "tests/cpu_case.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct {
    int64_t rows, columns, stride;
} shapes[8] = {
    {1,  1,    1   },
    {3,  15,   15  },
    {17, 16,   40  },
    {5,  17,   17  },
    {33, 63,   64  },
    {2,  768,  768 },
    {70, 129,  131 },
    {9,  1536, 3352},
};

// A sum of n squares in f32 lanes is off by at most n / 16 + 4 roundings, far below 1e-5 here, and
// its root by half of that.
static void check_rms_norm(struct backend *backend, int64_t turn) {
    uint64_t seed = 11 + (uint64_t)turn;
    const int64_t columns = shapes[turn].columns;
    struct matrix in = draw_matrix(&seed, shapes[turn].rows, columns, shapes[turn].stride, 3.0f);
    struct matrix out = draw_matrix(&seed, in.rows, columns, columns + 3, 1.0f);
    struct matrix want = copy_of(&out);
    float *weight = draw_many(&seed, columns, 2.0f);
    struct rms_norm_args args = {in, out, weight, 1e-5f};
    assert_int_equal(op_rms_norm(backend, &args), STATUS_OK);
    args.out = want;
    ref_rms_norm(&args);
    compare(&out, &want, 1e-5, 1e-30);
    free(weight);
    free(want.data);
    free(out.data);
    free(in.data);
}

static void test_rms_norm(void **state) {
    (void)state;
    with_backends(check_rms_norm);
}

// silu adds 4 units in the last place to what rms_norm has.
static void check_gated_norm(struct backend *backend, int64_t turn) {
    uint64_t seed = 21 + (uint64_t)turn;
    const int64_t groups = turn % 3 + 1;
    const int64_t columns = shapes[turn].columns * groups;
    struct matrix y = draw_matrix(&seed, shapes[turn].rows, columns, columns, 2.0f);
    struct matrix z = draw_matrix(&seed, y.rows, columns, columns + 5, 25.0f);
    struct matrix out = draw_matrix(&seed, y.rows, columns, columns + 1, 1.0f);
    struct matrix want = copy_of(&out);
    float *weight = draw_many(&seed, columns, 2.0f);
    struct gated_norm_args args = {y, z, out, weight, groups, 1e-5f, turn % 2 == 1};
    assert_int_equal(op_gated_norm(backend, &args), STATUS_OK);
    args.out = want;
    ref_gated_norm(&args);
    compare(&out, &want, 1e-5, 1e-30);

    // In place, as the model calls it.
    args.out = y;
    assert_int_equal(op_gated_norm(backend, &args), STATUS_OK);
    for (int64_t t = 0; t < y.rows; t++) {
        assert_memory_equal(y.data + t * y.stride, out.data + t * out.stride,
                            (size_t)columns * sizeof(float));
    }
    free(weight);
    free(want.data);
    free(out.data);
    free(z.data);
    free(y.data);
}

static void test_gated_norm(void **state) {
    (void)state;
    with_backends(check_gated_norm);
}

// softplus is good to 4 units in the last place; the sum in + bias is rounded once, which moves the
// result by as much as half a unit of its larger part, hence the tenfold room. Results below 1e-37
// are flushed to zero.
static void check_dt(struct backend *backend, int64_t turn) {
    uint64_t seed = 31 + (uint64_t)turn;
    const int64_t columns = shapes[turn].columns;
    struct matrix in = draw_matrix(&seed, shapes[turn].rows, columns, shapes[turn].stride, 40.0f);
    struct matrix out = draw_matrix(&seed, in.rows, columns, columns, 1.0f);
    struct matrix want = copy_of(&out);
    float *bias = draw_many(&seed, columns, 8.0f);
    const float least = turn % 2 == 0 ? 0.0f : 0.001f;
    const float most = turn % 2 == 0 ? INFINITY : 30.0f;
    struct dt_args args = {in, out, bias, least, most};
    assert_int_equal(op_dt(backend, &args), STATUS_OK);
    args.out = want;
    ref_dt(&args);
    compare(&out, &want, 3e-6, 1e-37);
    free(bias);
    free(want.data);
    free(out.data);
    free(in.data);
}

static void test_dt(void **state) {
    (void)state;
    with_backends(check_dt);
}

static void check_embedding(struct backend *backend, int64_t turn) {
    uint64_t seed = 41 + (uint64_t)turn;
    const int64_t columns = shapes[turn].columns;
    struct matrix weight = draw_matrix(&seed, 23, columns, columns, 1.0f);
    struct matrix out = draw_matrix(&seed, shapes[turn].rows, columns, shapes[turn].stride, 1.0f);
    struct matrix want = copy_of(&out);
    int32_t token[128];
    for (int64_t t = 0; t < out.rows; t++) {
        token[t] = (int32_t)(t * 7 % 23);
    }
    struct embedding_args args = {token, weight, out};
    assert_int_equal(op_embedding(backend, &args), STATUS_OK);
    args.out = want;
    ref_embedding(&args);
    compare(&out, &want, 0.0, 0.0);
    free(want.data);
    free(out.data);
    free(weight.data);
}

static void test_embedding(void **state) {
    (void)state;
    with_backends(check_embedding);
}

// A chain of k roundings of sums as large as |in| |weight| sqrt(k): 1e-5 of that is ample, and a
// wrong or missing term is of the order of 1.
static void check_linear(struct backend *backend, int64_t turn) {
    static const int64_t outputs[8] = {1, 63, 64, 65, 200, 768, 3, 130};
    uint64_t seed = 51 + (uint64_t)turn;
    const int64_t inputs = shapes[turn].columns;
    struct matrix in = draw_matrix(&seed, shapes[turn].rows, inputs, shapes[turn].stride, 1.0f);
    struct matrix out = draw_matrix(&seed, in.rows, outputs[turn], outputs[turn] + turn, 1.0f);
    struct matrix want = copy_of(&out);
    float *weight = draw_many(&seed, outputs[turn] * inputs, 1.0f);
    float *bias = draw_many(&seed, outputs[turn], 1.0f);
    struct packed_weight *packed = NULL;
    struct linear_args args = {in, NULL, turn % 2 == 0 ? bias : NULL, out, turn % 4 >= 2};
    assert_int_equal(backend->table->pack(backend, weight, outputs[turn], inputs, &packed),
                     STATUS_OK);
    args.weight = packed;
    assert_int_equal(op_linear(backend, &args), STATUS_OK);
    args.out = want;
    ref_linear(&args, weight);
    compare(&out, &want, 1e-6, 1e-5 * sqrt((double)inputs));
    backend->table->release_packed(backend, packed);
    free(bias);
    free(weight);
    free(want.data);
    free(out.data);
    free(in.data);
}

static void test_linear(void **state) {
    (void)state;
    with_backends(check_linear);
}

static void test_settings(void **state) {
    const char *isa[ISAS_MOST];
    struct backend *backend = NULL;
    const size_t count = cpu_isa_list(isa, ISAS_MOST);
    (void)state;
    assert_true(count >= 1 && count <= ISAS_MOST);
    assert_string_equal(isa[count - 1], "scalar");
    assert_true(cpu_cores() >= 1);

    struct cpu_backend_settings settings = {.isa = "z80"};
    assert_int_equal(cpu_backend_open(&settings, &backend), STATUS_USAGE);
    settings = (struct cpu_backend_settings){.window_tokens = 100};
    assert_int_equal(cpu_backend_open(&settings, &backend), STATUS_USAGE);
    settings = (struct cpu_backend_settings){.threads = -1};
    assert_int_equal(cpu_backend_open(&settings, &backend), STATUS_USAGE);
    assert_null(backend);

    settings = (struct cpu_backend_settings){.window_tokens = 128};
    assert_int_equal(cpu_backend_open(&settings, &backend), STATUS_OK);
    assert_int_equal(backend->window_tokens, 128);
    assert_int_equal(CHUNK_TOKENS % backend->tile_tokens, 0);
    assert_int_equal(backend->window_tokens % backend->tile_tokens, 0);
    assert_true(strlen(backend->numerics) > 0);
    backend->table->close(backend);
}

// A wrong shape is a bug, and no operator runs with it.
static void test_checks(void **state) {
    struct backend *backend = open_backend("auto", 1);
    float numbers[64] = {0};
    const struct rms_norm_args wrong[] = {
        {{numbers, 2, 8, 8}, {numbers, 2, 7, 8}, numbers, 1e-5f},
        {{numbers, 2, 8, 8}, {numbers, 3, 8, 8}, numbers, 1e-5f},
        {{numbers, 2, 8, 7}, {numbers, 2, 8, 8}, numbers, 1e-5f},
        {{numbers, 2, 8, 8}, {NULL, 2, 8, 8},    numbers, 1e-5f},
        {{numbers, 2, 8, 8}, {numbers, 2, 8, 8}, NULL,    1e-5f},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int how = 0;
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            signal(SIGABRT, SIG_DFL);
            _exit(op_rms_norm(backend, &wrong[i]) == STATUS_OK ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGABRT);
    }
    backend->table->close(backend);
}

static void set_seven(void *argument) {
    *(int *)argument = 7;
}

static void test_memory(void **state) {
    struct backend *backend = open_backend("auto", 2);
    const struct backend_table *table = backend->table;
    float from[100];
    float back[100];
    int seven = 0;
    void *memory = NULL;
    (void)state;
    for (int i = 0; i < 100; i++) {
        from[i] = (float)i;
    }
    for (size_t bytes = sizeof from; bytes < (size_t)64 << 20; bytes *= 37) {
        assert_int_equal(table->alloc(backend, bytes, &memory), STATUS_OK);
        assert_int_equal((uintptr_t)memory % 64, 0);
        for (size_t i = 0; i < bytes; i += 64) {
            assert_int_equal(((const char *)memory)[i], 0);
        }
        assert_int_equal(table->upload(backend, memory, from, sizeof from), STATUS_OK);
        assert_int_equal(table->download(backend, back, memory, sizeof back), STATUS_OK);
        assert_int_equal(table->call(backend, set_seven, &seven), STATUS_OK);
        assert_int_equal(table->wait(backend), STATUS_OK);
        assert_memory_equal(from, back, sizeof from);
        assert_int_equal(seven, 7);
        table->release(backend, memory);
    }
    table->release(backend, NULL);
    table->close(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rms_norm), cmocka_unit_test(test_gated_norm),
        cmocka_unit_test(test_dt),       cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_linear),   cmocka_unit_test(test_settings),
        cmocka_unit_test(test_memory),   cmocka_unit_test(test_checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
