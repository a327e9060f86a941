// The operators that work row by row: embedding, norms, dt, best. Shared out in blocks of rows.

#include "ops/base/check.h"
#include "ops/cpu/kernels.h"

#include <math.h>
#include <string.h>

#define BLOCK_ROWS 16

struct rows_job {
    const struct cpu_kernels *kernels;
    const void *args;
    int64_t rows;
    void (*row)(const struct cpu_kernels *kernels, const void *args, int64_t row);
};

static void rows_item(int64_t index, int64_t worker, const void *argument) {
    const struct rows_job *job = argument;
    const int64_t first = index * BLOCK_ROWS;
    const int64_t end = job->rows - first < BLOCK_ROWS ? job->rows : first + BLOCK_ROWS;
    (void)worker;
    for (int64_t row = first; row < end; row++) {
        job->row(job->kernels, job->args, row);
    }
}

static enum status rows_run(struct backend *backend, const struct rows_job *job) {
    team_run(cpu_backend_of(backend)->team, (job->rows + BLOCK_ROWS - 1) / BLOCK_ROWS, rows_item,
             job);
    return STATUS_OK;
}

static float *row_of(const struct matrix *matrix, int64_t row) {
    return matrix->data + row * matrix->stride;
}

static void embedding_row(const struct cpu_kernels *kernels, const void *argument, int64_t row) {
    const struct embedding_args *args = argument;
    (void)kernels;
    memcpy(row_of(&args->out, row), row_of(&args->weight, args->token[row]),
           (size_t)args->out.columns * sizeof(float));
}

enum status cpu_embedding(struct backend *backend, const struct embedding_args *args) {
    const struct rows_job job = {NULL, args, args->out.rows, embedding_row};
    return rows_run(backend, &job);
}

// Floats from a row to the next; the last one looks nowhere.
static int64_t ahead_of(const struct matrix *matrix, int64_t row) {
    return row + 1 < matrix->rows ? matrix->stride : 0;
}

static void rms_norm_row(const struct cpu_kernels *kernels, const void *argument, int64_t row) {
    const struct rms_norm_args *args = argument;
    const struct norm_row norm = {
        .in = row_of(&args->in, row),
        .weight = args->weight,
        .out = row_of(&args->out, row),
        .columns = args->in.columns,
        .in_ahead = ahead_of(&args->in, row),
        .out_ahead = ahead_of(&args->out, row),
        .epsilon = args->epsilon,
    };
    kernels->rms_norm(&norm);
}

enum status cpu_rms_norm(struct backend *backend, const struct rms_norm_args *args) {
    const struct rows_job job = {cpu_backend_of(backend)->kernels, args, args->in.rows,
                                 rms_norm_row};
    return rows_run(backend, &job);
}

static void gated_norm_row(const struct cpu_kernels *kernels, const void *argument, int64_t row) {
    const struct gated_norm_args *args = argument;
    const int64_t columns = args->y.columns / args->groups;
    for (int64_t at = 0; at < args->y.columns; at += columns) {
        const struct norm_row norm = {
            .in = row_of(&args->y, row) + at,
            .gate = row_of(&args->z, row) + at,
            .weight = args->weight + at,
            .out = row_of(&args->out, row) + at,
            .columns = columns,
            .in_ahead = ahead_of(&args->y, row),
            .gate_ahead = ahead_of(&args->z, row),
            .out_ahead = ahead_of(&args->out, row),
            .epsilon = args->epsilon,
        };
        if (args->norm_before_gate) {
            kernels->norm_then_gate(&norm);
        } else {
            kernels->gate_then_norm(&norm);
        }
    }
}

enum status cpu_gated_norm(struct backend *backend, const struct gated_norm_args *args) {
    const struct rows_job job = {cpu_backend_of(backend)->kernels, args, args->y.rows,
                                 gated_norm_row};
    return rows_run(backend, &job);
}

static void dt_row(const struct cpu_kernels *kernels, const void *argument, int64_t row) {
    const struct dt_args *args = argument;
    kernels->dt(row_of(&args->in, row), args->bias, args->in.columns, args->least, args->most,
                row_of(&args->out, row));
}

enum status cpu_dt(struct backend *backend, const struct dt_args *args) {
    const struct rows_job job = {cpu_backend_of(backend)->kernels, args, args->in.rows, dt_row};
    return rows_run(backend, &job);
}

// What is not a number is never the greater one.
static void best_row(const struct cpu_kernels *kernels, const void *argument, int64_t row) {
    const struct best_args *args = argument;
    const float *logit = row_of(&args->logits, row);
    const int32_t vocab = (int32_t)args->logits.columns, target = args->target[row];
    struct best_token best = {.token = 0, .margin = NAN};
    float most = -INFINITY, other = -INFINITY; // other: than the target
    (void)kernels;
    CHECK(target < vocab);
    for (int32_t v = 0; v < vocab; v++) {
        if (!(logit[v] > other)) continue;
        if (v != target) other = logit[v];
        if (!(logit[v] > most)) continue;
        most = logit[v];
        best.token = v;
    }
    if (target >= 0) best.margin = logit[target] - other;
    args->best[row] = best;
}

enum status cpu_best(struct backend *backend, const struct best_args *args) {
    const struct rows_job job = {NULL, args, args->logits.rows, best_row};
    return rows_run(backend, &job);
}
