// The model alone: whole steps, and the stages of a step.

#include "ops/base/clock.h"
#include "src/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SHORTEST 50
#define LONGEST  4000

struct material {
    int32_t *token, *target;
    float *nll; // the backend's kind of host memory: others may make a download wait
    struct model_span *span;
    int64_t spans;
    char *slot[2]; // of the long document, in turn
};

uint64_t bench_draw(uint64_t *random) {
    uint64_t z = *random += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

int64_t bench_draw_length(uint64_t *random) {
    const double unit = (double)(bench_draw(random) >> 11) * 0x1p-53;
    return (int64_t)(SHORTEST * pow((double)LONGEST / SHORTEST, unit));
}

static void drop(const struct bench *bench, struct material *material) {
    for (int i = 0; i < 2; i++) {
        bench->backend->table->release(bench->backend, material->slot[i]);
    }
    free(material->token);
    free(material->target);
    bench->backend->table->host_release(bench->backend, material->nll);
    free(material->span);
}

static enum status make(const struct bench *bench, bool packed, struct material *material) {
    const struct model_info *info = model_info(bench->model);
    const size_t rows = (size_t)bench->step_tokens,
                 bytes = (size_t)info->layers * info->layer_bytes;
    uint64_t random = (uint64_t)bench->settings->seed;
    *material = (struct material){.token = calloc(rows, sizeof(int32_t)),
                                  .target = calloc(rows, sizeof(int32_t)),
                                  .span = calloc(rows, sizeof(struct model_span))};
    void *nll = NULL;
    if (material->token == NULL || material->target == NULL || material->span == NULL) {
        return FAIL(NO_MEMORY, "a step of %zu tokens", rows);
    }
    TRY(bench->backend->table->host_alloc(bench->backend, rows * sizeof(float), &nll));
    material->nll = nll;
    for (size_t i = 0; i < rows; i++) {
        material->token[i] = (int32_t)(bench_draw(&random) % (uint64_t)info->vocab_size);
        material->target[i] = (int32_t)(bench_draw(&random) % (uint64_t)info->vocab_size);
    }
    for (int64_t row = 0; packed && row < bench->step_tokens; material->spans++) {
        const int64_t left = bench->step_tokens - row, drawn = bench_draw_length(&random);
        material->span[material->spans].rows = drawn < left ? drawn : left;
        row += material->span[material->spans].rows;
    }
    for (int i = 0; !packed && i < 2; i++) {
        void *slot = NULL;
        TRY(bench->backend->table->alloc(bench->backend, bytes, &slot));
        material->slot[i] = slot;
    }
    if (!packed) material->span[material->spans++].rows = bench->step_tokens;
    return STATUS_OK;
}

// The i-th step: the long document goes on from one slot into the other.
static struct model_step step_of(const struct bench *bench, struct material *material, int64_t i) {
    if (material->slot[0] != NULL) {
        material->span->state_in = material->slot[i % 2];
        material->span->state_out = material->slot[(i + 1) % 2];
    }
    return (struct model_step){.rows = bench->step_tokens,
                               .token = material->token,
                               .target = material->target,
                               .spans = material->span,
                               .span_count = material->spans,
                               .nll = material->nll};
}

static struct step_shape shape_of(const struct bench *bench, const struct material *material) {
    struct step_shape shape = {.rows = bench->step_tokens};
    const bool goes_on = material->slot[0] != NULL;
    for (int64_t i = 0; i < material->spans; i++) {
        shape.chunks += (material->span[i].rows + CHUNK_TOKENS - 1) / CHUNK_TOKENS;
    }
    shape.starts = goes_on ? 0 : material->spans;
    shape.ends = goes_on ? 0 : material->spans;
    return shape;
}

static int rising(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values, int64_t count) {
    qsort(values, (size_t)count, sizeof *values, rising);
    return values[count / 2];
}

// One step from an empty queue to an empty queue, as a rank runs them.
static enum status time_step(const struct bench *bench, struct material *material, int64_t i,
                             double *seconds, double *queue) {
    const struct model_step step = step_of(bench, material, i);
    const int64_t begin = clock_ns();
    TRY(model_run(bench->model, &step));
    *queue = (double)(clock_ns() - begin) * 1e-9;
    TRY(bench->backend->table->wait(bench->backend));
    *seconds = (double)(clock_ns() - begin) * 1e-9;
    return STATUS_OK;
}

static enum status time_steps(const struct bench *bench, struct material *material, double *seconds,
                              double *queue, struct bench_steps *steps) {
    for (int64_t i = -BENCH_WARM_UPS; i < bench->repeat; i++) {
        const int64_t at = i < 0 ? 0 : i;
        TRY(time_step(bench, material, i + BENCH_WARM_UPS, &seconds[at], &queue[at]));
        if (stop_requested()) return STATUS_STOPPED;
    }
    steps->documents = material->spans;
    steps->shape = shape_of(bench, material);
    steps->seconds = median(seconds, bench->repeat);
    steps->least = seconds[0];
    steps->most = seconds[bench->repeat - 1];
    steps->queue_seconds = median(queue, bench->repeat);
    return STATUS_OK;
}

enum status bench_measure_steps(const struct bench *bench, bool packed, struct bench_steps *steps) {
    struct material material = {0};
    enum status status = STATUS_OK;
    double *seconds = calloc((size_t)bench->repeat * 2, sizeof *seconds);
    if (seconds == NULL) return FAIL(NO_MEMORY, "%lld times", (long long)bench->repeat);
    TRY_OUT(status, make(bench, packed, &material));
    status = time_steps(bench, &material, seconds, seconds + bench->repeat, steps);
out:
    drop(bench, &material);
    free(seconds);
    return status;
}

// Stages of one run after the other: seconds[run * STAGES + stage].
static enum status time_stages(const struct bench *bench, struct material *material,
                               struct stage_clock *clock, double *seconds) {
    for (int64_t i = -1; i < bench->repeat; i++) {
        double *of_run = seconds + (i < 0 ? 0 : i) * STAGES;
        const struct model_step step = step_of(bench, material, i + 1);
        memset(of_run, 0, STAGES * sizeof *of_run);
        TRY(stage_clock_run(clock, &step, of_run));
        if (stop_requested()) return STATUS_STOPPED;
    }
    return STATUS_OK;
}

static void take_medians(const struct bench *bench, const double *seconds, double *column,
                         struct bench_stages *stages) {
    stages->all = 0;
    for (int stage = 0; stage < STAGES; stage++) {
        for (int64_t i = 0; i < bench->repeat; i++) {
            column[i] = seconds[i * STAGES + stage];
        }
        stages->seconds[stage] = median(column, bench->repeat);
        stages->all += stages->seconds[stage];
    }
}

// On a CPU only the weights become narrower; two parts of bf16 take as much room as f32.
static struct element_bytes element_of(const struct bench *bench) {
    const bool cpu = strcmp(bench->backend->table->name, "cpu") == 0;
    const bool narrow = strcmp(bench->dtype, "bf16") == 0 || strcmp(bench->dtype, "f16") == 0;
    return (struct element_bytes){.weight = narrow ? 2 : 4, .row = narrow && !cpu ? 2 : 4};
}

enum status bench_measure_stages(const struct bench *bench, struct bench_stages *stages) {
    struct material material = {0};
    struct stage_clock *clock = NULL;
    struct step_shape shape;
    enum status status = STATUS_OK;
    double *seconds = calloc((size_t)bench->repeat * (STAGES + 1), sizeof *seconds);
    if (seconds == NULL) return FAIL(NO_MEMORY, "%lld times", (long long)bench->repeat);
    TRY_OUT(status, make(bench, false, &material));
    TRY_OUT(status, stage_clock_open(bench->model, &clock));
    TRY_OUT(status, time_stages(bench, &material, clock, seconds));
    take_medians(bench, seconds, seconds + bench->repeat * STAGES, stages);
    shape = shape_of(bench, &material);
    bench_cost(&bench->model->config, &shape, element_of(bench), stages->cost);
out:
    stage_clock_close(clock);
    drop(bench, &material);
    free(seconds);
    return status;
}
