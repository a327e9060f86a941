// The same document however the work is cut: the bits of its NLLs and of its last state may not
// change. The reference is the document alone in one step.

#include "ops/base/check.h"
#include "src/settings.h"
#include "src/verify.h"

#include <stdlib.h>
#include <string.h>

#define PLACES      12  // where a short document is tried in a step
#define SHORT_MOST  130 // its tokens: three tiles
#define BEHIND_MOST 512

struct trying {
    const struct verify_trial *trial;
    int64_t tokens; // of the document
    uint64_t random;
    // of a step
    int32_t *token, *target;
    float *nll;
    // of the document
    float *reference, *got;    // [tokens]
    char *first_state, *state; // host, all layers
    char *slot[2];             // backend memory
    size_t state_bytes;
};

static int64_t draw(struct trying *trying, int64_t below) {
    uint64_t z = trying->random += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return (int64_t)((z ^ (z >> 31)) % (uint64_t)below);
}

static struct backend *backend_of(const struct trying *trying) {
    return trying->trial->subject->backend;
}

static int32_t target_of(const struct trying *trying, int64_t position, int64_t tokens) {
    return position + 1 < tokens ? trying->trial->subject->token[position + 1] : -1;
}

// One step of a model: `rows` rows stand in token and target already.
static enum status run(struct trying *trying, struct model *model, const struct model_span *spans,
                       int64_t span_count, int64_t rows) {
    const struct model_step step = {.rows = rows,
                                    .token = trying->token,
                                    .target = trying->target,
                                    .spans = spans,
                                    .span_count = span_count,
                                    .nll = trying->nll};
    if (stop_requested()) return STATUS_STOPPED;
    TRY(model_run(model, &step));
    return backend_of(trying)->table->wait(backend_of(trying));
}

// Positions [first, first + rows) of the document, of which `tokens` count, into the step at `row`.
static void lay(struct trying *trying, int64_t row, int64_t first, int64_t rows, int64_t tokens) {
    for (int64_t i = 0; i < rows; i++) {
        trying->token[row + i] = trying->trial->subject->token[first + i];
        trying->target[row + i] = target_of(trying, first + i, tokens);
    }
}

static void lay_strangers(struct trying *trying, int64_t row, int64_t rows) {
    const int64_t vocab = trying->trial->config.vocab_size;
    for (int64_t i = 0; i < rows; i++) {
        trying->token[row + i] = (int32_t)draw(trying, vocab);
        trying->target[row + i] = (int32_t)draw(trying, vocab);
    }
}

static enum status read_state(const struct trying *trying, const char *slot, char *state) {
    struct backend *backend = backend_of(trying);
    TRY(backend->table->download(backend, state, slot, trying->state_bytes));
    return backend->table->wait(backend);
}

// The document in steps of `rows` each, from slot to slot. NLLs in got, the last state in state.
static enum status run_in_steps(struct trying *trying, struct model *model, int64_t rows) {
    int turn = 0;
    for (int64_t first = 0; first < trying->tokens; first += rows) {
        const int64_t left = trying->tokens - first, now = rows < left ? rows : left;
        const struct model_span span = {.rows = now,
                                        .state_in = first > 0 ? trying->slot[1 - turn] : NULL,
                                        .state_out = trying->slot[turn]};
        lay(trying, 0, first, now, trying->tokens);
        TRY(run(trying, model, &span, 1, now));
        memcpy(trying->got + first, trying->nll, (size_t)now * sizeof(float));
        turn = 1 - turn;
    }
    return read_state(trying, trying->slot[1 - turn], trying->state);
}

static void count_different(struct verify_check *check, const float *got, const float *expected,
                            int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (memcmp(&got[i], &expected[i], sizeof *got) == 0) continue;
        if (check->different == 0) check->first = i;
        check->different++;
    }
}

// What lies between a layer's state and the next one's is nobody's.
static void count_different_states(const struct trying *trying, struct verify_check *check) {
    for (size_t i = 0; i < trying->state_bytes; i++) {
        check->different += trying->state[i] != trying->first_state[i];
    }
}

static struct verify_check exact_check(const struct trying *trying, const char *name) {
    return (struct verify_check){.name = name,
                                 .exact = true,
                                 .tokens = trying->tokens,
                                 .layers = trying->trial->config.layers,
                                 .first = -1};
}

static void judge(struct verify_report *report, struct verify_check *check) {
    check->passed = check->different == 0;
    verify_add(report, check);
}

static enum status check_cuts(struct trying *trying, struct model *model, const char *name,
                              const int64_t *rows, int64_t count, struct verify_report *report) {
    struct verify_check check = exact_check(trying, name);
    for (int64_t i = 0; i < count; i++) {
        TRY(run_in_steps(trying, model, rows[i]));
        count_different(&check, trying->got, trying->reference, trying->tokens);
        count_different_states(trying, &check);
    }
    judge(report, &check);
    return STATUS_OK;
}

// Strangers before and behind the document, other ones each time.
static enum status check_neighbours(struct trying *trying, struct verify_report *report) {
    struct verify_check check = exact_check(trying, "neighbours");
    const int64_t spare = trying->trial->model->step_tokens - trying->tokens;
    for (int turn = 0; turn < 3; turn++) {
        const int64_t before = 1 + draw(trying, spare / 2),
                      behind = 1 + draw(trying, spare / 2 - 1);
        const struct model_span spans[] = {
            {.rows = before        },
            {.rows = trying->tokens, .state_out = trying->slot[0]},
            {.rows = behind                     },
        };
        lay_strangers(trying, 0, before);
        lay(trying, before, 0, trying->tokens, trying->tokens);
        lay_strangers(trying, before + trying->tokens, behind);
        TRY(run(trying, trying->trial->model, spans, 3, before + trying->tokens + behind));
        TRY(read_state(trying, trying->slot[0], trying->state));
        count_different(&check, trying->nll + before, trying->reference, trying->tokens);
        count_different_states(trying, &check);
    }
    judge(report, &check);
    return STATUS_OK;
}

// A short document at any row of steps of any size: what the matrix products make of a row may
// depend on neither. Its state shows a last bit that its NLLs round away.
// Comes last: the document's own state is not needed any more.
static enum status check_places(struct trying *trying, struct verify_report *report) {
    struct verify_check check = exact_check(trying, "places");
    const int64_t most = trying->trial->model->step_tokens;
    const int64_t tokens = trying->tokens < SHORT_MOST ? trying->tokens : SHORT_MOST;
    const struct model_span alone = {.rows = tokens, .state_out = trying->slot[0]};
    check.tokens = tokens;
    lay(trying, 0, 0, tokens, tokens);
    TRY(run(trying, trying->trial->model, &alone, 1, tokens));
    memcpy(trying->got, trying->nll, (size_t)tokens * sizeof(float));
    TRY(read_state(trying, trying->slot[0], trying->first_state));
    for (int place = 0; place < PLACES; place++) {
        const int64_t before = 1 + draw(trying, (most - tokens) / (1 + place % 4) - 2);
        const int64_t room = most - tokens - before;
        const int64_t behind = draw(trying, room < BEHIND_MOST ? room : BEHIND_MOST);
        const struct model_span spans[] = {
            {.rows = before},
            {.rows = tokens, .state_out = trying->slot[1]},
            {.rows = behind             }
        };
        lay_strangers(trying, 0, before);
        lay(trying, before, 0, tokens, tokens);
        lay_strangers(trying, before + tokens, behind);
        TRY(run(trying, trying->trial->model, spans, behind > 0 ? 3 : 2, before + tokens + behind));
        TRY(read_state(trying, trying->slot[1], trying->state));
        count_different(&check, trying->nll + before, trying->got, tokens);
        count_different_states(trying, &check);
    }
    judge(report, &check);
    return STATUS_OK;
}

static enum status make(struct trying *trying) {
    const struct model *model = trying->trial->model;
    const size_t rows = (size_t)model->step_tokens, tokens = (size_t)trying->tokens;
    trying->state_bytes = (size_t)model->info.layers * model->info.layer_bytes;
    trying->token = calloc(rows, sizeof *trying->token);
    trying->target = calloc(rows, sizeof *trying->target);
    trying->nll = calloc(rows, sizeof *trying->nll);
    trying->reference = calloc(tokens, sizeof *trying->reference);
    trying->got = calloc(tokens, sizeof *trying->got);
    trying->state = malloc(trying->state_bytes);
    trying->first_state = malloc(trying->state_bytes);
    if (trying->token == NULL || trying->target == NULL || trying->nll == NULL ||
        trying->reference == NULL || trying->got == NULL || trying->state == NULL ||
        trying->first_state == NULL) {
        return FAIL(NO_MEMORY, "two states of %zu bytes", trying->state_bytes);
    }
    for (int i = 0; i < 2; i++) {
        void *slot = NULL;
        TRY(backend_of(trying)->table->alloc(backend_of(trying), trying->state_bytes, &slot));
        trying->slot[i] = slot;
    }
    return STATUS_OK;
}

static void drop(struct trying *trying) {
    for (int i = 0; i < 2; i++) {
        backend_of(trying)->table->release(backend_of(trying), trying->slot[i]);
    }
    free(trying->token);
    free(trying->target);
    free(trying->nll);
    free(trying->reference);
    free(trying->got);
    free(trying->state);
    free(trying->first_state);
}

static enum status check_all(struct trying *trying, struct model *other,
                             struct verify_report *report) {
    static const int64_t chunks[] = {CHUNK_TOKENS, 2 * CHUNK_TOKENS};
    struct model *model = trying->trial->model;
    TRY(run_in_steps(trying, model, trying->tokens));
    memcpy(trying->reference, trying->got, (size_t)trying->tokens * sizeof(float));
    memcpy(trying->first_state, trying->state, trying->state_bytes);
    TRY(check_cuts(trying, model, "cuts", chunks, 2, report));
    TRY(check_cuts(trying, other, "step size", chunks, 2, report));
    TRY(check_neighbours(trying, report));
    return check_places(trying, report);
}

enum status verify_bits(const struct verify_trial *trial, const struct verify_trial *other,
                        struct verify_report *report) {
    const int64_t room = trial->model->step_tokens * 3 / 4; // neighbours are to fit beside it
    struct trying trying = {.trial = trial,
                            .tokens = trial->subject->tokens < room ? trial->subject->tokens : room,
                            .random = trial->subject->seed};
    enum status status = STATUS_OK;
    CHECK(other->model->step_tokens >= 2 * CHUNK_TOKENS);
    TRY_OUT(status, make(&trying));
    status = check_all(&trying, other->model, report);
out:
    drop(&trying);
    return status;
}
