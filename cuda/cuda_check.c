#include "cuda/cuda_check.h"

enum status cuda_failed(cudaError_t error, const char *call, const char *file, int line) {
    if (log_on(LOG_ERROR)) {
        log_write(LOG_ERROR, file, line, "%s: %s (%s)", call, cudaGetErrorString(error),
                  cudaGetErrorName(error));
    }
    return error == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_PEER;
}
