#include "cuda/cuda_backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TILE_TOKENS   64   // rows of a scan tile, as on the CPU
#define WINDOW_TOKENS 4096 // rows the model works at a time

struct cuda_backend {
    struct backend base; // first, so that &cuda->base is the handle
    cudaStream_t stream;
    cudaEvent_t mark[BACKEND_MARKS];
    int32_t device;
};

static struct cuda_backend *cuda_of(struct backend *backend) {
    return (struct cuda_backend *)backend;
}

cudaStream_t cuda_backend_stream(struct backend *backend) {
    return cuda_of(backend)->stream;
}

int32_t cuda_backend_device(struct backend *backend) {
    return cuda_of(backend)->device;
}

// The current device belongs to a thread, and any thread may call: each entry sets it.
static enum status use_device(struct backend *backend) {
    CUDA_TRY(cudaSetDevice(cuda_of(backend)->device));
    return STATUS_OK;
}

static enum status cuda_alloc(struct backend *backend, size_t bytes, void **memory) {
    void *block = NULL;
    TRY(use_device(backend));
    CUDA_TRY(cudaMalloc(&block, bytes > 0 ? bytes : 1)); // aligned to 256 bytes
    const cudaError_t error = cudaMemsetAsync(block, 0, bytes, cuda_of(backend)->stream);
    if (error != cudaSuccess) {
        cudaFree(block);
        return cuda_failed(error, "cudaMemsetAsync", __FILE__, __LINE__);
    }
    *memory = block;
    return STATUS_OK;
}

static void cuda_release(struct backend *backend, void *memory) {
    // Nothing can be done about a failure here, and the next call will report it again.
    if (memory != NULL && use_device(backend) == STATUS_OK) (void)cudaFree(memory);
}

// Pinned, so that copies are queued and not done by the driver's own staging.
static enum status cuda_host_alloc(struct backend *backend, size_t bytes, void **memory) {
    void *block = NULL;
    TRY(use_device(backend));
    CUDA_TRY(cudaHostAlloc(&block, bytes > 0 ? bytes : 1, cudaHostAllocDefault));
    memset(block, 0, bytes);
    *memory = block;
    return STATUS_OK;
}

static void cuda_host_release(struct backend *backend, void *memory) {
    if (memory != NULL && use_device(backend) == STATUS_OK) (void)cudaFreeHost(memory);
}

static enum status cuda_upload(struct backend *backend, void *to, const void *host, size_t bytes) {
    TRY(use_device(backend));
    CUDA_TRY(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, cuda_of(backend)->stream));
    return STATUS_OK;
}

static enum status cuda_download(struct backend *backend, void *host, const void *from,
                                 size_t bytes) {
    TRY(use_device(backend));
    CUDA_TRY(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, cuda_of(backend)->stream));
    return STATUS_OK;
}

static enum status cuda_call(struct backend *backend, void (*function)(void *), void *argument) {
    TRY(use_device(backend));
    CUDA_TRY(cudaLaunchHostFunc(cuda_of(backend)->stream, function, argument));
    return STATUS_OK;
}

static enum status cuda_wait(struct backend *backend) {
    TRY(use_device(backend));
    CUDA_TRY(cudaStreamSynchronize(cuda_of(backend)->stream));
    return STATUS_OK;
}

static enum status cuda_mark(struct backend *backend, int32_t which) {
    TRY(use_device(backend));
    CUDA_TRY(cudaEventRecord(cuda_of(backend)->mark[which], cuda_of(backend)->stream));
    return STATUS_OK;
}

static enum status cuda_reached(struct backend *backend, int32_t which, bool *reached) {
    TRY(use_device(backend));
    const cudaError_t answer = cudaEventQuery(cuda_of(backend)->mark[which]);
    if (answer != cudaErrorNotReady) CUDA_TRY(answer);
    *reached = answer == cudaSuccess;
    return STATUS_OK;
}

static void cuda_close(struct backend *backend) {
    if (backend == NULL) return;
    if (use_device(backend) == STATUS_OK) {
        for (int i = 0; i < BACKEND_MARKS; i++) {
            if (cuda_of(backend)->mark[i] != NULL) {
                (void)cudaEventDestroy(cuda_of(backend)->mark[i]);
            }
        }
        if (cuda_of(backend)->stream != NULL) (void)cudaStreamDestroy(cuda_of(backend)->stream);
    }
    free(cuda_of(backend));
}

// The operators without a slot here are not in this version.
static const struct backend_table cuda_table = {
    .name = "cuda",
    .alloc = cuda_alloc,
    .release = cuda_release,
    .host_alloc = cuda_host_alloc,
    .host_release = cuda_host_release,
    .upload = cuda_upload,
    .download = cuda_download,
    .call = cuda_call,
    .wait = cuda_wait,
    .mark = cuda_mark,
    .reached = cuda_reached,
    .close = cuda_close,
    .transport_identify = cuda_transport_identify,
    .transport_open = cuda_transport_open,
    .rms_norm = cuda_rms_norm,
};

// Equal text, equal bits: the device's model, the runtime and the format of the arithmetic.
static enum status name_numerics(struct cuda_backend *cuda) {
    struct cudaDeviceProp properties;
    int runtime = 0;
    CUDA_TRY(cudaGetDeviceProperties(&properties, cuda->device));
    CUDA_TRY(cudaRuntimeGetVersion(&runtime));
    snprintf(cuda->base.numerics, sizeof cuda->base.numerics, "cuda f32, %.64s sm_%d%d, CUDA %d.%d",
             properties.name, properties.major, properties.minor, runtime / 1000,
             runtime % 1000 / 10);
    return STATUS_OK;
}

static enum status start(struct cuda_backend *cuda) {
    TRY(use_device(&cuda->base));
    TRY(name_numerics(cuda));
    CUDA_TRY(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking));
    for (int i = 0; i < BACKEND_MARKS; i++) {
        CUDA_TRY(cudaEventCreateWithFlags(&cuda->mark[i], cudaEventDisableTiming));
    }
    return STATUS_OK;
}

enum status cuda_backend_open(const struct plugin_settings *settings, struct backend **opened) {
    struct cuda_backend *cuda = calloc(1, sizeof *cuda);
    if (cuda == NULL) return FAIL(NO_MEMORY, "cuda backend");
    cuda->base.table = &cuda_table;
    cuda->base.tile_tokens = TILE_TOKENS;
    cuda->base.window_tokens =
        settings->window_tokens > 0 ? settings->window_tokens : WINDOW_TOKENS;
    cuda->device = settings->device;
    const enum status status = start(cuda);
    if (status != STATUS_OK) {
        cuda_close(&cuda->base);
        return status;
    }
    *opened = &cuda->base;
    return STATUS_OK;
}
