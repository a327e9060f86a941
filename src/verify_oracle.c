// A model on a backend against the same model token by token in double.

#include "src/settings.h"
#include "src/verify_plain.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

// How many times what a roundoff in the weights does is allowed: a backend rounds each activation
// some six times besides (root of the sum of squares: 2.6), and the largest of many errors varies.
#define MEAN_TIMES 3
#define MOST_TIMES 5
#define MOST_BYTES ((int64_t)4 << 30) // of weights that are copied for that

// Multiplications of a token: every weight of the products once, and the scan.
static double work_of(const struct mamba2_config *c) {
    const double layer = (double)(c->hidden_size * (c->proj_width + c->d_inner)) +
                         3 * (double)(c->d_inner * c->d_state);
    return layer * (double)c->layers + (double)(c->vocab_size * c->hidden_size);
}

struct comparing {
    const struct verify_trial *trial;
    int64_t tokens; // that go through; one prediction fewer is compared
    int32_t *target;
    float *nll;
    double *exact, *moved; // NLLs in float64, by the weights and by weights that are off
    char *slot;            // backend memory
    float *state;          // a layer's, host
};

static enum status run_backend(struct comparing *comparing) {
    const struct verify_trial *trial = comparing->trial;
    const struct model_info *info = model_info(trial->model);
    struct backend *backend = trial->subject->backend;
    void *slot = NULL;
    TRY(backend->table->alloc(backend, (size_t)info->layers * info->layer_bytes, &slot));
    comparing->slot = slot;
    const struct model_span span = {.rows = comparing->tokens, .state_out = slot};
    const struct model_step step = {.rows = comparing->tokens,
                                    .token = trial->subject->token,
                                    .target = comparing->target,
                                    .spans = &span,
                                    .span_count = 1,
                                    .nll = comparing->nll};
    for (int64_t i = 0; i < comparing->tokens; i++) {
        comparing->target[i] = i + 1 < comparing->tokens ? trial->subject->token[i + 1] : -1;
    }
    TRY(model_run(trial->model, &step));
    return backend->table->wait(backend);
}

static double worse(double left, double right) {
    return left > right || isnan(left) ? left : right;
}

// Relative to the norm of what is exact.
static double relative(double apart, double whole) {
    return whole > 0 ? sqrt(apart / whole) : sqrt(apart);
}

// Of one layer's SSM state, the backend's and a shaken oracle's (NULL: there is none).
static enum status compare_state(const struct comparing *comparing, const struct oracle *oracle,
                                 const struct oracle *shaken, int64_t layer,
                                 struct verify_check *check) {
    const struct model_info *info = model_info(comparing->trial->model);
    struct backend *backend = comparing->trial->subject->backend;
    const double *exact = oracle_state(oracle, layer);
    const double *moved = shaken != NULL ? oracle_state(shaken, layer) : exact;
    double apart = 0, apart_moved = 0, whole = 0;
    TRY(backend->table->download(backend, comparing->state,
                                 comparing->slot + (size_t)layer * info->layer_bytes,
                                 info->ssm_bytes));
    TRY(backend->table->wait(backend));
    for (size_t i = 0; i < info->ssm_bytes / sizeof(float); i++) {
        const double difference = (double)comparing->state[i] - exact[i];
        apart += difference * difference;
        apart_moved += (moved[i] - exact[i]) * (moved[i] - exact[i]);
        whole += exact[i] * exact[i];
    }
    check->state = worse(relative(apart, whole), check->state);
    check->state_allowed = worse(MEAN_TIMES * relative(apart_moved, whole), check->state_allowed);
    return STATUS_OK;
}

// The float64 model along the text, on a thread of its own.
struct walk {
    const struct comparing *comparing;
    struct oracle *oracle; // NULL: there is none to walk with
    double *nll;           // [tokens], of each token's successor
};

static void *walk(void *argument) {
    const struct walk *walk = argument;
    const struct verify_trial *trial = walk->comparing->trial;
    const int32_t *token = trial->subject->token;
    const int64_t last = walk->comparing->tokens - 1;
    for (int64_t i = 0; i <= last && !stop_requested(); i++) {
        const double *logits = oracle_step(walk->oracle, token[i]);
        if (i < last) walk->nll[i] = oracle_nll(logits, trial->config.vocab_size, token[i + 1]);
    }
    return NULL;
}

static enum status walk_both(struct walk *exact, struct walk *moved) {
    pthread_t thread;
    const bool apart = moved->oracle != NULL;
    if (apart && pthread_create(&thread, NULL, walk, moved) != 0) {
        return FAIL(UNEXPECTED, "cannot start a thread for the float64 model");
    }
    walk(exact);
    if (apart) pthread_join(thread, NULL);
    return stop_requested() ? STATUS_STOPPED : STATUS_OK;
}

// Each token's error, and the largest that is due to a roundoff of the weights.
static void compare_nlls(const struct comparing *comparing, const double *moved,
                         struct verify_check *check) {
    const int64_t predictions = comparing->tokens - 1;
    double sum = 0, moved_sum = 0, moved_most = 0;
    for (int64_t i = 0; i < predictions; i++) {
        const double exact = comparing->exact[i];
        const double apart = fabs((double)comparing->nll[i] - exact);
        const double away = moved != NULL ? fabs(moved[i] - exact) : 0;
        check->most = worse(apart, check->most);
        moved_most = worse(away, moved_most);
        sum += apart;
        moved_sum += away;
    }
    check->mean = sum / (double)predictions;
    check->mean_allowed = MEAN_TIMES * moved_sum / (double)predictions;
    check->most_allowed = MOST_TIMES * moved_most;
}

// Comparisons are false for NaN.
static void judge(const struct comparing *comparing, struct verify_check *check) {
    const struct verify_tolerance *tolerance = &comparing->trial->subject->tolerance;
    check->mean_allowed = worse(tolerance->mean, check->mean_allowed);
    check->most_allowed = worse(tolerance->each, check->most_allowed);
    check->state_allowed = worse(tolerance->state, check->state_allowed);
    check->passed = check->mean <= check->mean_allowed && check->state <= check->state_allowed;
    for (int64_t i = 0; i + 1 < comparing->tokens; i++) {
        const double exact = comparing->exact[i], share = tolerance->share * exact;
        const double allowed = share > check->most_allowed ? share : check->most_allowed;
        const bool within = fabs((double)comparing->nll[i] - exact) <= allowed;
        check->passed = check->passed && within;
    }
}

// A copy of large models' weights would not fit everywhere: those get the plain tolerance.
static bool is_shaken(const struct verify_trial *trial) {
    return trial->subject->tolerance.roundoff > 0 &&
           work_of(&trial->config) * (double)sizeof(float) <= (double)MOST_BYTES;
}

static enum status compare(const struct comparing *comparing, struct walk *exact,
                           struct walk *moved, struct verify_check *check) {
    TRY(walk_both(exact, moved));
    compare_nlls(comparing, moved->oracle != NULL ? moved->nll : NULL, check);
    for (int64_t layer = 0; layer < comparing->trial->config.layers; layer++) {
        TRY(compare_state(comparing, exact->oracle, moved->oracle, layer, check));
    }
    judge(comparing, check);
    return STATUS_OK;
}

static enum status run(struct comparing *comparing, struct verify_check *check) {
    const struct verify_trial *trial = comparing->trial;
    struct plain plain = {0}, shaken = {0};
    struct walk exact = {.comparing = comparing, .nll = comparing->exact};
    struct walk moved = {.comparing = comparing, .nll = comparing->moved};
    enum status status = STATUS_OK;
    TRY_OUT(status, plain_open(trial, 0, &plain));
    TRY_OUT(status, oracle_open(&plain.weights, &exact.oracle));
    if (is_shaken(trial)) {
        TRY_OUT(status, plain_open(trial, trial->subject->tolerance.roundoff, &shaken));
        TRY_OUT(status, oracle_open(&shaken.weights, &moved.oracle));
    }
    TRY_OUT(status, run_backend(comparing));
    status = compare(comparing, &exact, &moved, check);
out:
    oracle_close(moved.oracle);
    oracle_close(exact.oracle);
    plain_close(&shaken);
    plain_close(&plain);
    return status;
}

enum status verify_oracle(const struct verify_trial *trial, int64_t least,
                          struct verify_report *report) {
    const struct verify_subject *subject = trial->subject;
    const int64_t most = (int64_t)(subject->oracle_work / work_of(&trial->config));
    struct comparing comparing = {.trial = trial,
                                  .tokens = most < subject->tokens ? most : subject->tokens};
    struct verify_check check = {.name = "float64", .layers = trial->config.layers, .first = -1};
    enum status status = STATUS_OK;
    if (comparing.tokens < 2 && least < 2) comparing.tokens = 2;
    if (comparing.tokens < least) return STATUS_OK;
    check.tokens = comparing.tokens;
    comparing.target = calloc((size_t)comparing.tokens, sizeof *comparing.target);
    comparing.nll = calloc((size_t)comparing.tokens, sizeof *comparing.nll);
    comparing.exact = calloc((size_t)comparing.tokens, sizeof *comparing.exact);
    comparing.moved = calloc((size_t)comparing.tokens, sizeof *comparing.moved);
    comparing.state = malloc(model_info(trial->model)->ssm_bytes);
    if (comparing.target == NULL || comparing.nll == NULL || comparing.exact == NULL ||
        comparing.moved == NULL || comparing.state == NULL) {
        status = FAIL(NO_MEMORY, "%lld tokens", (long long)comparing.tokens);
        goto out;
    }
    TRY_OUT(status, run(&comparing, &check));
    verify_add(report, &check);
out:
    subject->backend->table->release(subject->backend, comparing.slot);
    free(comparing.target);
    free(comparing.nll);
    free(comparing.exact);
    free(comparing.moved);
    free(comparing.state);
    return status;
}
