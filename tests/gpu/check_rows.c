// The operators that work row by row: the CPU's bits, for odd widths, strides and numbers of rows,
// and the extremes of their elementary functions.

#include "ops/op.h"
#include "tests/gpu/check.h"

static const struct {
    int64_t rows, columns, more;
} shapes[] = {
    {1,    1,    0  },
    {3,    15,   0  },
    {17,   16,   24 },
    {5,    17,   1  },
    {33,   63,   1  },
    {2,    768,  0  },
    {70,   129,  2  },
    {9,    1536, 100},
    {257,  48,   3  },
    {1000, 2560, 0  },
};
#define SHAPES (int)(sizeof shapes / sizeof shapes[0])

static void check_embedding(const struct world *world, struct tally *tally, int s) {
    struct matrix weight = drawn(1, 77, shapes[s].columns, 1, 1.0f);
    struct matrix want = drawn(2, shapes[s].rows, shapes[s].columns, shapes[s].more, 1.0f);
    struct matrix got = copy_of(&want);
    int32_t token[1000];
    for (int64_t i = 0; i < shapes[s].rows; i++) {
        token[i] = (int32_t)((i * 31 + 76) % 77);
    }
    MUST(op_embedding(world->cpu, &(struct embedding_args){token, weight, want}));
    MUST(op_embedding(world->cuda, &(struct embedding_args){token, weight, got}));
    expect(tally, same_bits(&got, &want), "embedding, shape %d", s);
    free(weight.data);
    free(want.data);
    free(got.data);
}

// In place too, which both norms allow.
static void check_norms(const struct world *world, struct tally *tally, int s, float scale) {
    const int64_t columns = shapes[s].columns;
    struct matrix in = drawn(3, shapes[s].rows, columns, shapes[s].more, scale);
    struct matrix z = drawn(4, shapes[s].rows, columns, 5, 100.0f);
    struct matrix want = drawn(5, shapes[s].rows, columns, 2, 1.0f);
    struct matrix got = copy_of(&want);
    float *weight = drawn_floats(6, columns, 2.0f);
    MUST(op_rms_norm(world->cpu, &(struct rms_norm_args){in, want, weight, 1e-5f}));
    MUST(op_rms_norm(world->cuda, &(struct rms_norm_args){in, got, weight, 1e-5f}));
    expect(tally, same_bits(&got, &want), "rms_norm, shape %d, scale %g", s, (double)scale);
    for (int64_t groups = 1; groups <= 8; groups *= 2) {
        if (columns % groups != 0) break;
        for (int first = 0; first < 2; first++) {
            struct gated_norm_args args = {in, z, want, weight, groups, 1e-5f, first == 1};
            MUST(op_gated_norm(world->cpu, &args));
            args.out = got;
            MUST(op_gated_norm(world->cuda, &args));
            expect(tally, same_bits(&got, &want), "gated_norm, shape %d, groups %d, order %d", s,
                   (int)groups, first);
        }
    }
    struct matrix place = copy_of(&in), cpu_place = copy_of(&in);
    MUST(op_rms_norm(world->cpu, &(struct rms_norm_args){cpu_place, cpu_place, weight, 1e-5f}));
    MUST(op_rms_norm(world->cuda, &(struct rms_norm_args){place, place, weight, 1e-5f}));
    expect(tally, same_bits(&place, &cpu_place), "rms_norm in place, shape %d", s);
    free(in.data);
    free(z.data);
    free(want.data);
    free(got.data);
    free(place.data);
    free(cpu_place.data);
    free(weight);
}

static void check_dt(const struct world *world, struct tally *tally, int s, float scale) {
    struct matrix in = drawn(7, shapes[s].rows, shapes[s].columns, shapes[s].more, scale);
    struct matrix want = drawn(8, shapes[s].rows, shapes[s].columns, 1, 1.0f);
    struct matrix got = copy_of(&want);
    float *bias = drawn_floats(9, shapes[s].columns, 1.0f);
    static const float bounds[][2] = {
        {0.0f,  INFINITY},
        {0.01f, 0.1f    }
    };
    for (int b = 0; b < 2; b++) {
        struct dt_args args = {in, want, bias, bounds[b][0], bounds[b][1]};
        MUST(op_dt(world->cpu, &args));
        args.out = got;
        MUST(op_dt(world->cuda, &args));
        expect(tally, same_bits(&got, &want), "dt, shape %d, scale %g, bounds %d", s, (double)scale,
               b);
    }
    free(in.data);
    free(want.data);
    free(got.data);
    free(bias);
}

// A few values only, so that the greatest is there many times; and logits that are not finite.
static void check_best(const struct world *world, struct tally *tally, int s, bool spoilt) {
    static const float bad[3] = {NAN, INFINITY, -INFINITY};
    const int64_t rows = shapes[s].rows, columns = shapes[s].columns;
    struct matrix logits = drawn(10, rows, columns, shapes[s].more, 4.0f);
    struct best_token want[1000], got[1000];
    int32_t target[1000];
    for (int64_t r = 0; r < rows; r++) {
        float *row = logits.data + r * logits.stride;
        for (int64_t c = 0; c < columns; c++) {
            if (r % 2 == 1) row[c] = truncf(row[c]);
            if (spoilt && (r % 5 == 0 || (r + c) % 3 == 0)) row[c] = bad[r % 3];
        }
        target[r] = r % 7 == 3 ? -1 : (int32_t)((r * 37 + columns - 1) % columns);
    }
    MUST(op_best(world->cpu, &(struct best_args){logits, target, want}));
    MUST(op_best(world->cuda, &(struct best_args){logits, target, got}));
    expect(tally, same_best(got, want, rows), "best, shape %d%s", s, spoilt ? ", not finite" : "");
    free(logits.data);
}

bool check_rows(const struct world *world) {
    struct tally tally = {.part = "rows"};
    for (int s = 0; s < (world->small ? 5 : SHAPES); s++) {
        check_embedding(world, &tally, s);
        check_norms(world, &tally, s, 3.0f);
        check_norms(world, &tally, s, 1e-18f); // squares are denormal, and flushed
        check_dt(world, &tally, s, 3.0f);
        check_dt(world, &tally, s, 150.0f); // both ends of exp and softplus
        check_best(world, &tally, s, false);
        check_best(world, &tally, s, true);
    }
    printf("rows: %d cases, %d wrong\n", tally.cases, tally.failures);
    return tally.failures == 0;
}
