// A model that is nothing but bookkeeping: its answers are right if and only if every token of a
// document went through it once, in order, with the right state in every layer and part.

#include "tests/toy_model.h"

#include "ops/base/check.h"
#include "ops/model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECKSUM_EMPTY  0x746f79206d6f6465u // of a document without tokens
#define CHECKSUM_BROKEN 0x62726f6b656e2121u // after a state that was not what it should be

struct model {
    struct backend *backend;
    struct model_info info;
    int64_t step_tokens, asked_most;
    int64_t delay_us;
    int32_t *token, *target; // [step_tokens], backend memory
    int32_t *asked;          // [asked_most], backend memory
    struct best_token *best; // [asked_most], backend memory
    float *nll;              // [step_tokens], backend memory
    uint64_t *checksum;      // [step_tokens] after each row; only the queue touches it
};

// A step under way: a copy of what the caller gave, gone with the last call queued for it.
struct toy_run {
    struct model *model;
    int64_t rows, span_count, asked_count;
    uint64_t *before, *after; // [span_count] checksums
    struct model_span span[];
};

// The argument of a queued call; as many as there are layers and parts follow the run.
struct toy_part {
    struct toy_run *run;
    int32_t layer;
    enum state_part part;
};

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t mixed = (a ^ (b + 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 29)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 32);
}

static uint64_t add_token(uint64_t checksum, int32_t token) {
    return mix(checksum, (uint64_t)(uint32_t)token);
}

// In [0, 8), exact in 24 bits.
static float nll_of(uint64_t checksum, int32_t target) {
    const uint64_t bits = mix(checksum ^ 0x5ca1ab1eu, (uint64_t)(uint32_t)target) >> 40;
    return (float)bits / 2097152.0f;
}

static int32_t best_of(uint64_t checksum) {
    return (int32_t)(mix(checksum, 0xbe57u) % TOY_BEST_TOKENS);
}

// In (0, 8] for the best token, in [-8, 0) for others, exact in 24 bits.
static float margin_of(uint64_t checksum, int32_t target) {
    const uint64_t bits = mix(checksum ^ 0x3a261u, (uint64_t)(uint32_t)target) >> 40;
    const float size = (float)(bits + 1) / 2097152.0f;
    if (target < 0) return NAN;
    return target == best_of(checksum) ? size : -size;
}

static uint64_t checksum_of(const int32_t *token, int64_t tokens) {
    uint64_t checksum = CHECKSUM_EMPTY;
    for (int64_t i = 0; i < tokens; i++)
        checksum = add_token(checksum, token[i]);
    return checksum;
}

float toy_nll(const int32_t *token, int64_t tokens, int32_t target) {
    return nll_of(checksum_of(token, tokens), target);
}

int32_t toy_best(const int32_t *token, int64_t tokens) {
    return best_of(checksum_of(token, tokens));
}

float toy_margin(const int32_t *token, int64_t tokens, int32_t target) {
    return margin_of(checksum_of(token, tokens), target);
}

void toy_expected_nlls(const int32_t *token, int64_t tokens, float *nll) {
    uint64_t checksum = CHECKSUM_EMPTY;
    for (int64_t i = 0; i < tokens; i++) {
        nll[i] = i == 0 ? 0.0f : nll_of(checksum, token[i]);
        checksum = add_token(checksum, token[i]);
    }
}

double toy_expected_window(const int32_t *token, int64_t first, int64_t end) {
    uint64_t checksum = CHECKSUM_EMPTY;
    double sum = 0.0;
    for (int64_t i = 0; i < end; i++) {
        if (i >= first && i > 0) sum += (double)nll_of(checksum, token[i]);
        checksum = add_token(checksum, token[i]);
    }
    return sum;
}

double toy_expected_nll(const int32_t *token, int64_t tokens, int64_t first_scored) {
    return toy_expected_window(token, first_scored, tokens);
}

// The first word of a part is the checksum, every other follows from it, the place and the layer.
static uint64_t word_at(uint64_t checksum, int32_t layer, enum state_part part, size_t word) {
    if (word == 0) return checksum;
    return mix(checksum, ((uint64_t)word << 16) ^ ((uint64_t)layer << 1) ^ (uint64_t)part);
}

static size_t part_first(const struct model *model, int32_t layer, enum state_part part) {
    const size_t first = (size_t)layer * model->info.layer_bytes;
    return part == STATE_SSM ? first : first + model->info.ssm_bytes;
}

static size_t part_words(const struct model *model, enum state_part part) {
    const size_t conv_bytes = model->info.layer_bytes - model->info.ssm_bytes;
    return (part == STATE_SSM ? model->info.ssm_bytes : conv_bytes) / sizeof(uint64_t);
}

static void write_part(const struct model *model, char *state, int32_t layer, enum state_part part,
                       uint64_t checksum) {
    char *at = state + part_first(model, layer, part);
    const size_t words = part_words(model, part);
    for (size_t i = 0; i < words; i++) {
        const uint64_t word = word_at(checksum, layer, part, i);
        memcpy(at + i * sizeof word, &word, sizeof word);
    }
}

static uint64_t read_part(const struct model *model, const char *state, int32_t layer,
                          enum state_part part) {
    if (state == NULL) return CHECKSUM_EMPTY;
    const char *at = state + part_first(model, layer, part);
    const size_t words = part_words(model, part);
    uint64_t checksum = 0, word = 0;
    memcpy(&checksum, at, sizeof checksum);
    for (size_t i = 1; i < words; i++) {
        memcpy(&word, at + i * sizeof word, sizeof word);
        if (word == word_at(checksum, layer, part, i)) continue;
        LOG(ERROR, "toy model: state torn, layer=%d part=%s word=%zu", layer,
            part == STATE_SSM ? "ssm" : "conv", i);
        return CHECKSUM_BROKEN;
    }
    return checksum;
}

static void scan_rows(struct toy_run *run) {
    const struct model *model = run->model;
    int64_t row = 0;
    for (int64_t s = 0; s < run->span_count; s++) {
        uint64_t checksum = run->before[s];
        for (int64_t i = 0; i < run->span[s].rows; i++, row++) {
            checksum = add_token(checksum, model->token[row]);
            model->checksum[row] = checksum;
        }
        run->after[s] = run->before[s] == CHECKSUM_BROKEN ? CHECKSUM_BROKEN : checksum;
    }
}

// Queued: takes the part of every state in, and writes that of every state out.
static void run_part(void *argument) {
    const struct toy_part *part = argument;
    struct toy_run *run = part->run;
    const struct model *model = run->model;
    const bool first = part->layer == 0 && part->part == STATE_CONV;
    for (int64_t s = 0; s < run->span_count; s++) {
        const uint64_t before = read_part(model, run->span[s].state_in, part->layer, part->part);
        if (first) {
            run->before[s] = before;
        } else if (before != run->before[s]) {
            LOG(ERROR, "toy model: state of another time or document, layer=%d part=%s span=%ld",
                part->layer, part->part == STATE_SSM ? "ssm" : "conv", (long)s);
            run->before[s] = run->after[s] = CHECKSUM_BROKEN;
        }
    }
    if (first) scan_rows(run);
    if (part->part == STATE_SSM && model->delay_us > 0) {
        const struct timespec delay = {model->delay_us / 1000000, model->delay_us % 1000000 * 1000};
        nanosleep(&delay, NULL);
    }
    for (int64_t s = 0; s < run->span_count; s++) {
        if (run->span[s].state_out == NULL) continue;
        write_part(model, run->span[s].state_out, part->layer, part->part, run->after[s]);
    }
}

static void run_head(void *argument) {
    struct toy_run *run = argument;
    const struct model *model = run->model;
    int64_t row = 0, asked = 0;
    for (int64_t s = 0; s < run->span_count; s++) {
        const bool broken = run->after[s] == CHECKSUM_BROKEN;
        for (int64_t i = 0; i < run->span[s].rows; i++, row++) {
            const int32_t target = model->target[row];
            model->nll[row] = target < 0 ? 0.0f
                              : broken   ? NAN
                                         : nll_of(model->checksum[row], target);
            if (asked == run->asked_count || model->asked[asked] != row) continue;
            const uint64_t checksum = model->checksum[row];
            model->best[asked].token = broken ? -1 : best_of(checksum);
            model->best[asked].margin = broken ? NAN : margin_of(checksum, target);
            asked++;
        }
    }
}

static void end_run(void *argument) {
    free(argument);
}

static void check_step(const struct model *model, const struct model_step *step) {
    int64_t rows = 0;
    CHECK(step->rows > 0 && step->rows <= model->step_tokens && step->span_count > 0);
    for (int64_t s = 0; s < step->span_count; s++) {
        const struct model_span *span = &step->spans[s];
        CHECK(span->rows > 0);
        CHECK(span->state_in == NULL || span->state_in != span->state_out);
        rows += span->rows;
    }
    CHECK(rows == step->rows);
    for (int64_t i = 0; i < rows; i++) {
        CHECK(step->token[i] >= 0 && step->token[i] < model->info.vocab_size);
        CHECK(step->target[i] >= -1 && step->target[i] < model->info.vocab_size);
    }
    CHECK(step->asked_count >= 0 && step->asked_count <= model->asked_most);
    for (int64_t i = 0; i < step->asked_count; i++) {
        CHECK(step->asked[i] > (i == 0 ? -1 : step->asked[i - 1]) && step->asked[i] < rows);
    }
}

static enum status make_run(struct model *model, const struct model_step *step,
                            struct toy_run **made, struct toy_part **parts) {
    const size_t spans = (size_t)step->span_count;
    const size_t part_count = (size_t)model->info.layers * STATE_PARTS;
    const size_t span_bytes = sizeof(struct toy_run) + spans * sizeof(struct model_span);
    const size_t bytes = span_bytes + 2 * spans * sizeof(uint64_t);
    char *block = calloc(1, bytes + part_count * sizeof(struct toy_part));
    if (block == NULL) return FAIL(NO_MEMORY, "a step of the toy model");
    struct toy_run *run = (struct toy_run *)(void *)block;
    run->model = model;
    run->rows = step->rows;
    run->span_count = step->span_count;
    run->asked_count = step->asked_count;
    run->before = (uint64_t *)(void *)(block + span_bytes);
    run->after = run->before + spans;
    memcpy(run->span, step->spans, spans * sizeof *run->span);
    *parts = (struct toy_part *)(void *)(block + bytes);
    *made = run;
    return STATUS_OK;
}

static enum status queue_part(struct model *model, struct toy_part *part, struct toy_run *run,
                              struct boundary *boundary, int32_t layer, enum state_part which) {
    *part = (struct toy_part){run, layer, which};
    if (boundary != NULL) TRY(boundary->arrive(boundary, layer, which));
    TRY(model->backend->table->call(model->backend, run_part, part));
    if (boundary != NULL) TRY(boundary->leave(boundary, layer, which));
    return STATUS_OK;
}

enum status model_run(struct model *model, const struct model_step *step) {
    struct backend *backend = model->backend;
    const struct backend_table *table = backend->table;
    const size_t ids_bytes = (size_t)step->rows * sizeof *step->token;
    const size_t asked = (size_t)step->asked_count;
    struct toy_run *run = NULL;
    struct toy_part *part = NULL;
    enum status status = STATUS_OK;
    check_step(model, step);
    TRY(make_run(model, step, &run, &part));
    TRY_OUT(status, table->upload(backend, model->token, step->token, ids_bytes));
    TRY_OUT(status, table->upload(backend, model->target, step->target, ids_bytes));
    if (asked > 0) {
        TRY_OUT(status,
                table->upload(backend, model->asked, step->asked, asked * sizeof *step->asked));
    }
    for (int32_t layer = 0; layer < model->info.layers; layer++) {
        TRY_OUT(status, queue_part(model, part++, run, step->boundary, layer, STATE_CONV));
        TRY_OUT(status, queue_part(model, part++, run, step->boundary, layer, STATE_SSM));
    }
    TRY_OUT(status, table->call(backend, run_head, run));
    TRY_OUT(status, table->download(backend, step->nll, model->nll,
                                    (size_t)step->rows * sizeof *step->nll));
    if (asked > 0) {
        TRY_OUT(status,
                table->download(backend, step->best, model->best, asked * sizeof *step->best));
    }
out:
    // What is queued already may still use it.
    if (table->call(backend, end_run, run) != STATUS_OK) {
        return FAIL(UNEXPECTED, "toy model: the queue takes no calls, a step stays in memory");
    }
    return status;
}

// Fills in a setting "name=number" of the list; STATUS_MISMATCH for any other.
static enum status take_setting(const char *text, size_t bytes, struct model *model) {
    char item[64];
    if (bytes >= sizeof item) return FAIL(MISMATCH, "toy model: setting too long in %s", text);
    memcpy(item, text, bytes);
    item[bytes] = '\0';
    char *value = strchr(item, '=');
    char *end = NULL;
    if (value == NULL) return FAIL(MISMATCH, "toy model: '%s' is not name=number", item);
    *value++ = '\0';
    const long number = strtol(value, &end, 10);
    if (end == value || *end != '\0' || number < 0 || number > 1 << 30) {
        return FAIL(MISMATCH, "toy model: %s=%s is not a number in range", item, value);
    }
    if (strcmp(item, "layers") == 0) {
        model->info.layers = (int32_t)number;
    } else if (strcmp(item, "layer_bytes") == 0) {
        model->info.layer_bytes = (size_t)number;
    } else if (strcmp(item, "vocab") == 0) {
        model->info.vocab_size = (int32_t)number;
    } else if (strcmp(item, "delay_us") == 0) {
        model->delay_us = number;
    } else {
        return FAIL(MISMATCH, "toy model: no setting '%s'", item);
    }
    return STATUS_OK;
}

static enum status take_settings(const char *dir, struct model *model) {
    struct model_info *info = &model->info;
    *info = (struct model_info){.name = "toy",
                                .parameters = 1,
                                .vocab_size = 256,
                                .layers = 3,
                                .layer_bytes = 4096,
                                .hash = CHECKSUM_EMPTY};
    if (strncmp(dir, "toy", 3) != 0 || (dir[3] != '\0' && dir[3] != ':')) {
        return FAIL(MISMATCH, "toy model: '%s' does not begin with toy:", dir);
    }
    const char *at = dir + 3;
    while (*at != '\0') {
        at++; // the colon or comma
        const size_t bytes = strcspn(at, ",");
        TRY(take_setting(at, bytes, model));
        at += bytes;
    }
    if (info->layers < 1 || info->vocab_size < 1 || info->layer_bytes < 64 ||
        info->layer_bytes % 32 != 0) {
        return FAIL(MISMATCH, "toy model: %s cannot be", dir);
    }
    info->ssm_bytes = info->layer_bytes / 4 * 3;
    info->hash = mix(mix(mix(info->hash, (uint64_t)info->layers), info->layer_bytes),
                     (uint64_t)info->vocab_size);
    return STATUS_OK;
}

enum status model_open(const char *dir, struct backend *backend,
                       const struct model_settings *settings, struct model **opened) {
    enum status status = STATUS_OK;
    const struct backend_table *table = backend->table;
    const size_t rows = (size_t)settings->step_tokens, asked = (size_t)settings->asked_most;
    struct model *model = calloc(1, sizeof *model);
    if (model == NULL) return FAIL(NO_MEMORY, "toy model");
    model->backend = backend;
    model->step_tokens = settings->step_tokens;
    model->asked_most = settings->asked_most;
    TRY_OUT(status, take_settings(dir, model));
    CHECK(asked == 0 || model->info.vocab_size >= TOY_BEST_TOKENS);
    TRY_OUT(status, table->alloc(backend, rows * sizeof(int32_t), (void **)&model->token));
    TRY_OUT(status, table->alloc(backend, rows * sizeof(int32_t), (void **)&model->target));
    TRY_OUT(status, table->alloc(backend, rows * sizeof(float), (void **)&model->nll));
    TRY_OUT(status, table->alloc(backend, rows * sizeof(uint64_t), (void **)&model->checksum));
    TRY_OUT(status, table->alloc(backend, asked * sizeof(int32_t), (void **)&model->asked));
    TRY_OUT(status, table->alloc(backend, asked * sizeof *model->best, (void **)&model->best));
    *opened = model;
    model = NULL;
out:
    model_close(model);
    return status;
}

const struct model_info *model_info(const struct model *model) {
    return &model->info;
}

void model_close(struct model *model) {
    if (model == NULL) return;
    const struct backend_table *table = model->backend->table;
    if (table->wait(model->backend) != STATUS_OK) LOG(WARN, "toy model: closed after a failure");
    table->release(model->backend, model->token);
    table->release(model->backend, model->target);
    table->release(model->backend, model->nll);
    table->release(model->backend, model->checksum);
    table->release(model->backend, model->asked);
    table->release(model->backend, model->best);
    free(model);
}
