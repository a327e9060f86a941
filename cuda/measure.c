// What `longscan bench` asks of a device: the time between places in the queue, and the ceilings.

#include "cuda/cuda_backend.h"
#include "cuda/cuda_lt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS       7
#define WARM_UPS   3
#define COPY_BYTES ((size_t)4 << 30)
#define COPY_LEAST ((size_t)256 << 20) // beyond any cache
#define SIDE       8192                // of the product's matrices

struct cuda_times {
    cudaEvent_t *event; // [room], made when first used
    int64_t room;
};

static enum status make_room(struct cuda_times **times, int64_t index) {
    if (*times == NULL) *times = calloc(1, sizeof **times);
    if (*times == NULL) return FAIL(NO_MEMORY, "marks");
    if (index < (*times)->room) return STATUS_OK;
    const int64_t room = index < 512 ? 1024 : 2 * index;
    cudaEvent_t *event = realloc((*times)->event, (size_t)room * sizeof *event);
    if (event == NULL) return FAIL(NO_MEMORY, "%lld marks", (long long)room);
    for (int64_t i = (*times)->room; i < room; i++) {
        event[i] = NULL;
    }
    (*times)->event = event;
    (*times)->room = room;
    return STATUS_OK;
}

enum status cuda_mark_time(struct backend *backend, int64_t index) {
    struct cuda_times **times = &cuda_backend_of(backend)->times;
    TRY(cuda_use_device(backend));
    TRY(make_room(times, index));
    cudaEvent_t *event = &(*times)->event[index];
    if (*event == NULL) CUDA_TRY(cudaEventCreate(event));
    CUDA_TRY(cudaEventRecord(*event, cuda_backend_stream(backend)));
    return STATUS_OK;
}

enum status cuda_read_marks(struct backend *backend, int64_t count, double *seconds) {
    for (int64_t i = 0; i + 1 < count; i++) {
        const cudaEvent_t *event = cuda_backend_of(backend)->times->event + i;
        float milliseconds = 0;
        CUDA_TRY(cudaEventElapsedTime(&milliseconds, event[0], event[1]));
        seconds[i] = (double)milliseconds * 1e-3;
    }
    return STATUS_OK;
}

void cuda_times_free(struct cuda_times *times) {
    if (times == NULL) return;
    for (int64_t i = 0; i < times->room; i++) {
        if (times->event[i] != NULL) (void)cudaEventDestroy(times->event[i]);
    }
    free(times->event);
    free(times);
}

static int rising(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

// Marks 0 .. RUNS lie around RUNS runs.
static enum status median_seconds(struct backend *backend, double *median) {
    double seconds[RUNS];
    TRY(backend->table->wait(backend));
    TRY(cuda_read_marks(backend, RUNS + 1, seconds));
    qsort(seconds, RUNS, sizeof *seconds, rising);
    *median = seconds[RUNS / 2];
    return STATUS_OK;
}

static enum status time_copy(struct backend *backend, char *memory, size_t bytes, double *median) {
    for (int run = -WARM_UPS; run < RUNS; run++) {
        if (run >= 0) TRY(cuda_mark_time(backend, run));
        CUDA_TRY(cudaMemcpyAsync(memory, memory + bytes, bytes, cudaMemcpyDeviceToDevice,
                                 cuda_backend_stream(backend)));
    }
    TRY(cuda_mark_time(backend, RUNS));
    return median_seconds(backend, median);
}

static enum status measure_copy(struct backend *backend, struct ceilings *ceilings) {
    double median = 0;
    void *memory = NULL;
    size_t bytes = COPY_BYTES, left = 0, all = 0;
    CUDA_TRY(cudaMemGetInfo(&left, &all));
    while (2 * bytes > left / 2 && bytes > COPY_LEAST) { // a small device, or a large model on it
        bytes /= 2;
    }
    TRY(backend->table->alloc(backend, 2 * bytes, &memory));
    const enum status status = time_copy(backend, memory, bytes, &median);
    backend->table->release(backend, memory);
    TRY(status);
    ceilings->copy_bytes = 2.0 * (double)bytes / median;
    snprintf(ceilings->copy, sizeof ceilings->copy, "device copy of %zu MiB", bytes >> 20);
    return STATUS_OK;
}

// Numbers in [-1, 1) with random digits: zeros would leave the chip cooler and faster than any model
// does.
static void draw(char *values, enum plugin_dtype dtype) {
    uint64_t seed = 88172645463325252U;
    for (int64_t i = 0; i < (int64_t)SIDE * SIDE; i++) {
        union {
            float value;
            uint32_t bits;
        } drawn;
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        drawn.value = (float)(seed >> 40) * 0x1p-23F - 1.0F;
        const uint16_t bf16 = (uint16_t)(drawn.bits >> 16);
        const uint16_t f16 = (uint16_t)(0x3800 | (seed >> 48 & 0x83FF)); // +-[0.5, 1)
        if (dtype == PLUGIN_BF16) memcpy(values + 2 * i, &bf16, sizeof bf16);
        if (dtype == PLUGIN_F16) memcpy(values + 2 * i, &f16, sizeof f16);
        if (dtype == PLUGIN_F32 || dtype == PLUGIN_TF32) {
            memcpy(values + 4 * i, &drawn.value, sizeof drawn.value);
        }
    }
}

static enum status time_product(struct backend *backend, struct cuda_lt_product *product,
                                double *median) {
    for (int run = -WARM_UPS; run < RUNS; run++) {
        if (run >= 0) TRY(cuda_mark_time(backend, run));
        TRY(cuda_lt_product_run(product, cuda_backend_stream(backend)));
    }
    TRY(cuda_mark_time(backend, RUNS));
    return median_seconds(backend, median);
}

static enum status measure_product(struct backend *backend, struct ceilings *ceilings) {
    static const char *const names[] = {
        [PLUGIN_F32] = "f32", [PLUGIN_TF32] = "tf32", [PLUGIN_BF16] = "bf16", [PLUGIN_F16] = "f16"};
    const enum plugin_dtype dtype = cuda_backend_of(backend)->dtype;
    const size_t bytes = (size_t)SIDE * SIDE * cuda_lt_element(dtype);
    double median = 0;
    void *memory = NULL;
    struct cuda_lt_product *product = NULL;
    enum status status = STATUS_OK;
    char *host = malloc(bytes);
    if (host == NULL) return FAIL(NO_MEMORY, "a matrix of side %d", SIDE);
    draw(host, dtype);
    TRY_OUT(status, backend->table->alloc(backend, 3 * bytes + CUDA_LT_WORKSPACE, &memory));
    TRY_OUT(status, backend->table->upload(backend, memory, host, bytes));
    TRY_OUT(status, backend->table->upload(backend, (char *)memory + bytes, host, bytes));
    TRY_OUT(status, cuda_lt_product_open(SIDE, dtype, memory, &product));
    if (product == NULL) goto out; // no library: said there
    TRY_OUT(status, time_product(backend, product, &median));
    ceilings->product_flops = 2.0 * SIDE * SIDE * SIDE / median;
    snprintf(ceilings->product, sizeof ceilings->product, "%s product of side %d, cuBLASLt",
             names[dtype], SIDE);
out:
    cuda_lt_product_close(product);
    backend->table->release(backend, memory);
    free(host);
    return status;
}

enum status cuda_ceilings(struct backend *backend, struct ceilings *ceilings) {
    *ceilings = (struct ceilings){0};
    TRY(cuda_use_device(backend));
    TRY(measure_copy(backend, ceilings));
    return measure_product(backend, ceilings);
}
