// NCCL on this backend's device: who we are to other ranks, and CUDA's streams as the transport's table.

#include "cuda/cuda_backend.h"
#include "cuda/nccl_transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Where a transport lies on a device; gone with it.
struct cuda_place {
    int32_t device;
    char *scratch;
};

static enum status enter(void *device) {
    CUDA_TRY(cudaSetDevice(((struct cuda_place *)device)->device));
    return STATUS_OK;
}

static enum status stream_open(void *device, void **stream) {
    int least = 0, greatest = 0;
    cudaStream_t made = NULL;
    TRY(enter(device));
    CUDA_TRY(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    CUDA_TRY(cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking, greatest));
    *stream = made;
    return STATUS_OK;
}

static void stream_close(void *stream) {
    (void)cudaStreamDestroy(stream);
}

static enum status event_open(void **event) {
    cudaEvent_t made = NULL;
    CUDA_TRY(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
    *event = made;
    return STATUS_OK;
}

static void event_close(void *event) {
    if (event != NULL) (void)cudaEventDestroy(event);
}

static enum status record(void *event, void *stream) {
    CUDA_TRY(cudaEventRecord(event, stream));
    return STATUS_OK;
}

static enum status wait(void *stream, void *event) {
    CUDA_TRY(cudaStreamWaitEvent(stream, event, 0));
    return STATUS_OK;
}

static enum status query(void *event, bool *done) {
    const cudaError_t answer = cudaEventQuery(event);
    if (answer != cudaErrorNotReady) CUDA_TRY(answer);
    if (answer == cudaErrorNotReady) (void)cudaGetLastError(); // or a launch's check may find it
    *done = answer == cudaSuccess;
    return STATUS_OK;
}

static void place_close(void *device) {
    struct cuda_place *place = device;
    if (enter(place) == STATUS_OK) (void)cudaFree(place->scratch);
    free(place);
}

static const struct stream_api streams = {
    .enter = enter,
    .stream_open = stream_open,
    .stream_close = stream_close,
    .event_open = event_open,
    .event_close = event_close,
    .record = record,
    .wait = wait,
    .query = query,
    .close = place_close,
};

static void name_device(const struct cudaDeviceProp *properties, struct transport_id *id) {
    char host[64] = "";
    char uuid[2 * sizeof properties->uuid.bytes + 1];
    if (gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
    for (size_t i = 0; i < sizeof properties->uuid.bytes; i++) {
        snprintf(uuid + 2 * i, 3, "%02x", (unsigned char)properties->uuid.bytes[i]);
    }
    snprintf(id->device, sizeof id->device, "%s/%s", host, uuid);
}

enum status cuda_transport_identify(struct backend *backend, int32_t rank, int32_t ranks,
                                    struct transport_id *id) {
    struct cudaDeviceProp properties;
    const struct nccl_api *nccl = nccl_load(id->why_not, sizeof id->why_not);
    const bool makes[2] = {rank + 1 < ranks, rank == 0};
    CUDA_TRY(cudaSetDevice(cuda_backend_of(backend)->device));
    CUDA_TRY(cudaGetDeviceProperties(&properties, cuda_backend_of(backend)->device));
    name_device(&properties, id);
    for (int i = 0; nccl != NULL && i < 2; i++) {
        struct nccl_unique_id key;
        if (!makes[i]) continue;
        const int result = nccl->unique_id(&key);
        if (result != NCCL_SUCCESS) {
            snprintf(id->why_not, sizeof id->why_not, "nccl: no id: %.80s",
                     nccl->error_text(result));
            break;
        }
        memcpy(id->key[i], &key, sizeof key);
    }
    return STATUS_OK;
}

enum status cuda_transport_open(struct backend *backend, const struct transport_settings *settings,
                                struct transport **opened) {
    char why[128];
    void *scratch = NULL;
    const struct nccl_api *nccl = nccl_load(why, sizeof why);
    if (nccl == NULL) return FAIL(PEER, "nccl: %s", why);
    struct cuda_place *on = calloc(1, sizeof *on);
    if (on == NULL) return FAIL(NO_MEMORY, "nccl transport");
    enum status status =
        backend->table->alloc(backend, (size_t)settings->ranks * NCCL_SCRATCH, &scratch);
    if (status == STATUS_OK) status = backend->table->wait(backend);
    *on = (struct cuda_place){.device = cuda_backend_of(backend)->device, .scratch = scratch};
    if (status != STATUS_OK) {
        place_close(on);
        return status;
    }
    const struct nccl_place place = {.nccl = nccl,
                                     .streams = &streams,
                                     .device = on,
                                     .compute = cuda_backend_stream(backend),
                                     .scratch = scratch};
    return nccl_transport_open(&place, settings, opened);
}
