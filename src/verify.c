// verb `verify`: is a model right on this machine? For those who would rather not take our word.

#include "src/verify.h"

#include "ops/model/mapped_file.h"
#include "ops/model/random_weights.h"
#include "src/device.h"
#include "src/measure_out.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS      2405 // two chunks, and 357 tokens: five tiles and a part of one
#define ORACLE_WORK 1e10 // some ten seconds of one core

static const char sample[] =
    "A document longer than one rank's share is cut into spans in rank order. At every layer the "
    "recurrent state at a span's end is handed to the next rank, so that a text of many million "
    "words is scored in parallel, exactly, and in bounded memory. Short documents are packed; "
    "many streams interleave; nothing is padded. How much of what stood at the beginning does a "
    "state of a few megabytes still hold at the end? Nobody knows before it was measured: 3 of 10 "
    "numbers after 1,000 words, 1 of 10 after 16,000, and then, at once, all of them again.\n";

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

static enum status take_token(struct verifying *v, int64_t token) {
    if (token < 0 || token >= v->config.vocab_size) {
        return FAIL(USAGE, "--input %s: token %" PRId64 " is not in [0, %" PRId64 ")",
                    v->settings->input, token, v->config.vocab_size);
    }
    v->token[v->tokens++] = (int32_t)token;
    return STATUS_OK;
}

static bool ends_with(const char *text, const char *end) {
    const size_t bytes = strlen(text), tail = strlen(end);
    return bytes >= tail && strcmp(text + bytes - tail, end) == 0;
}

// Bytes are tokens of a model of bytes; *.u16 and *.u32 hold token ids.
static enum status take_file(struct verifying *v, const char *bytes, size_t size) {
    const char *path = v->settings->input;
    const size_t width = ends_with(path, ".u16") ? 2 : ends_with(path, ".u32") ? 4 : 1;
    if (width == 1 && v->config.vocab_size != 256) {
        return FAIL(USAGE,
                    "--input %s: only a model of bytes takes text; give token ids in a file "
                    "NAME.u16 or NAME.u32",
                    path);
    }
    for (size_t at = 0; at + width <= size && v->tokens < TOKENS; at += width) {
        uint32_t token = 0; // little-endian
        for (size_t i = 0; i < width; i++) {
            token |= (uint32_t)(unsigned char)bytes[at + i] << (8 * i);
        }
        TRY(take_token(v, token));
    }
    if (v->tokens < 2) return FAIL(USAGE, "--input %s: fewer than two tokens", path);
    return STATUS_OK;
}

// The sample again and again, each time with another letter for e; without a text, random ids.
static void draw_tokens(struct verifying *v) {
    const size_t period = sizeof sample - 1;
    uint64_t random = (uint64_t)v->settings->seed;
    for (; v->tokens < TOKENS; v->tokens++) {
        const size_t at = (size_t)v->tokens % period, turn = (size_t)v->tokens / period;
        const unsigned char letter =
            sample[at] == 'e' ? (unsigned char)("eaiou"[turn % 5]) : (unsigned char)sample[at];
        random = random * 6364136223846793005U + 1442695040888963407U;
        v->token[v->tokens] = v->config.vocab_size == 256
                                  ? letter
                                  : (int32_t)((random >> 33) % (uint64_t)v->config.vocab_size);
    }
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
    TRY(device_open(settings, &alone, true, &v->backend));
    v->dtype = device_dtype(settings, v->backend);
    TRY(verify_tolerance_of(v->dtype, &subject.tolerance));
    TRY(open_weights(v));
    v->token = calloc(TOKENS, sizeof *v->token);
    if (v->token == NULL) return FAIL(NO_MEMORY, "%d tokens", TOKENS);
    if (settings->input != NULL) TRY(take_file(v, input->bytes, input->size));
    if (settings->input == NULL) draw_tokens(v);
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
