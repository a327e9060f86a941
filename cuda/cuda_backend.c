#include "cuda/cuda_backend.h"

#include "cuda/hopper_mixer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TILE_TOKENS   64   // rows of a scan tile, as on the CPU
#define WINDOW_TOKENS 4096 // rows the model works at a time
#define LOGITS_BYTES  ((int64_t)128 << 20)

// The current device belongs to a thread, and any thread may call: each entry sets it.
enum status cuda_use_device(struct backend *backend) {
    CUDA_TRY(cudaSetDevice(cuda_backend_of(backend)->device));
    return STATUS_OK;
}

cudaStream_t cuda_backend_stream(struct backend *backend) {
    (void)cuda_use_device(backend); // if that fails, so does the launch
    return cuda_backend_of(backend)->stream;
}

static enum status cuda_alloc(struct backend *backend, size_t bytes, void **memory) {
    void *block = NULL;
    TRY(cuda_use_device(backend));
    CUDA_TRY(cudaMalloc(&block, bytes > 0 ? bytes : 1)); // aligned to 256 bytes
    // Beside the queue and done when this is back: what is received may come before the queue does.
    cudaError_t error = cudaMemset(block, 0, bytes);
    if (error == cudaSuccess) error = cudaStreamSynchronize(cudaStreamLegacy);
    if (error != cudaSuccess) {
        cudaFree(block);
        return cuda_failed(error, "cudaMemset", __FILE__, __LINE__);
    }
    *memory = block;
    return STATUS_OK;
}

static enum status cuda_memory_left(struct backend *backend, size_t *bytes) {
    size_t all = 0;
    TRY(cuda_use_device(backend));
    CUDA_TRY(cudaMemGetInfo(bytes, &all));
    return STATUS_OK;
}

static void cuda_release(struct backend *backend, void *memory) {
    // Nothing can be done about a failure here, and the next call will report it again.
    if (memory != NULL && cuda_use_device(backend) == STATUS_OK) (void)cudaFree(memory);
}

// Pinned, so that copies from and to it neither wait for the queue nor pass through a buffer.
static enum status cuda_host_alloc(struct backend *backend, size_t bytes, void **memory) {
    void *block = NULL;
    TRY(cuda_use_device(backend));
    CUDA_TRY(cudaHostAlloc(&block, bytes > 0 ? bytes : 1, cudaHostAllocPortable));
    memset(block, 0, bytes);
    *memory = block;
    return STATUS_OK;
}

static void cuda_host_release(struct backend *backend, void *memory) {
    if (memory != NULL && cuda_use_device(backend) == STATUS_OK) (void)cudaFreeHost(memory);
}

static enum status cuda_upload(struct backend *backend, void *to, const void *host, size_t bytes) {
    TRY(cuda_use_device(backend));
    CUDA_TRY(
        cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, cuda_backend_of(backend)->stream));
    return STATUS_OK;
}

static enum status cuda_download(struct backend *backend, void *host, const void *from,
                                 size_t bytes) {
    TRY(cuda_use_device(backend));
    CUDA_TRY(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost,
                             cuda_backend_of(backend)->stream));
    return STATUS_OK;
}

static enum status cuda_call(struct backend *backend, void (*function)(void *), void *argument) {
    TRY(cuda_use_device(backend));
    CUDA_TRY(cudaLaunchHostFunc(cuda_backend_of(backend)->stream, function, argument));
    return STATUS_OK;
}

static enum status cuda_wait(struct backend *backend) {
    TRY(cuda_use_device(backend));
    CUDA_TRY(cudaStreamSynchronize(cuda_backend_of(backend)->stream));
    return STATUS_OK;
}

static enum status grow(struct backend *backend, int64_t wanted, void **memory, int64_t *bytes) {
    if (wanted <= *bytes) return STATUS_OK;
    cuda_release(backend, *memory);
    *memory = NULL;
    *bytes = 0;
    TRY(cuda_alloc(backend, (size_t)wanted, memory));
    *bytes = wanted;
    return STATUS_OK;
}

enum status cuda_backend_room(struct backend *backend, int64_t row_bytes, int64_t outputs) {
    struct cuda_backend *cuda = cuda_backend_of(backend);
    const int64_t rounded = cuda->dtype == PLUGIN_F32 ? 0 : backend->window_tokens * row_bytes;
    const int64_t logits_row = (outputs + 3) / 4 * 4 * (int64_t)sizeof(float);
    const int64_t logits = logits_row > LOGITS_BYTES ? logits_row : LOGITS_BYTES;
    void *memory = cuda->logits;
    TRY(grow(backend, rounded, &cuda->rounded, &cuda->rounded_bytes));
    const enum status status = grow(backend, logits, &memory, &cuda->logits_bytes);
    cuda->logits = memory;
    return status;
}

static enum status cuda_mark(struct backend *backend, int32_t which) {
    TRY(cuda_use_device(backend));
    CUDA_TRY(
        cudaEventRecord(cuda_backend_of(backend)->mark[which], cuda_backend_of(backend)->stream));
    return STATUS_OK;
}

static enum status cuda_reached(struct backend *backend, int32_t which, bool *reached) {
    TRY(cuda_use_device(backend));
    const cudaError_t answer = cudaEventQuery(cuda_backend_of(backend)->mark[which]);
    if (answer != cudaErrorNotReady) CUDA_TRY(answer);
    if (answer == cudaErrorNotReady) (void)cudaGetLastError(); // or a launch's check may find it
    *reached = answer == cudaSuccess;
    return STATUS_OK;
}

static void cuda_close(struct backend *backend) {
    struct cuda_backend *cuda = cuda_backend_of(backend);
    if (backend == NULL) return;
    cuda_release(backend, cuda->rounded);
    cuda_release(backend, cuda->logits);
    cuda_times_free(cuda->times);
    if (cuda_use_device(backend) == STATUS_OK) {
        for (int i = 0; i < BACKEND_MARKS; i++) {
            if (cuda->mark[i] != NULL) (void)cudaEventDestroy(cuda->mark[i]);
        }
        if (cuda->stream != NULL) (void)cudaStreamDestroy(cuda->stream);
    }
    free(cuda);
}

static const struct backend_table cuda_table = {
    .name = "cuda",
    .alloc = cuda_alloc,
    .memory_left = cuda_memory_left,
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
    .pack = cuda_pack,
    .release_packed = cuda_release_packed,
    .embedding = cuda_embedding,
    .transport_identify = cuda_transport_identify,
    .transport_open = cuda_transport_open,
    .rms_norm = cuda_rms_norm,
    .linear = cuda_linear,
    .conv_tail = cuda_conv_tail,
    .causal_conv = cuda_causal_conv,
    .dt = cuda_dt,
    .chunk_cumsum = cuda_chunk_cumsum,
    .chunk_cb = cuda_chunk_cb,
    .chunk_state = cuda_chunk_state,
    .state_passing = cuda_state_passing,
    .chunk_scan = cuda_chunk_scan,
    .gated_norm = cuda_gated_norm,
    .head = cuda_head,
    .best = cuda_best,
    .mixer_open = hopper_mixer_open,
    .mark_time = cuda_mark_time,
    .read_marks = cuda_read_marks,
    .ceilings = cuda_ceilings,
};

// Equal text, equal bits. f32 is IEEE arithmetic in an order of our own, the same on every device; how
// tensor cores add is their model's affair.
static enum status name_numerics(struct cuda_backend *cuda) {
    static const char *const names[] = {[PLUGIN_F32] = "f32 v1 fma-chain",
                                        [PLUGIN_TF32] = "tf32 v1 mma.sync",
                                        [PLUGIN_BF16] = "bf16 v1 mma.sync",
                                        [PLUGIN_F16] = "f16 v1 mma.sync"};
    struct cudaDeviceProp properties;
    char device[80] = "";
    CUDA_TRY(cudaGetDeviceProperties(&properties, cuda->device));
    if (cuda->dtype != PLUGIN_F32) {
        snprintf(device, sizeof device, " %.48s sm_%d%d", properties.name, properties.major,
                 properties.minor);
    }
    snprintf(cuda->base.numerics, sizeof cuda->base.numerics, "cuda %s tile%d head1024%s",
             names[cuda->dtype], TILE_TOKENS, device);
    return STATUS_OK;
}

static enum status start(struct cuda_backend *cuda) {
    TRY(cuda_use_device(&cuda->base));
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
    cuda->dtype = settings->dtype;
    const enum status status = start(cuda);
    if (status != STATUS_OK) {
        cuda_close(&cuda->base);
        return status;
    }
    *opened = &cuda->base;
    return STATUS_OK;
}
