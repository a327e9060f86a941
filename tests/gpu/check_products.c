// linear: in f32 the CPU's bits; in other formats sums in double of the rounded numbers, within what
// adding in f32 costs. In all formats a row's bits whatever the rows beside it.

#include "ops/op.h"
#include "tests/gpu/check.h"

static const struct {
    int64_t rows, inputs, outputs;
} shapes[] = {
    {1,   1,    1   },
    {3,   48,   77  },
    {65,  33,   231 },
    {130, 64,   128 },
    {7,   257,  129 },
    {300, 768,  3352},
    {129, 1536, 768 },
};
#define SHAPES (int)(sizeof shapes / sizeof shapes[0])

static const char *name_of(enum plugin_dtype dtype) {
    static const char *const names[] = {
        [PLUGIN_F32] = "f32", [PLUGIN_TF32] = "tf32", [PLUGIN_BF16] = "bf16", [PLUGIN_F16] = "f16"};
    return names[dtype];
}

// The nearest number with so many bits fewer behind the point; ties to even, or away from zero.
static double rounded(enum plugin_dtype dtype, float value) {
    const int bits = dtype == PLUGIN_BF16 ? 16 : 13;
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    const uint32_t half = UINT32_C(1) << (bits - 1);
    const uint32_t odd = word >> bits & 1;
    word += dtype == PLUGIN_TF32 ? half : half - 1 + odd;
    word &= ~((UINT32_C(1) << bits) - 1);
    memcpy(&value, &word, sizeof value);
    return (double)value;
}

// |got - want| within what f32 sums of so many products may be off.
static bool close_enough(const struct linear_args *args, enum plugin_dtype dtype,
                         const float *weight, const struct matrix *before,
                         const struct matrix *got) {
    const int64_t inputs = args->in.columns;
    for (int64_t r = 0; r < got->rows; r++) {
        for (int64_t n = 0; n < got->columns; n++) {
            double sum = 0.0, size = 0.0;
            for (int64_t k = 0; k < inputs; k++) {
                const double x = rounded(dtype, args->in.data[r * args->in.stride + k]);
                const double product = x * rounded(dtype, weight[n * inputs + k]);
                sum += product;
                size += fabs(product);
            }
            if (args->bias != NULL) sum += (double)args->bias[n];
            if (args->add) sum += (double)before->data[r * before->stride + n];
            const double allowed = ((double)inputs / 8.0 + 4.0) * 0x1p-23 * (size + fabs(sum));
            const double error = fabs((double)got->data[r * got->stride + n] - sum);
            if (!(error <= allowed)) {
                printf("row %lld, output %lld: %.9g, expected %.9g\n", (long long)r, (long long)n,
                       (double)got->data[r * got->stride + n], sum);
                return false;
            }
        }
    }
    return true;
}

static bool agrees(const struct world *world, struct backend *cuda, enum plugin_dtype dtype,
                   const float *weight, const struct linear_args *args) {
    struct packed_weight *packed = NULL;
    const int64_t outputs = args->out.columns, inputs = args->in.columns;
    struct matrix got = copy_of(&args->out), want = copy_of(&args->out);
    struct linear_args run = *args;
    MUST(cuda->table->pack(cuda, weight, outputs, inputs, &packed));
    run.weight = packed;
    run.out = got;
    MUST(op_linear(cuda, &run));
    cuda->table->release_packed(cuda, packed);
    bool right;
    if (dtype == PLUGIN_F32) {
        MUST(world->cpu->table->pack(world->cpu, weight, outputs, inputs, &packed));
        run.weight = packed;
        run.out = want;
        MUST(op_linear(world->cpu, &run));
        world->cpu->table->release_packed(world->cpu, packed);
        right = same_bits(&got, &want);
    } else {
        right = close_enough(args, dtype, weight, &args->out, &got);
    }
    free(got.data);
    free(want.data);
    return right;
}

// A row among others, alone, moved by one to five places, in half the rows; and beside rows of NaN.
static void check_places_of(struct backend *cuda, struct tally *tally, int s) {
    const int64_t rows = shapes[s].rows < 140 ? shapes[s].rows : 140;
    const int64_t inputs = shapes[s].inputs, outputs = shapes[s].outputs;
    struct matrix in = drawn(21, rows + 5, inputs, 1, 1.0f);
    struct matrix whole = drawn(22, rows + 5, outputs, 3, 1.0f);
    float *weight = drawn_floats(23, outputs * inputs, 1.0f);
    const size_t row_bytes = (size_t)outputs * sizeof(float);
    struct packed_weight *packed = NULL;
    MUST(cuda->table->pack(cuda, weight, outputs, inputs, &packed));
    MUST(op_linear(cuda, &(struct linear_args){in, packed, NULL, whole, false}));
    for (int64_t shift = 0; shift <= 5; shift++) {
        const int64_t some = shift == 0 ? 1 : shift == 1 ? (rows + 1) / 2 : rows;
        struct matrix part = drawn(24, some, outputs, 0, 1.0f);
        const struct matrix moved = rows_of(&in, shift, some);
        MUST(op_linear(cuda, &(struct linear_args){moved, packed, NULL, part, false}));
        bool same = true;
        for (int64_t r = 0; r < some; r++) {
            same = same && memcmp(part.data + r * part.stride,
                                  whole.data + (shift + r) * whole.stride, row_bytes) == 0;
        }
        expect(tally, same, "shape %d, rows moved by %d: other bits", s, (int)shift);
        free(part.data);
    }
    struct matrix spoilt = copy_of(&in), out = copy_of(&whole);
    for (int64_t r = 0; r < spoilt.rows; r++) {
        if (r % 3 == 1) spoilt.data[r * spoilt.stride + r % inputs] = r % 2 == 0 ? NAN : INFINITY;
    }
    MUST(op_linear(cuda, &(struct linear_args){spoilt, packed, NULL, out, false}));
    bool same = true;
    for (int64_t r = 0; r < spoilt.rows; r++) {
        if (r % 3 == 1) continue;
        same = same &&
               memcmp(out.data + r * out.stride, whole.data + r * whole.stride, row_bytes) == 0;
    }
    expect(tally, same, "shape %d, NaN in other rows: other bits", s);
    cuda->table->release_packed(cuda, packed);
    free(in.data);
    free(whole.data);
    free(spoilt.data);
    free(out.data);
    free(weight);
}

bool check_products(const struct world *world, enum plugin_dtype dtype) {
    struct tally tally = {.part = name_of(dtype)};
    struct backend *cuda = NULL;
    // A window shorter than some cases: products go by blocks of so many rows.
    MUST(mirror_open(world->plugin, dtype, 128, &cuda));
    for (int s = 0; s < (world->small ? 5 : SHAPES); s++) {
        struct matrix in = drawn(11, shapes[s].rows, shapes[s].inputs, s % 3, 1.0f);
        struct matrix out = drawn(12, shapes[s].rows, shapes[s].outputs, s % 4, 1.0f);
        float *bias = drawn_floats(13, shapes[s].outputs, 1.0f);
        float *weight = drawn_floats(14, shapes[s].outputs * shapes[s].inputs, 1.0f);
        for (int turn = 0; turn < (s < 5 ? 4 : 1); turn++) {
            const struct linear_args args = {in, NULL, turn % 2 == 0 ? NULL : bias, out, turn >= 2};
            expect(&tally, agrees(world, cuda, dtype, weight, &args), "shape %d, turn %d", s, turn);
        }
        free(in.data);
        free(out.data);
        free(bias);
        free(weight);
        check_places_of(cuda, &tally, s);
    }
    cuda->table->close(cuda);
    printf("products, %s: %d cases, %d wrong\n", name_of(dtype), tally.cases, tally.failures);
    return tally.failures == 0;
}

// The head: the CPU's bits in f32, else the CPU's numbers for rounded inputs, nearly. Rows without a
// target; targets at both ends; vocabularies around a block of 1024; one logit far above.
bool check_head(const struct world *world, enum plugin_dtype dtype) {
    static const int64_t vocabularies[] = {1, 77, 256, 1024, 1025, 2100, 17000};
    struct tally tally = {.part = "head"};
    struct backend *cuda = NULL;
    const int64_t rows = 71, inputs = 96;
    float want[71], got[71];
    int32_t target[71];
    MUST(mirror_open(world->plugin, dtype, 64, &cuda));
    for (size_t v = 0; v < (world->small ? 5 : sizeof vocabularies / sizeof vocabularies[0]); v++) {
        const int64_t outputs = vocabularies[v];
        struct packed_weight *packed = NULL, *cpu_packed = NULL;
        struct matrix in = drawn(31 + v, rows, inputs, 2, 1.0f);
        float *weight = drawn_floats(32 + v, outputs * inputs, 1.0f);
        for (int64_t k = 0; k < inputs; k++) {
            in.data[5 * in.stride + k] = 60.0f * weight[outputs / 2 * inputs + k];
        }
        MUST(cuda->table->pack(cuda, weight, outputs, inputs, &packed));
        for (int64_t i = 0; dtype != PLUGIN_F32 && i < outputs * inputs; i++) {
            weight[i] = (float)rounded(dtype, weight[i]);
        }
        MUST(world->cpu->table->pack(world->cpu, weight, outputs, inputs, &cpu_packed));
        for (int64_t r = 0; r < rows; r++) {
            target[r] = r % 7 == 3   ? -1
                        : r % 7 == 4 ? 0
                                     : (int32_t)((r * 37 + outputs - 1) % outputs);
            got[r] = want[r] = -7.0f;
        }
        MUST(op_head(cuda, &(struct head_args){in, packed, target, got}));
        for (int64_t i = 0; dtype != PLUGIN_F32 && i < rows * in.stride; i++) {
            in.data[i] = (float)rounded(dtype, in.data[i]);
        }
        MUST(op_head(world->cpu, &(struct head_args){in, cpu_packed, target, want}));
        bool right = true;
        for (int64_t r = 0; r < rows; r++) {
            const double error = fabs((double)got[r] - (double)want[r]);
            right = right && (dtype == PLUGIN_F32 || target[r] < 0
                                  ? memcmp(&got[r], &want[r], sizeof got[r]) == 0
                                  : error <= 1e-4 * (1.0 + fabs((double)want[r])));
        }
        expect(&tally, right, "%s, vocabulary of %d", name_of(dtype), (int)outputs);
        cuda->table->release_packed(cuda, packed);
        world->cpu->table->release_packed(world->cpu, cpu_packed);
        free(in.data);
        free(weight);
    }
    cuda->table->close(cuda);
    printf("head, %s: %d cases, %d wrong\n", name_of(dtype), tally.cases, tally.failures);
    return tally.failures == 0;
}
