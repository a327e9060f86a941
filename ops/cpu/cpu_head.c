// The language model head: negative log likelihood of each row's target, without the logits ever
// being in memory. Work is shared out in blocks of rows by blocks of the vocabulary of a fixed
// width; each block leaves a maximum and a sum a row, which are then merged in block order.

#include "ops/base/check.h"
#include "ops/cpu/kernels.h"

#include <math.h>
#include <string.h>

#define BLOCK_PANELS (CPU_HEAD_BLOCK / PANEL_OUTPUTS)

struct head_job {
    const struct cpu_kernels *kernels;
    const struct head_args *args;
    struct product_rows product; // of the rows that have a target
    int64_t rows;                // so many
    int64_t block_rows, row_blocks, blocks;
    int32_t *row;        // [rows] their places in args->in
    float *lanes;        // [workers, block_rows, HEAD_LANES]
    float *maximum;      // [blocks, rows]
    float *sum;          // [blocks, rows]
    float *target_logit; // [rows]
};

// log(x) for 0 < x < infinity, else NaN. Not the library's: its last bit differs between machines.
// x = 2^e m with m in [sqrt(1/2), sqrt(2)); log(m) = 2 atanh((m - 1) / (m + 1)), by its series.
static double head_log(double x) {
    uint64_t bits;
    double m;
    memcpy(&bits, &x, sizeof bits);
    if (!(x > 0.0) || bits >= UINT64_C(0x7ff0000000000000)) return (double)NAN;
    int64_t exponent = (int64_t)(bits >> 52) - 1023;
    bits = (bits & UINT64_C(0x000fffffffffffff)) | UINT64_C(0x3ff0000000000000);
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp0) {
        m *= 0.5;
        exponent++;
    }
    const double s = (m - 1.0) / (m + 1.0);
    const double z = s * s;
    double series = 0.0;
    for (int i = 23; i >= 1; i -= 2) { // z^12 is below 2^-60
        series = series * z + 1.0 / i;
    }
    return (double)exponent * 0x1.62e42fefa39efp-1 + 2.0 * s * series;
}

static void head_item(int64_t index, int64_t worker, const void *argument) {
    const struct head_job *job = argument;
    const struct packed_weight *weight = job->args->weight;
    const int64_t block = index / job->row_blocks;
    const int64_t row = index % job->row_blocks * job->block_rows;
    const int64_t rows = job->rows - row < job->block_rows ? job->rows - row : job->block_rows;
    const int64_t first = block * BLOCK_PANELS;
    const int64_t end =
        weight->panels - first < BLOCK_PANELS ? weight->panels : first + BLOCK_PANELS;
    float *lanes = job->lanes + worker * job->block_rows * HEAD_LANES;
    job->kernels->head_begin(lanes, rows);
    for (int64_t panel = first; panel < end; panel++) {
        const int64_t output = panel * PANEL_OUTPUTS;
        const int64_t left = weight->outputs - output;
        const char *data = weight->data + panel * weight->panel_bytes;
        const struct panel_head head = {
            .lanes = lanes,
            .row = job->row + row,
            .target = job->args->target,
            .first_output = output,
            .target_logit = job->target_logit + row,
        };
        const struct product_item item = {
            .row = row,
            .rows = rows,
            .panel = data,
            .next = panel + 1 < end ? data + weight->panel_bytes : NULL,
            .outputs = left < PANEL_OUTPUTS ? left : PANEL_OUTPUTS,
        };
        product_head(&job->product, &item, &head);
    }
    job->kernels->head_end(lanes, rows, job->maximum + block * job->rows + row,
                           job->sum + block * job->rows + row);
}

// The sum is at least 1, because one term is exp(0), and the maximum is at least the target's
// logit: the result is never below 0. What is not a number stays so, and the caller reports it.
static void head_finish_item(int64_t index, int64_t worker, const void *argument) {
    const struct head_job *job = argument;
    const int64_t first = index * 16;
    const int64_t rows = job->rows - first < 16 ? job->rows - first : 16;
    float maximum[16];
    float sum[16];
    (void)worker;
    job->kernels->head_merge(job->maximum + first, job->sum + first, job->blocks, job->rows, rows,
                             maximum, sum);
    for (int64_t r = 0; r < rows; r++) {
        const double from_target = (double)maximum[r] - (double)job->target_logit[first + r];
        job->args->nll[job->row[first + r]] = (float)(head_log((double)sum[r]) + from_target);
    }
}

static size_t cache_lines(int64_t floats) {
    return (size_t)(floats + 15) / 16 * 64;
}

// Lays the job's arrays out in one piece of scratch memory.
static enum status head_room(struct cpu_backend *cpu, struct head_job *job, void **blocks) {
    const int64_t all_rows = job->args->in.rows;
    const int64_t partials = job->blocks * all_rows;
    const int64_t lanes = team_workers(cpu->team) * job->block_rows * HEAD_LANES;
    void *memory = NULL;
    const size_t converted = product_rows_bytes(cpu, all_rows, job->args->in.columns);
    TRY(cpu_scratch(
        cpu, converted + cache_lines(lanes) + 2 * cache_lines(partials) + 2 * cache_lines(all_rows),
        &memory));
    char *at = memory;
    *blocks = at;
    at += converted;
    job->lanes = (float *)(void *)at;
    at += cache_lines(lanes);
    job->maximum = (float *)(void *)at;
    at += cache_lines(partials);
    job->sum = (float *)(void *)at;
    at += cache_lines(partials);
    job->target_logit = (float *)(void *)at;
    at += cache_lines(all_rows);
    job->row = (int32_t *)(void *)at;
    return STATUS_OK;
}

enum status cpu_head(struct backend *backend, const struct head_args *args) {
    struct cpu_backend *cpu = cpu_backend_of(backend);
    const struct packed_weight *weight = args->weight;
    const int64_t blocks = (weight->panels + BLOCK_PANELS - 1) / BLOCK_PANELS;
    void *memory = NULL;
    struct head_job job = {.kernels = cpu->kernels, .args = args, .blocks = blocks};
    CHECK(args->in.columns == weight->inputs);
    job.block_rows =
        cpu_item_rows(args->in.rows, blocks, team_workers(cpu->team), product_unit(cpu));
    TRY(head_room(cpu, &job, &memory));
    for (int64_t r = 0; r < args->in.rows; r++) {
        args->nll[r] = 0.0f;
        if (args->target[r] < 0) continue;
        CHECK(args->target[r] < weight->outputs);
        job.row[job.rows++] = (int32_t)r;
    }
    job.product = (struct product_rows){.in = args->in, .row = job.row, .rows = job.rows};
    product_rows_fill(cpu, &job.product, memory);
    job.row_blocks = (job.rows + job.block_rows - 1) / job.block_rows;
    team_run(cpu->team, job.blocks * job.row_blocks, head_item, &job);
    team_run(cpu->team, (job.rows + 15) / 16, head_finish_item, &job);
    return STATUS_OK;
}
