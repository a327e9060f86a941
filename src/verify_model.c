// The judge: which checks a model of this size is given.

#include "ops/base/check.h"
#include "src/verify.h"

#include <stdlib.h>
#include <string.h>

#define STEP_TOKENS  4096
#define OTHER_TOKENS 2048  // of the same layers once more
#define FEW_LAYERS   3     // of a model that is too large for a check with all
#define ENOUGH       200   // tokens against float64: three tiles, and then some
#define LEAST        4     // or else it is not worth it
#define CPU_WORK     1e12  // multiplications that the checks by bits may take on a processor
#define BITS_TOKENS  20000 // rows that they run, about

enum status verify_tolerance_of(const char *dtype, struct verify_tolerance *tolerance) {
    // f32: what README.md promises. The means of tf32 and bf16: what mamba_ssm does in them.
    static const struct {
        const char *dtype;
        struct verify_tolerance tolerance;
    } rows[] = {
        {"f32",    {1e-5, 1e-4, 1e-5, 1e-4, 0}     },
        {"tf32",   {1.6e-4, 5e-3, 0, 2e-3, 0x1p-11}},
        {"f16",    {6e-4, 2e-2, 0, 4e-3, 0x1p-11}  },
        {"bf16",   {4.5e-3, 0.1, 0, 3e-2, 0x1p-8}  },
        {"bf16x3", {1e-5, 1e-4, 0, 1e-4, 0x1p-17}  },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].dtype, dtype) != 0) continue;
        *tolerance = rows[i].tolerance;
        return STATUS_OK;
    }
    return FAIL(USAGE, "--dtype %s: no tolerance is known", dtype);
}

void verify_add(struct verify_report *report, const struct verify_check *check) {
    CHECK(report->count < VERIFY_CHECKS_MOST);
    report->check[report->count++] = *check;
    report->passed = report->passed && check->passed;
}

// `layers` of them, the first, the last and what lies evenly between.
enum status verify_trial_open(const struct verify_subject *subject, int64_t layers,
                              int64_t step_tokens, struct verify_trial *trial) {
    const struct model_settings settings = {.step_tokens = step_tokens};
    const int64_t all = subject->config->layers;
    *trial = (struct verify_trial){
        .subject = subject, .config = *subject->config, .weights = *subject->weights};
    trial->config.layers = layers;
    trial->weights.layers = calloc((size_t)layers, sizeof *trial->weights.layers);
    if (trial->weights.layers == NULL) return FAIL(NO_MEMORY, "%lld layers", (long long)layers);
    for (int64_t i = 0; i < layers; i++) {
        const int64_t from = layers > 1 ? i * (all - 1) / (layers - 1) : 0;
        trial->weights.layers[i] = subject->weights->layers[from];
    }
    return mamba2_open(&trial->config, &trial->weights, subject->name, subject->backend, &settings,
                       &trial->model);
}

void verify_trial_close(struct verify_trial *trial) {
    model_close(trial->model);
    free(trial->weights.layers);
    *trial = (struct verify_trial){0};
}

static bool is_small(const struct verify_subject *subject) {
    if (strcmp(subject->backend->table->name, "cpu") != 0) return true;
    return (double)subject->weights->parameters * BITS_TOKENS <= CPU_WORK;
}

static int64_t few_layers(const struct verify_subject *subject) {
    return subject->config->layers < FEW_LAYERS ? subject->config->layers : FEW_LAYERS;
}

// All layers, against float64 as far as the work allows, and by bits where that is quick.
static enum status judge_whole(const struct verify_subject *subject, struct verify_report *report) {
    struct verify_trial whole = {0}, other = {0};
    enum status status = STATUS_OK;
    TRY_OUT(status, verify_trial_open(subject, subject->config->layers, STEP_TOKENS, &whole));
    TRY_OUT(status, verify_oracle(&whole, LEAST, report));
    if (!is_small(subject)) goto out;
    TRY_OUT(status, verify_trial_open(subject, subject->config->layers, OTHER_TOKENS, &other));
    status = verify_bits(&whole, &other, report);
out:
    verify_trial_close(&other);
    verify_trial_close(&whole);
    return status;
}

// Tokens that went against float64 with all layers; 0: the model is too large for any.
static int64_t tokens_compared(const struct verify_report *report) {
    for (int i = 0; i < report->count; i++) {
        if (!report->check[i].exact) return report->check[i].tokens;
    }
    return 0;
}

// What the whole model was too large for, with a few of its layers.
static enum status judge_part(const struct verify_subject *subject, struct verify_report *report) {
    const int64_t compared = tokens_compared(report);
    const bool few = compared < ENOUGH;
    struct verify_trial part = {0}, other = {0};
    enum status status = STATUS_OK;
    const bool whole = compared > 0 && subject->config->layers <= FEW_LAYERS;
    if (is_small(subject) && (!few || whole)) return STATUS_OK;
    TRY_OUT(status, verify_trial_open(subject, few_layers(subject), STEP_TOKENS, &part));
    if (few) TRY_OUT(status, verify_oracle(&part, 1, report));
    if (is_small(subject)) goto out;
    TRY_OUT(status, verify_trial_open(subject, few_layers(subject), OTHER_TOKENS, &other));
    status = verify_bits(&part, &other, report);
out:
    verify_trial_close(&other);
    verify_trial_close(&part);
    return status;
}

enum status verify_model(const struct verify_subject *subject, struct verify_report *report) {
    CHECK(subject->tokens >= 2);
    *report = (struct verify_report){.passed = true};
    TRY(judge_whole(subject, report));
    return judge_part(subject, report);
}
