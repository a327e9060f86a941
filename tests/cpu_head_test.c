// The head of the CPU backend, and what it says the next token is, against plain loops in double, on every
// instruction set of this machine.

#include "ops/op.h"
#include "ops/ref/ref.h"
#include "tests/cpu_case.h"

struct head_case {
    struct matrix in;
    int64_t vocab;
    float *weight;
    int32_t *target;
    struct packed_weight *packed;
};

static struct head_case head_make(struct backend *backend, uint64_t *seed, int64_t rows,
                                  int64_t width, int64_t vocab) {
    struct head_case made = {.in = draw_matrix(seed, rows, width, width + 2, 2.0f), .vocab = vocab};
    made.weight = draw_many(seed, vocab * width, 1.0f);
    made.target = malloc((size_t)rows * sizeof *made.target);
    assert_non_null(made.target);
    for (int64_t t = 0; t < rows; t++) {
        made.target[t] = t % 5 == 4 ? -1 : (int32_t)((t * 977 + vocab - 1) % vocab);
    }
    assert_int_equal(backend->table->pack(backend, made.weight, vocab, width, &made.packed),
                     STATUS_OK);
    return made;
}

static void head_free(struct backend *backend, struct head_case *made) {
    backend->table->release_packed(backend, made->packed);
    free(made->target);
    free(made->weight);
    free(made->in.data);
}

// Logits as large as 2 width lose 1e-6 of that; the sum over the vocabulary another 1e-6.
static void check_head(struct backend *backend, int64_t turn) {
    static const int64_t vocab[8] = {1, 2, 63, 256, 1024, 1025, 2500, 5001};
    static const int64_t rows[8] = {1, 7, 16, 33, 100, 50, 8, 61};
    uint64_t seed = 61 + (uint64_t)turn;
    struct head_case head = head_make(backend, &seed, rows[turn], 13 + 9 * turn, vocab[turn]);
    struct matrix got = draw_matrix(&seed, 1, rows[turn], rows[turn], 1.0f);
    struct matrix want = copy_of(&got);
    struct head_args args = {head.in, head.packed, head.target, got.data};
    assert_int_equal(op_head(backend, &args), STATUS_OK);
    for (int64_t t = 0; t < rows[turn]; t++) {
        assert_true(got.data[t] >= 0.0f);
    }
    args.nll = want.data;
    ref_head(&args, head.weight, head.vocab);
    compare(&got, &want, 2e-6, 1e-6 * (double)head.in.columns);
    free(want.data);
    free(got.data);
    head_free(backend, &head);
}

static void test_head(void **state) {
    (void)state;
    with_backends(check_head);
}

// A batch none of whose rows predicts anything, and logits that are not finite.
static void check_head_edges(struct backend *backend, int64_t turn) {
    uint64_t seed = 71 + (uint64_t)turn;
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    const int64_t rows = 20;
    struct head_case head = head_make(backend, &seed, rows, 24, 1500);
    float nll[20];
    struct head_args args = {head.in, head.packed, head.target, nll};
    head.in.data[7 * head.in.stride + 3] = bad[turn % 3];
    assert_int_equal(op_head(backend, &args), STATUS_OK);
    for (int64_t t = 0; t < rows; t++) {
        assert_int_equal(isfinite(nll[t]) != 0, t != 7);
        if (head.target[t] < 0) assert_true(nll[t] == 0.0f);
    }
    for (int64_t t = 0; t < rows; t++) {
        head.target[t] = -1;
        nll[t] = 5.0f;
    }
    assert_int_equal(op_head(backend, &args), STATUS_OK);
    for (int64_t t = 0; t < rows; t++) {
        assert_true(nll[t] == 0.0f);
    }
    head_free(backend, &head);
}

static void test_head_edges(void **state) {
    (void)state;
    with_backends(check_head_edges);
}

// Bits, as nothing is rounded but the difference. NaN has many.
static void expect_best(const struct best_token *got, const struct best_token *want, int64_t rows) {
    for (int64_t t = 0; t < rows; t++) {
        assert_int_equal(got[t].token, want[t].token);
        if (isnan(want[t].margin) && isnan(got[t].margin)) continue;
        assert_memory_equal(&got[t].margin, &want[t].margin, sizeof want->margin);
    }
}

// Every other turn logits of a few values only, so that the greatest is there many times.
static void check_best(struct backend *backend, int64_t turn) {
    static const int64_t vocab[8] = {1, 2, 63, 256, 1024, 1025, 2500, 50288};
    static const int64_t rows[8] = {1, 7, 16, 33, 100, 50, 8, 61};
    uint64_t seed = 81 + (uint64_t)turn;
    struct matrix logits = draw_matrix(&seed, rows[turn], vocab[turn], vocab[turn] + turn, 4.0f);
    struct best_token got[100], want[100];
    int32_t target[100];
    for (int64_t i = 0; turn % 2 == 1 && i < logits.rows * logits.stride; i++) {
        logits.data[i] = truncf(logits.data[i]);
    }
    for (int64_t t = 0; t < rows[turn]; t++) {
        target[t] = t % 5 == 4 ? -1 : (int32_t)((t * 977 + vocab[turn] - 1) % vocab[turn]);
    }
    const struct best_args args = {logits, target, got};
    const struct best_args ref = {logits, target, want};
    assert_int_equal(op_best(backend, &args), STATUS_OK);
    ref_best(&ref);
    expect_best(got, want, rows[turn]);
    free(logits.data);
}

static void test_best(void **state) {
    (void)state;
    with_backends(check_best);
}

// Ties, and logits that are not finite: what the reference is for them is said here too.
static void check_best_edges(struct backend *backend, int64_t turn) {
    static float logits[][5] = {
        {1.0f,      3.0f,      2.0f,      3.0f,      3.0f     },
        {1.0f,      3.0f,      2.0f,      3.0f,      0.0f     },
        {-0.0f,     0.0f,      -1.0f,     0.0f,      -0.0f    },
        {NAN,       -5.0f,     NAN,       -4.0f,     NAN      },
        {NAN,       NAN,       NAN,       NAN,       NAN      },
        {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY},
        {NAN,       -INFINITY, 1.0f,      INFINITY,  INFINITY },
        {2.0f,      NAN,       1.0f,      0.0f,      0.0f     },
    };
    static const struct best_token want[] = {
        {1, 0.0f    },
        {1, 0.0f    },
        {0, 0.0f    },
        {3, -1.0f   },
        {0, NAN     },
        {0, NAN     },
        {3, INFINITY},
        {0, NAN     }
    };
    static const int32_t target[] = {3, 1, 1, 1, 2, 0, 3, 1};
    struct best_token got[8], same[8];
    const struct best_args args = {
        {logits[0], 8, 5, 5},
        target, got
    };
    const struct best_args ref = {
        {logits[0], 8, 5, 5},
        target, same
    };
    logits[6][4] = turn % 2 == 0 ? 5.0f : 6.0f; // one infinite logit alone leads by as much
    assert_int_equal(op_best(backend, &args), STATUS_OK);
    ref_best(&ref);
    expect_best(got, want, 8);
    expect_best(same, want, 8);
}

static void test_best_edges(void **state) {
    (void)state;
    with_backends(check_best_edges);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_head_edges),
        cmocka_unit_test(test_best),
        cmocka_unit_test(test_best_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
