#pragma once
// What a failed CUDA call means to the rest of the program.

#include "ops/base/linkage.h"
#include "ops/base/status.h"

#include <cuda_runtime_api.h>

C_BEGIN

// Logs the call that failed. NO_MEMORY for memory, PEER for all else: the device cannot be trusted.
enum status cuda_failed(cudaError_t error, const char *call, const char *file, int line);

C_END

#define CUDA_TRY(call)                                                \
    do {                                                              \
        const cudaError_t cuda_try_ = (call);                         \
        if (cuda_try_ != cudaSuccess) {                               \
            return cuda_failed(cuda_try_, #call, __FILE__, __LINE__); \
        }                                                             \
    } while (0)
