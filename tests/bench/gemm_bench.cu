// Times the products of the five official models against cuBLAS's of the same sizes, in turns in one
// run: gemm_bench [ROWS [RUNS [MODEL]]], by default 32768 rows, the median of 9 runs. Random numbers,
// since zeros run faster; "both" are in_proj and out_proj in turns. With RUNS 0 each goes on for a
// second, and what counts is energy. Without cuBLAS its column is empty; without a Hopper device it
// leaves with 77.

#include "tests/gemm_case.cuh"
#include "tests/sustained.cuh"

#include <algorithm>
#include <dlfcn.h>
#include <functional>
#include <vector>

#define SKIPPED 77

// cuBLAS is looked for at run time: nothing here is built or linked against it.
typedef int gemm_ex_function(void *handle, int op_a, int op_b, int m, int n, int k,
                             const void *alpha, const void *a, int a_type, int lda, const void *b,
                             int b_type, int ldb, const void *beta, void *c, int c_type, int ldc,
                             int compute, int algorithm);
static gemm_ex_function *gemm_ex;
static void *cublas;

static void open_cublas(void) {
    void *library = dlopen("libcublas.so.13", RTLD_NOW);
    if (library == NULL) library = dlopen("libcublas.so", RTLD_NOW);
    if (library == NULL) {
        printf("no cuBLAS: %s\n", dlerror());
        return;
    }
    const auto create = (int (*)(void **))dlsym(library, "cublasCreate_v2");
    if (create(&cublas) == 0) gemm_ex = (gemm_ex_function *)dlsym(library, "cublasGemmEx");
}

// out [rows][n] bf16 = a [rows][k] * b [n][k]^T, sums in f32.
static void cublas_product(const bf16 *a, const bf16 *b, bf16 *out, int64_t rows, int64_t n,
                           int64_t k) {
    const float one = 1.0f, zero = 0.0f;
    const int bf16_type = 14, transposed = 1, plain = 0, f32_sums = 68, by_itself = -1;
    const int status =
        gemm_ex(cublas, transposed, plain, (int)n, (int)rows, (int)k, &one, b, bf16_type, (int)k, a,
                bf16_type, (int)k, &zero, out, bf16_type, (int)n, f32_sums, by_itself);
    if (status != 0) {
        printf("cublasGemmEx: %d\n", status);
        exit(1);
    }
}

// Medians in ms of what is to be compared, run in turns.
static std::vector<float> medians(const std::vector<std::function<void()>> &works, int runs) {
    std::vector<std::vector<float>> times(works.size());
    std::vector<float> result;
    cudaEvent_t begin, end;
    MUST(cudaEventCreate(&begin));
    MUST(cudaEventCreate(&end));
    for (int run = -2; run < runs; run++) { // the first two warm up
        for (size_t i = 0; i < works.size(); i++) {
            float ms;
            MUST(cudaEventRecord(begin));
            works[i]();
            MUST(cudaEventRecord(end));
            MUST(cudaEventSynchronize(end));
            MUST(cudaEventElapsedTime(&ms, begin, end));
            if (run >= 0) times[i].push_back(ms);
        }
    }
    for (std::vector<float> &all : times) {
        std::sort(all.begin(), all.end());
        result.push_back(all[all.size() / 2]);
    }
    MUST(cudaEventDestroy(begin));
    MUST(cudaEventDestroy(end));
    return result;
}

// The same for work that goes on; watts and energy are printed.
static std::vector<float> sustained_ms(const std::vector<std::function<void()>> &works) {
    std::vector<float> result;
    for (const auto &work : works) {
        const sustained s = sustain(work);
        print_sustained(result.empty() ? "ours" : "cuBLAS", s);
        result.push_back((float)s.microseconds * 1e-3f);
    }
    return result;
}

struct model_shape {
    const char *name;
    int64_t d;
};

static void print_line(const char *model, const char *product, int64_t rows, int64_t n, int64_t k,
                       const std::vector<float> &ms) {
    const double work = 2.0 * (double)rows * (double)n * (double)k / 1e9;
    printf("%-5s %-8s k=%-5lld n=%-6lld %8.3f ms %6.0f TFLOP/s", model, product, (long long)k,
           (long long)n, ms[0], work / ms[0]);
    if (ms.size() > 1) printf("   cuBLAS %8.3f ms %6.0f TFLOP/s", ms[1], work / ms[1]);
    printf("\n");
}

static void bench_model(const gemm_queue &queue, const model_shape &model, int64_t rows, int runs) {
    const int64_t d = model.d, inner = 2 * d, heads = inner / 64, raw_columns = 2 * inner + 256,
                  vocab = 50288;
    const int64_t most = std::max(vocab * d, (raw_columns + heads) * d),
                  out_most = rows * std::max(raw_columns + 128, vocab);
    array<bf16> u(rows * d), raw(rows * raw_columns), weight((most / d + 32) * d), out(out_most),
        v(rows * inner);
    array<float> squares(rows * gemm_tiles(d)), gate(rows * heads), dt(rows * heads), norm(d),
        r(rows * d), nll(rows), logit(rows), table(vocab * d);
    array<float2> partial(rows * gemm_tiles(vocab));
    array<int32_t> target(rows);
    gemm_operand left, right, v_rows, back_weight;
    u.fill(1, 1.0f);
    v.fill(2, 1.0f);
    raw.fill(3, 1.0f);
    weight.fill(4, 1.0f / sqrtf((float)d));
    squares.fill(5, 1.0f, (float)GEMM_COLUMNS);
    gate.fill(6, 1.0f, 64.0f);
    norm.fill(7, 0.2f, 1.0f);
    r.fill(8, 1.0f);
    table.fill(9, 1.0f);
    MUST(cudaMemset(target.data, 0, (size_t)rows * 4));
    const auto against = [&](std::function<void()> ours, const bf16 *a, int64_t n, int64_t k) {
        std::vector<std::function<void()>> works = {ours};
        if (gemm_ex != NULL)
            works.push_back([&, a, n, k] { cublas_product(a, weight.data, out.data, rows, n, k); });
        return runs > 0 ? medians(works, runs) : sustained_ms(works);
    };
    const gemm_scale scale = {squares.data, gemm_tiles(d), (float)d, 1e-5f};
    MUST_OK(gemm_operand_rows(&left, u.data, rows, d, rows));
    MUST_OK(gemm_operand_in_proj(&right, weight.data, raw_columns, heads, d));
    const gemm_in_proj in = {&left, &right, rows,     d,    raw_columns, heads,
                             scale, NULL,   raw.data, rows, dt.data};
    print_line(
        model.name, "in_proj", rows, raw_columns + heads, d,
        against([&] { MUST_OK(hopper_in_proj(&queue, &in)); }, u.data, raw_columns + heads, d));
    gemm_in_proj no_dt = in;
    no_dt.dt_columns = 0;
    print_line(model.name, " no dt", rows, raw_columns, d,
               against([&] { MUST_OK(hopper_in_proj(&queue, &no_dt)); }, u.data, raw_columns, d));

    MUST_OK(gemm_operand_rows(&v_rows, raw.data, rows, inner, rows));
    MUST_OK(gemm_operand_out_proj(&back_weight, weight.data, d, inner));
    const gemm_out_proj back = {
        &v_rows, &back_weight,
        rows,    inner,
        d,       {gate.data, (int32_t)heads, (float)inner, 1e-5f},
        NULL,    norm.data,
        r.data,  u.data,
        rows,    squares.data
    };
    print_line(model.name, "out_proj", rows, d, inner,
               against([&] { MUST_OK(hopper_out_proj(&queue, &back)); }, v.data, d, inner));

    const std::vector<std::function<void()>> both = {[&] { // what one leaves in L2 the other finds
        MUST_OK(hopper_in_proj(&queue, &in));
        MUST_OK(hopper_out_proj(&queue, &back));
    }};
    print_line(model.name, "both", rows, raw_columns + heads + inner, d,
               runs > 0 ? medians(both, runs) : sustained_ms(both));

    u.fill(1, 1.0f);
    squares.fill(5, 1.0f, (float)GEMM_COLUMNS);
    MUST_OK(gemm_operand_head(&right, weight.data, vocab, d));
    const gemm_head head = {&left, &right,      rows,         d,          vocab,
                            scale, target.data, partial.data, logit.data, nll.data};
    print_line(model.name, "head", rows, vocab, d,
               against([&] { MUST_OK(hopper_head(&queue, &head)); }, u.data, vocab, d));

    const embed_gather embed = {table.data, target.data, norm.data, rows,        d,
                                r.data,     u.data,      rows,      squares.data};
    const float ms =
        medians({[&] { MUST_OK(cuda_embed_gather(NULL, &embed)); }}, std::max(runs, 1))[0];
    printf("%-5s %-8s n=%-6lld %20.3f ms %6.0f GB/s written\n", model.name, "embed", (long long)d,
           ms, (double)rows * (double)d * 6e-6 / ms);
}

int main(int argc, char **argv) {
    const int64_t rows = argc > 1 ? atoll(argv[1]) : 32768;
    const int runs = argc > 2 ? atoi(argv[2]) : 9;
    const char *only = argc > 3 ? argv[3] : NULL; // one model
    const model_shape models[] = {
        {"130m", 768 },
        {"370m", 1024},
        {"780m", 1536},
        {"1.3b", 2048},
        {"2.7b", 2560}
    };
    int devices = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0 || !hopper_gemm_supported()) {
        printf("skipped: no Hopper device\n");
        return SKIPPED;
    }
    const gemm_queue queue = make_queue();
    if (getenv("NO_CUBLAS") == NULL) open_cublas();
    for (const model_shape &model : models) {
        if (only == NULL || strcmp(only, model.name) == 0) bench_model(queue, model, rows, runs);
    }
    return 0;
}
