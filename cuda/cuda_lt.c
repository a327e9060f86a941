// The few functions of cuBLASLt 13 that a product needs, by their C interface (its documentation
// names the numbers of the enumerations).

#include "cuda/cuda_lt.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libcublasLt.so.13"

typedef void *lt_handle;
enum { LT_COMPUTE_F32 = 68, LT_COMPUTE_TF32 = 77 };
enum { LT_TYPE_F32 = 0, LT_TYPE_F16 = 2, LT_TYPE_BF16 = 14 };
enum { LT_DESC_TRANSPOSE_A = 3, LT_OPERATION_TRANSPOSE = 1, LT_PREFERENCE_WORKSPACE = 1 };

struct lt_heuristic {
    uint64_t algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

struct lt_library {
    int (*create)(lt_handle *handle);
    int (*destroy)(lt_handle handle);
    int (*desc_create)(lt_handle *desc, int compute, int scale_type);
    int (*desc_destroy)(lt_handle desc);
    int (*desc_set)(lt_handle desc, int attribute, const void *value, size_t bytes);
    int (*layout_create)(lt_handle *layout, int type, uint64_t rows, uint64_t columns, int64_t ld);
    int (*layout_destroy)(lt_handle layout);
    int (*preference_create)(lt_handle *preference);
    int (*preference_destroy)(lt_handle preference);
    int (*preference_set)(lt_handle preference, int attribute, const void *value, size_t bytes);
    int (*choose)(lt_handle handle, lt_handle desc, lt_handle a, lt_handle b, lt_handle c,
                  lt_handle d, lt_handle preference, int most, struct lt_heuristic *results,
                  int *count);
    int (*matmul)(lt_handle handle, lt_handle desc, const void *alpha, const void *a,
                  lt_handle a_layout, const void *b, lt_handle b_layout, const void *beta,
                  const void *c, lt_handle c_layout, void *d, lt_handle d_layout,
                  const uint64_t *algorithm, void *workspace, size_t workspace_bytes,
                  cudaStream_t stream);
};

struct cuda_lt_product {
    struct lt_library lt;
    lt_handle handle, desc, layout;
    struct lt_heuristic chosen;
    char *memory; // borrowed
    size_t matrix_bytes;
};

size_t cuda_lt_element(enum plugin_dtype dtype) {
    return dtype == PLUGIN_BF16 || dtype == PLUGIN_F16 ? 2 : 4;
}

// false: `library` lacks one.
static bool find_all(void *library, struct lt_library *lt) {
    const struct {
        const char *name;
        void *place;
    } symbols[] = {
        {"cublasLtCreate",                       &lt->create            },
        {"cublasLtDestroy",                      &lt->destroy           },
        {"cublasLtMatmulDescCreate",             &lt->desc_create       },
        {"cublasLtMatmulDescDestroy",            &lt->desc_destroy      },
        {"cublasLtMatmulDescSetAttribute",       &lt->desc_set          },
        {"cublasLtMatrixLayoutCreate",           &lt->layout_create     },
        {"cublasLtMatrixLayoutDestroy",          &lt->layout_destroy    },
        {"cublasLtMatmulPreferenceCreate",       &lt->preference_create },
        {"cublasLtMatmulPreferenceDestroy",      &lt->preference_destroy},
        {"cublasLtMatmulPreferenceSetAttribute", &lt->preference_set    },
        {"cublasLtMatmulAlgoGetHeuristic",       &lt->choose            },
        {"cublasLtMatmul",                       &lt->matmul            },
    };
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = dlsym(library, symbols[i].name);
        if (symbol == NULL) return false;
        memcpy(symbols[i].place, &symbol, sizeof symbol); // POSIX's way to a function's pointer
    }
    return true;
}

// Column major, as the library counts: d = a^T b with a and b stored [side, side].
static enum status prepare(struct cuda_lt_product *product, uint64_t side,
                           enum plugin_dtype dtype) {
    const int type = dtype == PLUGIN_BF16  ? LT_TYPE_BF16
                     : dtype == PLUGIN_F16 ? LT_TYPE_F16
                                           : LT_TYPE_F32;
    const int compute = dtype == PLUGIN_TF32 ? LT_COMPUTE_TF32 : LT_COMPUTE_F32;
    const struct lt_library *lt = &product->lt;
    const int transpose = LT_OPERATION_TRANSPOSE;
    const size_t workspace = CUDA_LT_WORKSPACE;
    lt_handle preference = NULL;
    int count = 0;
    int wrong = lt->create(&product->handle);
    if (wrong == 0) wrong = lt->desc_create(&product->desc, compute, LT_TYPE_F32);
    if (wrong == 0) {
        wrong = lt->desc_set(product->desc, LT_DESC_TRANSPOSE_A, &transpose, sizeof transpose);
    }
    if (wrong == 0) {
        wrong = lt->layout_create(&product->layout, type, side, side, (int64_t)side);
    }
    if (wrong == 0) wrong = lt->preference_create(&preference);
    if (wrong == 0) {
        wrong =
            lt->preference_set(preference, LT_PREFERENCE_WORKSPACE, &workspace, sizeof workspace);
    }
    if (wrong == 0) {
        wrong =
            lt->choose(product->handle, product->desc, product->layout, product->layout,
                       product->layout, product->layout, preference, 1, &product->chosen, &count);
    }
    if (preference != NULL) lt->preference_destroy(preference);
    if (wrong != 0 || count == 0) {
        return FAIL(UNEXPECTED, "cuBLASLt: no product of side %llu (%d)", (unsigned long long)side,
                    wrong);
    }
    return STATUS_OK;
}

enum status cuda_lt_product_open(int64_t side, enum plugin_dtype dtype, void *memory,
                                 struct cuda_lt_product **opened) {
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL); // stays until the program ends
    if (library == NULL) {
        LOG(WARN, "the product's ceiling is not measured: %s", dlerror());
        return STATUS_OK;
    }
    struct cuda_lt_product *product = calloc(1, sizeof *product);
    if (product == NULL) return FAIL(NO_MEMORY, "a product");
    if (!find_all(library, &product->lt)) {
        free(product);
        return FAIL(UNEXPECTED, "%s lacks a function", LIBRARY);
    }
    product->memory = memory;
    product->matrix_bytes = (size_t)(side * side) * cuda_lt_element(dtype);
    const enum status status = prepare(product, (uint64_t)side, dtype);
    if (status != STATUS_OK) {
        cuda_lt_product_close(product);
        return status;
    }
    *opened = product;
    return STATUS_OK;
}

enum status cuda_lt_product_run(struct cuda_lt_product *product, cudaStream_t stream) {
    const float one = 1, zero = 0;
    char *const a = product->memory, *const b = a + product->matrix_bytes;
    char *const out = b + product->matrix_bytes;
    const int wrong = product->lt.matmul(product->handle, product->desc, &one, a, product->layout,
                                         b, product->layout, &zero, out, product->layout, out,
                                         product->layout, product->chosen.algorithm,
                                         out + product->matrix_bytes, CUDA_LT_WORKSPACE, stream);
    return wrong == 0 ? STATUS_OK : FAIL(PEER, "cublasLtMatmul: status %d", wrong);
}

void cuda_lt_product_close(struct cuda_lt_product *product) {
    if (product == NULL) return;
    const struct lt_library *lt = &product->lt;
    if (product->layout != NULL) lt->layout_destroy(product->layout);
    if (product->desc != NULL) lt->desc_destroy(product->desc);
    if (product->handle != NULL) lt->destroy(product->handle);
    free(product);
}

void cuda_lt_library(struct library *library) {
    size_t (*version)(void) = NULL;
    *library = (struct library){.name = "cuBLASLt"};
    void *found = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL); // stays until the program ends
    void *symbol = found == NULL ? NULL : dlsym(found, "cublasLtGetVersion");
    if (symbol == NULL) {
        const char *said = dlerror();
        snprintf(library->missing, sizeof library->missing, "%s",
                 said != NULL ? said : LIBRARY " lacks cublasLtGetVersion");
        return;
    }
    memcpy(&version, &symbol, sizeof version);
    const size_t number = version(); // 130100 is 13.1.0
    snprintf(library->running, sizeof library->running, "%zu.%zu.%zu", number / 10000,
             number / 100 % 100, number % 100);
}
