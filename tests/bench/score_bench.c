// score_bench MODEL [threads [tokens [repeats [dtype]]]]: scoring as the program does it, against the time
// of the model's matrix products alone in OpenBLAS, in turn in one run, so that a busy machine slows
// both. Says where the scorer's time goes, operator by operator. Medians.
//
// MODEL: a folder, best made by make_model with the shape of interest.

#define _GNU_SOURCE // setenv beside dlopen's constants

#include "ops/base/clock.h"
#include "ops/cpu/cpu_backend.h"
#include "ops/model/config.h"
#include "ops/model/mamba2.h"
#include "ops/op.h"
#include "tests/bench/openblas.h"

#define REPEATS_MOST 51
#define BLAS_ROWS    256 // rows of a product: OpenBLAS's best here, measured by op_bench

// Every operator with a clock around it. The CPU backend runs them at once.
#define OPERATORS(X)               \
    X(embedding, embedding_args)   \
    X(rms_norm, rms_norm_args)     \
    X(linear, linear_args)         \
    X(conv_tail, conv_args)        \
    X(causal_conv, conv_args)      \
    X(dt, dt_args)                 \
    X(chunk_cumsum, scan_args)     \
    X(chunk_cb, scan_args)         \
    X(chunk_state, scan_args)      \
    X(state_passing, scan_args)    \
    X(chunk_scan, scan_args)       \
    X(gated_norm, gated_norm_args) \
    X(head, head_args)

enum operator_index {
#define X(name, args) AT_##name,
    OPERATORS(X)
#undef X
        OPERATOR_COUNT
};

static const struct backend_table *plain;
static int64_t spent_ns[OPERATOR_COUNT];

#define X(name, args)                                                                \
    static enum status timed_##name(struct backend *backend, const struct args *a) { \
        const int64_t begin = clock_ns();                                            \
        const enum status status = plain->name(backend, a);                          \
        spent_ns[AT_##name] += clock_ns() - begin;                                   \
        return status;                                                               \
    }
OPERATORS(X)
#undef X

struct shapes { // of the model's matrix products
    int64_t layers, hidden, inner, projected, vocab;
};

static double scored_seconds(struct backend *backend, struct model *model, int64_t tokens,
                             int32_t vocab) {
    int32_t *token = malloc((size_t)tokens * 2 * sizeof *token);
    float *nll = malloc((size_t)tokens * sizeof *nll);
    if (token == NULL || nll == NULL) abort();
    for (int64_t i = 0; i < tokens; i++) {
        token[i] = (int32_t)((i * 7919 + 13) % vocab);
        token[tokens + i] = (int32_t)((i * 104729 + 5) % vocab);
    }
    const struct model_span span = {.rows = tokens};
    const struct model_step step = {.rows = tokens,
                                    .token = token,
                                    .target = token + tokens,
                                    .spans = &span,
                                    .span_count = 1,
                                    .nll = nll};
    const int64_t begin = clock_ns();
    if (model_run(model, &step) != STATUS_OK || backend->table->wait(backend) != STATUS_OK) exit(1);
    const double seconds = (double)(clock_ns() - begin) * 1e-9;
    free(token);
    free(nll);
    return seconds;
}

static double product_seconds(sgemm_function *sgemm, const struct shapes *shapes, int64_t tokens,
                              const float *weight, const float *in, float *out) {
    const int64_t begin = clock_ns();
    for (int64_t row = 0; row < tokens; row += BLAS_ROWS) {
        const float *at = weight; // each layer has weights of its own, as in the model
        for (int64_t layer = 0; layer < shapes->layers; layer++) {
            openblas_product(sgemm, BLAS_ROWS, shapes->projected, shapes->hidden, in, at, out);
            at += shapes->projected * shapes->hidden;
            openblas_product(sgemm, BLAS_ROWS, shapes->hidden, shapes->inner, in, at, out);
            at += shapes->hidden * shapes->inner;
        }
        openblas_product(sgemm, BLAS_ROWS, shapes->vocab, shapes->hidden, in, at, out);
    }
    return (double)(clock_ns() - begin) * 1e-9;
}

static void print_shares(double seconds) {
    static const char *const names[] = {
#define X(name, args) #name,
        OPERATORS(X)
#undef X
    };
    double sum = 0.0;
    printf("where the time goes, all repetitions together:\n");
    for (int i = 0; i < OPERATOR_COUNT; i++) {
        const double share = (double)spent_ns[i] * 1e-9 / seconds;
        sum += share;
        printf("  %-14s %5.1f%%\n", names[i], 100.0 * share);
    }
    printf("  %-14s %5.1f%%\n", "between them", 100.0 * (1.0 - sum));
}

static void compare(const struct shapes *shapes, struct backend *backend, struct model *model,
                    int64_t threads, int64_t tokens, int64_t repeats) {
    double scored[REPEATS_MOST];
    double products[REPEATS_MOST];
    double ratio[REPEATS_MOST];
    double all = 0.0;
    const int64_t weights =
        shapes->layers * (shapes->projected * shapes->hidden + shapes->hidden * shapes->inner) +
        shapes->vocab * shapes->hidden;
    sgemm_function *sgemm = openblas_load(threads);
    float *weight = sgemm != NULL ? draw_floats(weights) : NULL;
    float *in = draw_floats(BLAS_ROWS * shapes->inner);
    float *out = draw_floats(BLAS_ROWS * shapes->vocab);
    scored_seconds(backend, model, tokens, (int32_t)shapes->vocab); // the caches and pages of both
    if (weight != NULL) product_seconds(sgemm, shapes, BLAS_ROWS, weight, in, out);
    memset(spent_ns, 0, sizeof spent_ns);
    for (int64_t i = 0; i < repeats; i++) {
        scored[i] = scored_seconds(backend, model, tokens, (int32_t)shapes->vocab);
        all += scored[i];
        products[i] = weight != NULL ? product_seconds(sgemm, shapes, tokens, weight, in, out) : 0;
        ratio[i] = products[i] / scored[i];
    }
    printf("scoring %.0f tokens/s", (double)tokens / median_of(scored, repeats));
    if (weight != NULL) {
        printf("; the products alone in OpenBLAS %.0f; ratio %.3f",
               (double)tokens / median_of(products, repeats), median_of(ratio, repeats));
    }
    printf("\n");
    print_shares(all);
    free(weight);
    free(in);
    free(out);
}

static enum cpu_dtype dtype_of(const char *name) {
    if (strcmp(name, "bf16x3") == 0) return CPU_BF16X3;
    return strcmp(name, "bf16") == 0 ? CPU_BF16 : CPU_F32;
}

int main(int count, char **arguments) {
    const int64_t threads = count > 2 ? strtoll(arguments[2], NULL, 10) : 2;
    const int64_t tokens = count > 3 ? strtoll(arguments[3], NULL, 10) : 1024;
    const int64_t repeats = count > 4 ? strtoll(arguments[4], NULL, 10) : 7;
    const struct cpu_backend_settings cpu = {.dtype = dtype_of(count > 5 ? arguments[5] : "f32"),
                                             .threads = threads};
    const struct model_settings sizes = {.step_tokens = tokens};
    struct backend *backend = NULL;
    struct model *model = NULL;
    if (count < 2 || tokens <= 0 || tokens % BLAS_ROWS != 0 || repeats < 1 ||
        repeats > REPEATS_MOST) {
        fprintf(stderr,
                "usage: score_bench MODEL [threads [tokens [repeats [dtype]]]]; tokens a multiple "
                "of %d, at most %d repeats\n",
                BLAS_ROWS, REPEATS_MOST);
        return 2;
    }
    if (cpu_backend_open(&cpu, &backend) != STATUS_OK) return 1;
    plain = backend->table;
    struct backend_table timed = *plain;
#define X(name, args) timed.name = timed_##name;
    OPERATORS(X)
#undef X
    if (model_open(arguments[1], backend, &sizes, &model) != STATUS_OK) return 1;
    backend->table = &timed;
    const struct shapes shapes = {.layers = model->config.layers,
                                  .hidden = model->config.hidden_size,
                                  .inner = model->config.d_inner,
                                  .projected = model->config.proj_width,
                                  .vocab = model->config.vocab_size};
    printf("%s: %s on %s, %lld threads, %lld tokens a step, medians of %lld\n", arguments[1],
           backend->numerics, cpu_backend_isa(backend), (long long)threads, (long long)tokens,
           (long long)repeats);
    compare(&shapes, backend, model, threads, tokens, repeats);
    backend->table = plain;
    model_close(model);
    backend->table->close(backend);
    return 0;
}
