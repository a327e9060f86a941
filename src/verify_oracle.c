// A model on a backend against the same model token by token in double.

#include "ops/ref/oracle.h"
#include "src/verify.h"

#include <math.h>
#include <stdlib.h>

// The oracle's weights. What is not f32 in the file is converted into blocks of our own.
struct plain {
    struct oracle_weights weights;
    struct oracle_layer *layers;
    float **block;
    int64_t blocks;
};

static enum status plain_tensor(struct plain *plain, const struct tensor *tensor,
                                const float **values) {
    *values = NULL;
    if (tensor == NULL) return STATUS_OK;
    float *room = NULL;
    if (tensor_needs_room(tensor)) {
        room = malloc((size_t)tensor->count * sizeof *room);
        if (room == NULL) return FAIL(NO_MEMORY, "%lld weights", (long long)tensor->count);
        plain->block[plain->blocks++] = room;
    }
    tensor_f32(tensor, room, values);
    return STATUS_OK;
}

static enum status plain_layer(struct plain *plain, const struct mamba2_layer_weights *from,
                               struct oracle_layer *to) {
    TRY(plain_tensor(plain, from->norm, &to->norm));
    TRY(plain_tensor(plain, from->in_proj, &to->in_proj));
    TRY(plain_tensor(plain, from->in_bias, &to->in_proj_bias));
    TRY(plain_tensor(plain, from->conv, &to->conv));
    TRY(plain_tensor(plain, from->conv_bias, &to->conv_bias));
    TRY(plain_tensor(plain, from->dt_bias, &to->dt_bias));
    TRY(plain_tensor(plain, from->a_log, &to->a_log));
    TRY(plain_tensor(plain, from->d, &to->d));
    TRY(plain_tensor(plain, from->gate_norm, &to->gate_norm));
    TRY(plain_tensor(plain, from->out_proj, &to->out_proj));
    return plain_tensor(plain, from->out_bias, &to->out_proj_bias);
}

static enum status plain_open(const struct verify_trial *trial, struct plain *plain) {
    const struct mamba2_config *config = &trial->config;
    const struct mamba2_weights *from = &trial->weights;
    const size_t layers = (size_t)config->layers;
    plain->layers = calloc(layers, sizeof *plain->layers);
    plain->block = calloc(11 * layers + 3, sizeof(float *));
    if (plain->layers == NULL || plain->block == NULL) {
        return FAIL(NO_MEMORY, "weights of %zu layers", layers);
    }
    plain->weights = (struct oracle_weights){
        .vocab = config->vocab_size,
        .d_model = config->hidden_size,
        .layers = config->layers,
        .heads = config->heads,
        .head_dim = config->head_dim,
        .d_state = config->d_state,
        .groups = config->groups,
        .d_conv = config->d_conv,
        .epsilon = config->epsilon,
        .dt_least = config->dt_least,
        .dt_most = config->dt_most,
        .norm_before_gate = config->norm_before_gate,
        .layer = plain->layers,
    };
    for (size_t i = 0; i < layers; i++) {
        TRY(plain_layer(plain, &from->layers[i], &plain->layers[i]));
    }
    TRY(plain_tensor(plain, from->embedding, &plain->weights.embedding));
    TRY(plain_tensor(plain, from->norm, &plain->weights.final_norm));
    if (from->head != from->embedding) return plain_tensor(plain, from->head, &plain->weights.head);
    plain->weights.head = plain->weights.embedding;
    return STATUS_OK;
}

static void plain_close(struct plain *plain) {
    for (int64_t i = 0; i < plain->blocks; i++) {
        free(plain->block[i]);
    }
    free(plain->block);
    free(plain->layers);
}

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
    char *slot;   // backend memory
    float *state; // a layer's, host
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

// Of one layer's SSM state: the norm of the difference over the norm.
static enum status state_error(const struct comparing *comparing, const struct oracle *oracle,
                               int64_t layer, double *error) {
    const struct model_info *info = model_info(comparing->trial->model);
    struct backend *backend = comparing->trial->subject->backend;
    const double *exact = oracle_state(oracle, layer);
    double apart = 0, whole = 0;
    TRY(backend->table->download(backend, comparing->state,
                                 comparing->slot + (size_t)layer * info->layer_bytes,
                                 info->ssm_bytes));
    TRY(backend->table->wait(backend));
    for (size_t i = 0; i < info->ssm_bytes / sizeof(float); i++) {
        const double difference = (double)comparing->state[i] - exact[i];
        apart += difference * difference;
        whole += exact[i] * exact[i];
    }
    *error = whole > 0 ? sqrt(apart / whole) : sqrt(apart);
    return STATUS_OK;
}

static enum status compare(const struct comparing *comparing, struct oracle *oracle,
                           struct verify_check *check) {
    const struct verify_trial *trial = comparing->trial;
    const struct verify_tolerance *tolerance = &trial->subject->tolerance;
    const int32_t *token = trial->subject->token;
    bool within = true;
    double sum = 0;
    for (int64_t i = 0; i < comparing->tokens; i++) {
        const double *logits = oracle_step(oracle, token[i]);
        if (i + 1 == comparing->tokens) break;
        const double exact = oracle_nll(logits, trial->config.vocab_size, token[i + 1]);
        const double apart = fabs((double)comparing->nll[i] - exact);
        const double allowed = tolerance->each + tolerance->share * exact;
        within = within && apart <= allowed; // false for NaN too
        check->most = worse(apart, check->most);
        sum += apart;
    }
    check->mean = sum / (double)(comparing->tokens - 1);
    for (int64_t layer = 0; layer < trial->config.layers; layer++) {
        double error = 0;
        TRY(state_error(comparing, oracle, layer, &error));
        check->state = worse(error, check->state);
    }
    check->passed = within && check->mean <= tolerance->mean && check->state <= tolerance->state;
    return STATUS_OK;
}

static enum status run(struct comparing *comparing, struct verify_check *check) {
    struct plain plain = {0};
    struct oracle *oracle = NULL;
    enum status status = STATUS_OK;
    TRY_OUT(status, plain_open(comparing->trial, &plain));
    TRY_OUT(status, oracle_open(&plain.weights, &oracle));
    TRY_OUT(status, run_backend(comparing));
    status = compare(comparing, oracle, check);
out:
    oracle_close(oracle);
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
    comparing.state = malloc(model_info(trial->model)->ssm_bytes);
    if (comparing.target == NULL || comparing.nll == NULL || comparing.state == NULL) {
        status = FAIL(NO_MEMORY, "%lld tokens", (long long)comparing.tokens);
        goto out;
    }
    TRY_OUT(status, run(&comparing, &check));
    verify_add(report, &check);
out:
    subject->backend->table->release(subject->backend, comparing.slot);
    free(comparing.target);
    free(comparing.nll);
    free(comparing.state);
    return status;
}
