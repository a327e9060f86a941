// op_bench [rows [threads [repeats [isa]]]]: the matrix products of one step of a 130m model, ours in
// each dtype and OpenBLAS's in turn, so that a busy machine slows all. Medians; GF/s count 2 rows N K.

#define _GNU_SOURCE // setenv beside dlopen's constants

#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "ops/cpu/cpu_backend.h"
#include "ops/op.h"
#include "tests/bench/openblas.h"

#define LAYERS       24
#define D_MODEL      768
#define D_INNER      1536
#define IN_PROJ      3352
#define VOCAB        50288
#define REPEATS_MOST 101

enum part { PART_IN, PART_OUT, PART_HEAD, PARTS };

static const struct {
    const char *name;
    int64_t outputs, inputs, count;
} parts[PARTS] = {
    [PART_IN] = {"in_proj",  IN_PROJ, D_MODEL, LAYERS},
    [PART_OUT] = {"out_proj", D_MODEL, D_INNER, LAYERS},
    [PART_HEAD] = {"head",     VOCAB,   D_MODEL, 1     },
};

enum { DTYPES = CPU_BF16 + 1 };
static const char *const dtype_name[DTYPES] = {
    [CPU_F32] = "f32", [CPU_BF16X3] = "bf16x3", [CPU_BF16] = "bf16"};

struct bench {
    struct backend *backend[DTYPES];
    sgemm_function *sgemm; // NULL: no OpenBLAS here
    int64_t rows, repeats;
    float *weight[PARTS]; // [count, outputs, inputs]
    struct packed_weight *packed[DTYPES][PARTS][LAYERS];
    float *in, *out; // as wide as the widest
    int32_t *target;
    float *nll;
};

// Seconds of each repetition, by who and part; ours_head is the head as the scorer runs it, with
// its log-sum-exp.
struct times {
    double blas[PARTS][REPEATS_MOST];
    double ours[DTYPES][PARTS][REPEATS_MOST], ours_head[DTYPES][REPEATS_MOST];
};

static double now(void) {
    return (double)clock_ns() * 1e-9;
}

static enum status pack_part(struct bench *bench, enum part part, double *packing) {
    const int64_t size = parts[part].outputs * parts[part].inputs;
    for (int d = 0; d < DTYPES; d++) {
        const double before = now();
        for (int64_t i = 0; i < parts[part].count; i++) {
            TRY(bench->backend[d]->table->pack(bench->backend[d], bench->weight[part] + i * size,
                                               parts[part].outputs, parts[part].inputs,
                                               &bench->packed[d][part][i]));
        }
        packing[d] += now() - before;
    }
    return STATUS_OK;
}

static enum status make_weights(struct bench *bench) {
    double packing[DTYPES] = {0};
    int64_t floats = 0;
    for (int p = 0; p < PARTS; p++) {
        const int64_t all = parts[p].outputs * parts[p].inputs * parts[p].count;
        bench->weight[p] = draw_floats(all);
        if (bench->weight[p] == NULL) return FAIL(NO_MEMORY, "weights");
        TRY(pack_part(bench, (enum part)p, packing));
        floats += all;
    }
    for (int d = 0; d < DTYPES; d++) {
        printf("packing %s: %.3f s (%.1f GB/s read)\n", dtype_name[d], packing[d],
               (double)floats * 4e-9 / packing[d]);
    }
    bench->in = draw_floats(bench->rows * D_INNER);
    bench->out = draw_floats(bench->rows * VOCAB);
    bench->nll = draw_floats(bench->rows);
    bench->target = malloc((size_t)bench->rows * sizeof *bench->target);
    if (bench->in == NULL || bench->out == NULL || bench->nll == NULL || bench->target == NULL) {
        return FAIL(NO_MEMORY, "activations");
    }
    for (int64_t t = 0; t < bench->rows; t++) {
        bench->target[t] = (int32_t)(t * 7919 % VOCAB);
    }
    return STATUS_OK;
}

static double time_blas(const struct bench *bench, enum part part) {
    const int64_t n = parts[part].outputs;
    const int64_t k = parts[part].inputs;
    const double start = now();
    for (int64_t i = 0; i < parts[part].count; i++) {
        openblas_product(bench->sgemm, bench->rows, n, k, bench->in,
                         bench->weight[part] + i * n * k, bench->out);
    }
    return now() - start;
}

static enum status time_ours(const struct bench *bench, int dtype, enum part part,
                             double *seconds) {
    const int64_t n = parts[part].outputs;
    const int64_t k = parts[part].inputs;
    const double start = now();
    for (int64_t i = 0; i < parts[part].count; i++) {
        const struct linear_args args = {
            .in = {bench->in,  bench->rows, k, k},
            .weight = bench->packed[dtype][part][i],
            .out = {bench->out, bench->rows, n, n},
        };
        TRY(op_linear(bench->backend[dtype], &args));
    }
    *seconds = now() - start;
    return STATUS_OK;
}

static enum status time_head(const struct bench *bench, int dtype, double *seconds) {
    const struct head_args args = {
        .in = {bench->in, bench->rows, D_MODEL, D_MODEL},
        .weight = bench->packed[dtype][PART_HEAD][0],
        .target = bench->target,
        .nll = bench->nll,
    };
    const double start = now();
    TRY(op_head(bench->backend[dtype], &args));
    *seconds = now() - start;
    return STATUS_OK;
}

static enum status measure(const struct bench *bench, struct times *times) {
    for (int64_t r = -1; r < bench->repeats; r++) { // the first warms up and is written over
        const int64_t at = r < 0 ? 0 : r;
        for (int p = 0; p < PARTS; p++) {
            if (bench->sgemm != NULL) times->blas[p][at] = time_blas(bench, (enum part)p);
            for (int d = 0; d < DTYPES; d++) {
                TRY(time_ours(bench, d, (enum part)p, &times->ours[d][p][at]));
            }
        }
        for (int d = 0; d < DTYPES; d++) {
            TRY(time_head(bench, d, &times->ours_head[d][at]));
        }
    }
    return STATUS_OK;
}

// A line of rates; ratios: f32 to OpenBLAS, the others to f32.
static void print_row(const char *name, double flops, double blas, const double ours[DTYPES]) {
    printf("%-20s %9.1f", name, blas > 0.0 ? flops * 1e-9 / blas : 0.0);
    for (int d = 0; d < DTYPES; d++) {
        const double measure = d == CPU_F32 ? blas : ours[CPU_F32];
        printf(" %9.1f %5.2f", flops * 1e-9 / ours[d], measure / ours[d]);
    }
    printf("\n");
}

static void print_head(void) {
    printf("%-20s %9s", "GF/s", "OpenBLAS");
    for (int d = 0; d < DTYPES; d++) {
        printf(" %9s %5s", dtype_name[d], d == CPU_F32 ? "/blas" : "/f32");
    }
    printf("\n");
}

// Sorts the times.
static void report(const struct bench *bench, struct times *times) {
    double blas_all = 0.0, flops_all = 0.0, ours_all[DTYPES] = {0};
    print_head();
    for (int p = 0; p < PARTS; p++) {
        const double flops = 2.0 * (double)(bench->rows * parts[p].outputs) *
                             (double)(parts[p].inputs * parts[p].count);
        const double blas = bench->sgemm == NULL ? 0.0 : median_of(times->blas[p], bench->repeats);
        double ours[DTYPES], head[DTYPES];
        for (int d = 0; d < DTYPES; d++) {
            ours[d] = median_of(times->ours[d][p], bench->repeats);
            ours_all[d] += ours[d];
            head[d] = p == PART_HEAD ? median_of(times->ours_head[d], bench->repeats) : 0.0;
        }
        print_row(parts[p].name, flops, blas, ours);
        blas_all += blas;
        flops_all += flops;
        if (p == PART_HEAD) print_row("head with its loss", flops, blas, head);
    }
    print_row("all products", flops_all, blas_all, ours_all);
}

static void drop(struct bench *bench) {
    for (int p = 0; p < PARTS; p++) {
        for (int d = 0; d < DTYPES && bench->backend[d] != NULL; d++) {
            for (int64_t i = 0; i < LAYERS; i++) {
                bench->backend[d]->table->release_packed(bench->backend[d], bench->packed[d][p][i]);
            }
        }
        free(bench->weight[p]);
    }
    free(bench->in);
    free(bench->out);
    free(bench->nll);
    free(bench->target);
    for (int d = 0; d < DTYPES; d++) {
        if (bench->backend[d] != NULL) bench->backend[d]->table->close(bench->backend[d]);
    }
}

static enum status run(int64_t rows, int64_t threads, int64_t repeats, const char *isa) {
    static struct bench bench;
    static struct times times;
    enum status status = STATUS_OK;
    bench.rows = rows;
    bench.repeats = repeats;
    bench.sgemm = openblas_load(threads);
    for (int d = 0; d < DTYPES; d++) {
        const struct cpu_backend_settings settings = {
            .dtype = (enum cpu_dtype)d, .threads = threads, .isa = isa};
        TRY_OUT(status, cpu_backend_open(&settings, &bench.backend[d]));
        printf("%s on %s\n", dtype_name[d], cpu_backend_isa(bench.backend[d]));
    }
    printf("%lld rows, %lld threads, medians of %lld\n", (long long)rows, (long long)threads,
           (long long)repeats);
    TRY_OUT(status, make_weights(&bench));
    TRY_OUT(status, measure(&bench, &times));
    report(&bench, &times);
out:
    drop(&bench);
    return status;
}

static int64_t number(int count, char **arguments, int at, int64_t fallback, int64_t most) {
    if (count <= at) return fallback;
    const long long value = strtoll(arguments[at], NULL, 10);
    return value < 1 || value > most ? fallback : value;
}

int main(int count, char **arguments) {
    const int64_t rows = number(count, arguments, 1, 256, 8192);
    const int64_t threads = number(count, arguments, 2, cpu_cores(), 1024);
    const int64_t repeats = number(count, arguments, 3, 7, REPEATS_MOST);
    return status_exit_code(run(rows, threads, repeats, count > 4 ? arguments[4] : "auto"));
}
