// What this processor can do at most with the team's threads: a copy too large for caches, and our
// own matrix product in the backend's dtype, which no library beats at our shapes (docs/adr/0001,
// tests/bench).

#include "ops/base/clock.h"
#include "ops/cpu/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS       7
#define COPY_BYTES ((size_t)256 << 20)
#define COPY_PARTS 256
#define SIDE       2048 // of the product's matrices

struct copying {
    char *to;
    const char *from;
};

static void copy_part(int64_t index, int64_t worker, const void *argument) {
    const struct copying *copying = argument;
    const size_t bytes = COPY_BYTES / COPY_PARTS, at = (size_t)index * bytes;
    (void)worker;
    memcpy(copying->to + at, copying->from + at, bytes);
}

static int rising(const void *left, const void *right) {
    const int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static double median_seconds(int64_t *ns) {
    qsort(ns, RUNS, sizeof *ns, rising);
    const int64_t median = ns[RUNS / 2];
    return (double)median * 1e-9;
}

static enum status measure_copy(struct cpu_backend *cpu, struct ceilings *ceilings) {
    int64_t ns[RUNS];
    struct copying copying;
    void *to = NULL, *from = NULL;
    enum status status = STATUS_OK;
    TRY_OUT(status, cpu_memory(COPY_BYTES, &to));
    TRY_OUT(status, cpu_memory(COPY_BYTES, &from));
    copying = (struct copying){to, from};
    memset(from, 1, COPY_BYTES);
    memset(to, 2, COPY_BYTES);
    for (int run = 0; run < RUNS; run++) {
        const int64_t begin = clock_ns();
        team_run(cpu->team, COPY_PARTS, copy_part, &copying);
        ns[run] = clock_ns() - begin;
    }
    ceilings->copy_bytes = 2.0 * (double)COPY_BYTES / median_seconds(ns);
    snprintf(ceilings->copy, sizeof ceilings->copy, "copy of %zu MiB", COPY_BYTES >> 20);
out:
    free(to);
    free(from);
    return status;
}

static void draw(float *values) {
    uint32_t seed = 2463534242U;
    for (int64_t i = 0; i < SIDE * SIDE; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        values[i] = (float)(seed >> 8) * 0x1p-23F - 1.0F;
    }
}

// In the backend's dtype, or in f32 as if that were its dtype.
static enum status measure_product(struct cpu_backend *cpu, int64_t parts, double *flops) {
    const size_t bytes = sizeof(float) * SIDE * SIDE;
    const int64_t before = cpu->parts;
    int64_t ns[RUNS];
    void *in = NULL, *out = NULL;
    struct packed_weight *weight = NULL;
    struct linear_args args;
    enum status status = STATUS_OK;
    cpu->parts = parts;
    TRY_OUT(status, cpu_memory(bytes, &in));
    TRY_OUT(status, cpu_memory(bytes, &out));
    draw(in);
    TRY_OUT(status, cpu_pack(&cpu->base, in, SIDE, SIDE, &weight));
    args = (struct linear_args){
        .in = {in,  SIDE, SIDE, SIDE},
        .weight = weight,
        .out = {out, SIDE, SIDE, SIDE},
    };
    TRY_OUT(status, cpu_linear(&cpu->base, &args));
    for (int run = 0; run < RUNS; run++) {
        const int64_t begin = clock_ns();
        TRY_OUT(status, cpu_linear(&cpu->base, &args));
        ns[run] = clock_ns() - begin;
    }
    *flops = 2.0 * SIDE * SIDE * SIDE / median_seconds(ns);
out:
    cpu->parts = before;
    cpu_release_packed(&cpu->base, weight);
    free(in);
    free(out);
    return status;
}

enum status cpu_ceilings(struct backend *backend, struct ceilings *ceilings) {
    static const char *const dtype[] = {"f32", "bf16", "bf16x3"};
    struct cpu_backend *cpu = cpu_backend_of(backend);
    *ceilings = (struct ceilings){0};
    snprintf(ceilings->product, sizeof ceilings->product, "%s product of side %d, own",
             dtype[cpu->parts], SIDE);
    TRY(measure_copy(cpu, ceilings));
    TRY(measure_product(cpu, cpu->parts, &ceilings->product_flops));
    return cpu->parts == 0 ? STATUS_OK : measure_product(cpu, 0, &ceilings->rest_flops);
}
