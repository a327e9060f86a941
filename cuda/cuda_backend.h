#pragma once
// The backend of one device: its memory, one stream as the queue, and the operators' launchers.

#include "cuda/cuda_check.h"
#include "cuda/plugin.h"
#include "ops/backend.h"

#include <cuda_runtime_api.h>

C_BEGIN

struct cuda_backend {
    struct backend base; // first, so that &cuda->base is the handle
    cudaStream_t stream;
    cudaEvent_t mark[BACKEND_MARKS];
    int32_t device;
    enum plugin_dtype dtype;
    void *rounded;         // [window_tokens rows of the longest], for products; not of f32
    int64_t rounded_bytes; //
    float *logits;         // some rows of the vocabulary
    int64_t logits_bytes;
    struct cuda_times *times; // of measure.c, NULL until the first
};

static inline struct cuda_backend *cuda_backend_of(struct backend *backend) {
    return (struct cuda_backend *)(void *)backend;
}

// To be called by each entry first: the current device belongs to a thread.
enum status cuda_use_device(struct backend *backend);
enum status cuda_backend_open(const struct plugin_settings *settings, struct backend **opened);
// The queue, for launchers; makes its device the calling thread's.
cudaStream_t cuda_backend_stream(struct backend *backend);
// Room for products of weights with rows of `row_bytes` and so many outputs. At start.
enum status cuda_backend_room(struct backend *backend, int64_t row_bytes, int64_t outputs);

// For measuring (measure.c).
void cuda_times_free(struct cuda_times *times); // accepts NULL
enum status cuda_mark_time(struct backend *backend, int64_t index);
enum status cuda_read_marks(struct backend *backend, int64_t count, double *seconds);
enum status cuda_ceilings(struct backend *backend, struct ceilings *ceilings);

// The slots of the table that cuda_transport.c fills: NCCL, ops/transport.h.
struct transport_id;
struct transport_settings;
struct transport;
enum status cuda_transport_identify(struct backend *backend, int32_t rank, int32_t ranks,
                                    struct transport_id *id);
enum status cuda_transport_open(struct backend *backend, const struct transport_settings *settings,
                                struct transport **opened);

// Launchers, one an operator; what each computes is said in ops/op.h.
enum status cuda_pack(struct backend *backend, const float *weight, int64_t outputs, int64_t inputs,
                      struct packed_weight **packed);
void cuda_release_packed(struct backend *backend, struct packed_weight *packed);
enum status cuda_embedding(struct backend *backend, const struct embedding_args *args);
enum status cuda_rms_norm(struct backend *backend, const struct rms_norm_args *args);
enum status cuda_linear(struct backend *backend, const struct linear_args *args);
enum status cuda_conv_tail(struct backend *backend, const struct conv_args *args);
enum status cuda_causal_conv(struct backend *backend, const struct conv_args *args);
enum status cuda_dt(struct backend *backend, const struct dt_args *args);
enum status cuda_chunk_cumsum(struct backend *backend, const struct scan_args *args);
enum status cuda_chunk_cb(struct backend *backend, const struct scan_args *args);
enum status cuda_chunk_state(struct backend *backend, const struct scan_args *args);
enum status cuda_state_passing(struct backend *backend, const struct scan_args *args);
enum status cuda_chunk_scan(struct backend *backend, const struct scan_args *args);
enum status cuda_gated_norm(struct backend *backend, const struct gated_norm_args *args);
enum status cuda_head(struct backend *backend, const struct head_args *args);
enum status cuda_best(struct backend *backend, const struct best_args *args);

C_END
