#pragma once
// OpenBLAS as the yardstick: loaded at run time, left out where there is none. On a machine with
// AVX-512 it is told to take its AVX-512 kernels, the best it has, whatever the environment says
// and where it would pick older ones for a processor it does not know; BENCH_CORETYPE chooses others.

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void sgemm_function(int order, int transpose_a, int transpose_b, int m, int n, int k,
                            float alpha, const float *a, int lda, const float *b, int ldb,
                            float beta, float *c, int ldc);

static inline sgemm_function *openblas_load(int64_t threads) {
    void (*set_threads)(int) = NULL;
    char *(*core_name)(void) = NULL;
    sgemm_function *sgemm = NULL;
#if defined(__x86_64__)
    const char *asked = getenv("BENCH_CORETYPE");
    if (asked == NULL && __builtin_cpu_supports("avx512f")) asked = "SkylakeX";
    if (asked != NULL) setenv("OPENBLAS_CORETYPE", asked, 1);
    unsetenv("OPENBLAS_L2_SIZE");
#endif
    void *library = dlopen("libopenblas.so.0", RTLD_NOW);
    if (library == NULL) return NULL;
    // dlsym gives an object pointer for a function: copied, which POSIX allows and C does not cast.
    void *symbols[3] = {dlsym(library, "cblas_sgemm"), dlsym(library, "openblas_set_num_threads"),
                        dlsym(library, "openblas_get_corename")};
    if (symbols[0] == NULL || symbols[1] == NULL || symbols[2] == NULL) return NULL;
    memcpy(&sgemm, &symbols[0], sizeof sgemm);
    memcpy(&set_threads, &symbols[1], sizeof set_threads);
    memcpy(&core_name, &symbols[2], sizeof core_name);
    set_threads((int)threads);
    printf("OpenBLAS with its %s kernels\n", core_name());
    return sgemm;
}

// out[rows, outputs] = in[rows, inputs] * weight[outputs, inputs] transposed
static inline void openblas_product(sgemm_function *sgemm, int64_t rows, int64_t outputs,
                                    int64_t inputs, const float *in, const float *weight,
                                    float *out) {
    enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };
    sgemm(ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, (int)rows, (int)outputs, (int)inputs, 1.0f, in,
          (int)inputs, weight, (int)inputs, 0.0f, out, (int)outputs);
}

// xorshift, in [-1, 1). Owns: the caller's; NULL without memory.
static inline float *draw_floats(int64_t count) {
    uint64_t seed = 88172645463325252U;
    float *made = malloc((size_t)count * sizeof *made);
    for (int64_t i = 0; made != NULL && i < count; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        made[i] = (float)((double)(seed >> 40) / (double)(1 << 23) - 1.0);
    }
    return made;
}

static inline int compare_doubles(const void *left, const void *right) {
    const double a = *(const double *)left;
    const double b = *(const double *)right;
    return (a > b) - (a < b);
}

// Sorts the values.
static inline double median_of(double *values, int64_t count) {
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return values[count / 2];
}
