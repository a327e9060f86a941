// verb `verify`: is a model right on this machine? For those who would rather not take our word.

#include "src/verify.h"

#include "ops/model/random_weights.h"
#include "src/device.h"
#include "src/measure_out.h"
#include "src/verify_tokens.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ORACLE_WORK 1e10 // some ten seconds of one core

struct verifying {
    const struct settings *settings;
    struct backend *backend;
    const char *dtype;
    struct mamba2_config config;
    struct mamba2_weights weights;
    int32_t *token;
    int64_t tokens;
};

static enum status open_weights(struct verifying *v) {
    const struct settings *settings = v->settings;
    if (settings->shape == NULL)
        return mamba2_read(settings->model, gated_norm_of(settings->gated_norm), &v->config,
                           &v->weights);
    TRY(shape_config(settings->shape, &v->config));
    return weights_random(&v->config, (uint64_t)settings->seed, &v->weights);
}

static void say_table(FILE *out, const struct verify_report *report) {
    fprintf(out, "%-12s %8s %7s   %s\n", "check", "tokens", "layers", "found");
    for (int i = 0; i < report->count; i++) {
        const struct verify_check *check = &report->check[i];
        fprintf(out, "%-12s %8" PRId64 " %7" PRId64 "   ", check->name, check->tokens,
                check->layers);
        if (!check->exact) {
            fprintf(out,
                    "NLL off by %.2g (mean, of %.2g), %.2g (most, of %.2g); state by %.2g of %.2g",
                    check->mean, check->mean_allowed, check->most, check->most_allowed,
                    check->state, check->state_allowed);
        } else if (check->different == 0) {
            fputs("equal bits", out);
        } else {
            fprintf(out, "%" PRId64 " differ, the first NLL at position %" PRId64, check->different,
                    check->first);
        }
        fprintf(out, "   %s\n", check->passed ? "good" : "WRONG");
    }
    fprintf(out, "%s\n",
            report->passed ? "This model is right on this machine."
                           : "This model is NOT right on this machine: do not use its scores.");
}

// NaN and infinity are no JSON.
static void put_number(FILE *out, const char *name, double number) {
    if (isfinite(number)) {
        fprintf(out, ",\"%s\":%.6g", name, number);
    } else {
        fprintf(out, ",\"%s\":null", name);
    }
}

static void say_json(FILE *out, const struct verifying *v, const struct verify_report *report) {
    for (int i = 0; i < report->count; i++) {
        const struct verify_check *check = &report->check[i];
        fprintf(out,
                "{\"kind\":\"check\",\"check\":\"%s\",\"passed\":%s,\"tokens\":%" PRId64
                ",\"layers\":%" PRId64,
                check->name, check->passed ? "true" : "false", check->tokens, check->layers);
        if (check->exact) {
            fprintf(out, ",\"different\":%" PRId64 ",\"first\":%" PRId64, check->different,
                    check->first);
        } else {
            put_number(out, "nll_mean", check->mean);
            put_number(out, "nll_most", check->most);
            put_number(out, "state", check->state);
            put_number(out, "nll_mean_allowed", check->mean_allowed);
            put_number(out, "nll_most_allowed", check->most_allowed);
            put_number(out, "state_allowed", check->state_allowed);
        }
        fputs("}\n", out);
    }
    fprintf(out,
            "{\"kind\":\"verdict\",\"passed\":%s,\"model\":\"xxh3:%016" PRIx64
            "\",\"numerics\":\"%s\",\"dtype\":\"%s\"}\n",
            report->passed ? "true" : "false", v->weights.hash, v->backend->numerics, v->dtype);
}

static enum status verify(struct verifying *v, const struct mapped_file *input,
                          const struct measure_out *out, bool *passed) {
    const struct settings *settings = v->settings;
    const struct device_share alone = {.ranks = 1};
    struct verify_report report;
    struct verify_subject subject = {.config = &v->config,
                                     .weights = &v->weights,
                                     .name = settings->shape != NULL ? settings->shape
                                                                     : settings->model,
                                     .seed = (uint64_t)settings->seed,
                                     .oracle_work = ORACLE_WORK};
    TRY(device_open(settings, &alone, NULL, true, &v->backend));
    v->dtype = device_dtype(settings, v->backend);
    TRY(verify_tolerance_of(v->dtype, &subject.tolerance));
    TRY(open_weights(v));
    v->token = calloc(VERIFY_TOKENS, sizeof *v->token);
    if (v->token == NULL) return FAIL(NO_MEMORY, "%d tokens", VERIFY_TOKENS);
    TRY(verify_tokens(settings, v->config.vocab_size, input, v->token, &v->tokens));
    subject.backend = v->backend;
    subject.token = v->token;
    subject.tokens = v->tokens;
    TRY(verify_model(&subject, &report));
    if (out->table) {
        say_table(out->file, &report);
    } else {
        say_json(out->file, v, &report);
    }
    *passed = report.passed;
    return STATUS_OK;
}

enum status verb_verify(const struct settings *settings, int *exit_code) {
    struct verifying v = {.settings = settings};
    struct measure_out out = {0};
    struct mapped_file input = {0};
    bool passed = false;
    if ((settings->model == NULL) == (settings->shape == NULL)) {
        return FAIL(USAGE, "verify needs --model DIR or --shape " OFFICIAL_SHAPES ", one of them");
    }
    if (settings->dry_run) {
        LOG(INFO, "dry run: the settings of verify are in order");
        return STATUS_OK;
    }
    if (settings->input != NULL) TRY(mapped_file_open(settings->input, SIZE_MAX, &input));
    enum status status = measure_out_open(settings, &out);
    if (status == STATUS_OK) status = verify(&v, &input, &out, &passed);
    mapped_file_close(&input);
    const enum status closed = measure_out_close(&out, status == STATUS_OK);
    if (status == STATUS_OK) status = closed;
    if (status == STATUS_OK && !passed) *exit_code = EXIT_VERDICT;
    if (v.backend != NULL) v.backend->table->close(v.backend);
    weights_close(&v.weights);
    free(v.token);
    return status;
}
