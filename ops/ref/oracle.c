// The float64 model: one token through all layers, then the next.
#include "ops/ref/oracle.h"

#include "ops/ref/ref.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct oracle {
    const struct oracle_weights *weights; // borrowed
    double *state;                        // [layers, heads, d_state, head_dim]
    double *tail;                         // [layers, d_conv - 1, conv_width], oldest first
    double *residual;                     // [d_model]
    double *normed;                       // [d_model]
    double *projected;                    // [2 d_inner + 2 groups d_state + heads]
    double *xbc;                          // [conv_width]
    double *y;                            // [d_inner]
    double *logits;                       // [vocab]
};

static int64_t d_inner(const struct oracle_weights *w) {
    return w->heads * w->head_dim;
}

static int64_t conv_width(const struct oracle_weights *w) {
    return d_inner(w) + 2 * w->groups * w->d_state;
}

static int64_t projected_width(const struct oracle_weights *w) {
    return d_inner(w) + conv_width(w) + w->heads;
}

enum status oracle_open(const struct oracle_weights *weights, struct oracle **opened) {
    struct oracle *o = calloc(1, sizeof *o);
    if (o == NULL) return FAIL(NO_MEMORY, "oracle");
    const int64_t state = weights->heads * weights->d_state * weights->head_dim;
    const int64_t tail = (weights->d_conv - 1) * conv_width(weights);
    o->weights = weights;
    // One element more, so that a convolution of one tap (no tail) is not an empty allocation.
    o->state = calloc((size_t)(weights->layers * state), sizeof(double));
    o->tail = calloc((size_t)(weights->layers * tail + 1), sizeof(double));
    o->residual = calloc((size_t)weights->d_model, sizeof(double));
    o->normed = calloc((size_t)weights->d_model, sizeof(double));
    o->projected = calloc((size_t)projected_width(weights), sizeof(double));
    o->xbc = calloc((size_t)conv_width(weights), sizeof(double));
    o->y = calloc((size_t)d_inner(weights), sizeof(double));
    o->logits = calloc((size_t)weights->vocab, sizeof(double));
    if (o->state == NULL || o->tail == NULL || o->residual == NULL || o->normed == NULL ||
        o->projected == NULL || o->xbc == NULL || o->y == NULL || o->logits == NULL) {
        oracle_close(o);
        return FAIL(NO_MEMORY, "oracle of %lld layers", (long long)weights->layers);
    }
    *opened = o;
    return STATUS_OK;
}

void oracle_close(struct oracle *oracle) {
    if (oracle == NULL) return;
    free(oracle->state);
    free(oracle->tail);
    free(oracle->residual);
    free(oracle->normed);
    free(oracle->projected);
    free(oracle->xbc);
    free(oracle->y);
    free(oracle->logits);
    free(oracle);
}

const double *oracle_state(const struct oracle *oracle, int64_t layer) {
    const struct oracle_weights *w = oracle->weights;
    return oracle->state + layer * w->heads * w->d_state * w->head_dim;
}

// out = weight in (+ bias). Four rows at a time: their sums do not wait for each other.
static void multiply(const float *weight, const float *bias, const double *in, int64_t outputs,
                     int64_t inputs, double *out) {
    int64_t n = 0;
    for (; n + 4 <= outputs; n += 4) {
        const float *w = weight + n * inputs;
        double sum[4] = {0.0, 0.0, 0.0, 0.0};
        for (int64_t k = 0; k < inputs; k++) {
            sum[0] += (double)w[k] * in[k];
            sum[1] += (double)w[inputs + k] * in[k];
            sum[2] += (double)w[2 * inputs + k] * in[k];
            sum[3] += (double)w[3 * inputs + k] * in[k];
        }
        memcpy(out + n, sum, sizeof sum);
    }
    for (; n < outputs; n++) {
        out[n] = 0.0;
        for (int64_t k = 0; k < inputs; k++) {
            out[n] += (double)weight[n * inputs + k] * in[k];
        }
    }
    for (n = 0; bias != NULL && n < outputs; n++) {
        out[n] += (double)bias[n];
    }
}

static void rms_norm(const double *in, const float *weight, int64_t width, double epsilon,
                     double *out) {
    double sum = 0.0;
    for (int64_t c = 0; c < width; c++) {
        sum += in[c] * in[c];
    }
    const double scale = 1.0 / sqrt(sum / (double)width + epsilon);
    for (int64_t c = 0; c < width; c++) {
        out[c] = in[c] * scale * (double)weight[c];
    }
}

// raw [conv_width] enters the tail; the oldest input leaves it.
static void convolve(struct oracle *o, const struct oracle_layer *layer, double *tail,
                     const double *raw) {
    const struct oracle_weights *w = o->weights;
    const int64_t width = conv_width(w);
    for (int64_t c = 0; c < width; c++) {
        const float *tap = layer->conv + c * w->d_conv;
        double sum = layer->conv_bias == NULL ? 0.0 : (double)layer->conv_bias[c];
        for (int64_t j = 0; j < w->d_conv - 1; j++) {
            sum += (double)tap[j] * tail[j * width + c];
        }
        sum += (double)tap[w->d_conv - 1] * raw[c];
        o->xbc[c] = ref_silu(sum);
    }
    if (w->d_conv < 2) return;
    const size_t row_bytes = (size_t)width * sizeof(double);
    memmove(tail, tail + width, (size_t)(w->d_conv - 2) * row_bytes);
    memcpy(tail + (w->d_conv - 2) * width, raw, row_bytes);
}

static void recur(struct oracle *o, const struct oracle_layer *layer, double *state,
                  const double *raw_dt) {
    const struct oracle_weights *w = o->weights;
    for (int64_t h = 0; h < w->heads; h++) {
        const int64_t group = h / (w->heads / w->groups);
        const double *x = o->xbc + h * w->head_dim;
        const double *b = o->xbc + d_inner(w) + group * w->d_state;
        const double *c = b + w->groups * w->d_state;
        const double soft = ref_softplus(raw_dt[h] + (double)layer->dt_bias[h]);
        const double dt = fmin(fmax(soft, w->dt_least), w->dt_most);
        const double decay = exp(-dt * exp((double)layer->a_log[h]));
        double *y = o->y + h * w->head_dim;
        double *s = state + h * w->d_state * w->head_dim;
        for (int64_t p = 0; p < w->head_dim; p++) {
            y[p] = (double)layer->d[h] * x[p];
        }
        for (int64_t n = 0; n < w->d_state; n++, s += w->head_dim) {
            for (int64_t p = 0; p < w->head_dim; p++) {
                s[p] = decay * s[p] + dt * b[n] * x[p];
                y[p] += c[n] * s[p];
            }
        }
    }
}

// y becomes the gated and normed y.
static void gate(struct oracle *o, const struct oracle_layer *layer, const double *z) {
    const struct oracle_weights *w = o->weights;
    const int64_t width = d_inner(w) / w->norm_groups;
    for (int64_t i = 0; !w->norm_before_gate && i < d_inner(w); i++) {
        o->y[i] *= ref_silu(z[i]);
    }
    for (int64_t g = 0; g < w->norm_groups; g++) {
        double *y = o->y + g * width;
        rms_norm(y, layer->gate_norm + g * width, width, w->epsilon, y);
    }
    for (int64_t i = 0; w->norm_before_gate && i < d_inner(w); i++) {
        o->y[i] *= ref_silu(z[i]);
    }
}

const double *oracle_step(struct oracle *oracle, int32_t token) {
    struct oracle *o = oracle;
    const struct oracle_weights *w = o->weights;
    for (int64_t c = 0; c < w->d_model; c++) {
        o->residual[c] = (double)w->embedding[token * w->d_model + c];
    }
    for (int64_t l = 0; l < w->layers; l++) {
        const struct oracle_layer *layer = &w->layer[l];
        double *state = o->state + l * w->heads * w->d_state * w->head_dim;
        double *tail = o->tail + l * (w->d_conv - 1) * conv_width(w);
        rms_norm(o->residual, layer->norm, w->d_model, w->epsilon, o->normed);
        multiply(layer->in_proj, layer->in_proj_bias, o->normed, projected_width(w), w->d_model,
                 o->projected);
        convolve(o, layer, tail, o->projected + d_inner(w));
        recur(o, layer, state, o->projected + d_inner(w) + conv_width(w));
        gate(o, layer, o->projected);
        multiply(layer->out_proj, layer->out_proj_bias, o->y, w->d_model, d_inner(w), o->normed);
        for (int64_t c = 0; c < w->d_model; c++) {
            o->residual[c] += o->normed[c];
        }
    }
    rms_norm(o->residual, w->final_norm, w->d_model, w->epsilon, o->normed);
    multiply(w->head, NULL, o->normed, w->vocab, w->d_model, o->logits);
    return o->logits;
}

double oracle_nll(const double *logits, int64_t vocab, int32_t token) {
    double most = logits[0];
    for (int64_t v = 1; v < vocab; v++) {
        most = fmax(most, logits[v]);
    }
    double sum = 0.0;
    for (int64_t v = 0; v < vocab; v++) {
        sum += exp(logits[v] - most);
    }
    // cppcheck-suppress invalidFunctionArg ; the largest logit adds 1
    return most + log(sum) - logits[token];
}

enum status oracle_score(const struct oracle_weights *weights, const int32_t *token, int64_t tokens,
                         double *nll) {
    struct oracle *oracle = NULL;
    TRY(oracle_open(weights, &oracle));
    for (int64_t i = 0; i + 1 < tokens; i++) {
        nll[i] = oracle_nll(oracle_step(oracle, token[i]), weights->vocab, token[i + 1]);
    }
    oracle_close(oracle);
    return STATUS_OK;
}
