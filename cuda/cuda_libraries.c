#include "cuda/cuda_libraries.h"

#include "cuda/cuda_lt.h"
#include "cuda/nccl_api.h"

#include <cuda_runtime_api.h>

#include <stdio.h>

// 13010 is 13.1.
static void cuda_version(int version, char *text, size_t bytes) {
    snprintf(text, bytes, "%d.%d", version / 1000, version / 10 % 100);
}

static void runtime(struct library *library) {
    int version = 0;
    *library = (struct library){.name = "CUDA runtime"}; // linked into the plug-in
    cuda_version(CUDART_VERSION, library->built, sizeof library->built);
    if (cudaRuntimeGetVersion(&version) == cudaSuccess) {
        cuda_version(version, library->running, sizeof library->running);
    }
}

// The newest CUDA that the driver can serve.
static void driver(struct library *library) {
    int version = 0;
    *library = (struct library){.name = "CUDA driver"};
    if (cudaDriverGetVersion(&version) == cudaSuccess && version > 0) {
        cuda_version(version, library->running, sizeof library->running);
    } else {
        snprintf(library->missing, sizeof library->missing, "libcuda.so.1 is not there");
    }
}

// 22803 is 2.28.3; before 2.9 a version had four digits.
static void nccl(struct library *library) {
    int version = 0;
    *library = (struct library){.name = "NCCL"};
    const struct nccl_api *api = nccl_load(library->missing, sizeof library->missing);
    if (api == NULL || api->version(&version) != NCCL_SUCCESS) return;
    snprintf(library->running, sizeof library->running, "%d.%d.%d", version / 10000,
             version / 100 % 100, version % 100);
}

int32_t cuda_libraries(struct library *library, int32_t most) {
    static void (*const all[])(struct library *) = {runtime, driver, cuda_lt_library, nccl};
    const int32_t count = (int32_t)(sizeof all / sizeof all[0]);
    for (int32_t i = 0; i < count && i < most; i++) {
        all[i](&library[i]);
    }
    return count;
}
