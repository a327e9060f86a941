// References of the operators that work row by row: embedding, norms, linear, dt, head, best.
#include "ops/ref/ref.h"

#include <math.h>

double ref_silu(double x) {
    return x / (1.0 + exp(-x));
}

double ref_softplus(double x) {
    return x > 40.0 ? x : log1p(exp(x));
}

static float *row_of(const struct matrix *m, int64_t row) {
    return m->data + row * m->stride;
}

static double mean_square(const float *v, int64_t count) {
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++) {
        sum += (double)v[i] * (double)v[i];
    }
    return sum / (double)count;
}

void ref_embedding(const struct embedding_args *args) {
    for (int64_t t = 0; t < args->out.rows; t++) {
        const float *from = row_of(&args->weight, args->token[t]);
        float *to = row_of(&args->out, t);
        for (int64_t c = 0; c < args->out.columns; c++) {
            to[c] = from[c];
        }
    }
}

void ref_rms_norm(const struct rms_norm_args *args) {
    const int64_t width = args->in.columns;
    for (int64_t t = 0; t < args->in.rows; t++) {
        const float *in = row_of(&args->in, t);
        float *out = row_of(&args->out, t);
        const double scale = 1.0 / sqrt(mean_square(in, width) + (double)args->epsilon);
        for (int64_t c = 0; c < width; c++) {
            out[c] = (float)((double)in[c] * scale * (double)args->weight[c]);
        }
    }
}

void ref_linear(const struct linear_args *args, const float *weight) {
    const int64_t inputs = args->in.columns;
    for (int64_t t = 0; t < args->in.rows; t++) {
        const float *in = row_of(&args->in, t);
        float *out = row_of(&args->out, t);
        for (int64_t n = 0; n < args->out.columns; n++) {
            const float *w = weight + n * inputs;
            double sum = args->add ? (double)out[n] : 0.0;
            for (int64_t k = 0; k < inputs; k++) {
                sum += (double)in[k] * (double)w[k];
            }
            if (args->bias != NULL) sum += (double)args->bias[n];
            out[n] = (float)sum;
        }
    }
}

void ref_dt(const struct dt_args *args) {
    for (int64_t t = 0; t < args->in.rows; t++) {
        const float *in = row_of(&args->in, t);
        float *out = row_of(&args->out, t);
        for (int64_t h = 0; h < args->in.columns; h++) {
            const double dt = ref_softplus((double)in[h] + (double)args->bias[h]);
            out[h] = (float)fmin(fmax(dt, (double)args->least), (double)args->most);
        }
    }
}

static double gated(const struct gated_norm_args *args, double y, double z) {
    return args->norm_before_gate ? y : y * ref_silu(z);
}

void ref_gated_norm(const struct gated_norm_args *args) {
    const int64_t width = args->y.columns / args->groups;
    for (int64_t t = 0; t < args->y.rows; t++) {
        for (int64_t g = 0; g < args->groups; g++) {
            const float *y = row_of(&args->y, t) + g * width;
            const float *z = row_of(&args->z, t) + g * width;
            const float *weight = args->weight + g * width;
            float *out = row_of(&args->out, t) + g * width;
            double sum = 0.0;
            for (int64_t c = 0; c < width; c++) {
                const double v = gated(args, (double)y[c], (double)z[c]);
                sum += v * v;
            }
            const double scale = 1.0 / sqrt(sum / (double)width + (double)args->epsilon);
            for (int64_t c = 0; c < width; c++) {
                const double gate = args->norm_before_gate ? ref_silu((double)z[c]) : 1.0;
                const double v = gated(args, (double)y[c], (double)z[c]);
                out[c] = (float)(v * scale * (double)weight[c] * gate);
            }
        }
    }
}

static double dot(const float *a, const float *b, int64_t count) {
    double sum = 0.0;
    for (int64_t k = 0; k < count; k++) {
        sum += (double)a[k] * (double)b[k];
    }
    return sum;
}

void ref_head(const struct head_args *args, const float *weight, int64_t vocab) {
    const int64_t width = args->in.columns;
    for (int64_t t = 0; t < args->in.rows; t++) {
        const float *in = row_of(&args->in, t);
        if (args->target[t] < 0) {
            args->nll[t] = 0.0f;
            continue;
        }
        // The running maximum keeps exp in range whatever the logits are.
        double most = -(double)INFINITY;
        double sum = 0.0;
        for (int64_t v = 0; v < vocab; v++) {
            const double logit = dot(in, weight + v * width, width);
            if (logit > most) {
                sum *= exp(most - logit);
                most = logit;
            }
            sum += exp(logit - most);
        }
        const double target = dot(in, weight + args->target[t] * width, width);
        // cppcheck-suppress invalidFunctionArg ; the largest logit adds 1
        args->nll[t] = (float)(most + log(sum) - target);
    }
}

// The first greatest of a row, or of those that are not `but`; -1: there are no others.
static int64_t greatest(const float *logit, int64_t count, int64_t but) {
    int64_t most = -1;
    for (int64_t v = 0; v < count; v++) {
        if (v == but) continue;
        if (most < 0 || logit[v] > logit[most] || (isnan(logit[most]) && logit[v] > -INFINITY)) {
            most = v;
        }
    }
    return most;
}

void ref_best(const struct best_args *args) {
    const int64_t vocab = args->logits.columns;
    for (int64_t t = 0; t < args->logits.rows; t++) {
        const float *logit = row_of(&args->logits, t);
        const int32_t target = args->target[t];
        const int64_t other = greatest(logit, vocab, target);
        double rest = -(double)INFINITY;
        if (other >= 0 && !isnan(logit[other])) rest = (double)logit[other];
        args->best[t].token = (int32_t)greatest(logit, vocab, -1);
        args->best[t].margin = target < 0 ? NAN : (float)((double)logit[target] - rest);
    }
}
