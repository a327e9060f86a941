#pragma once
// The backend of one device: its memory, one stream as the queue, and the operators' launchers.

#include "cuda/cuda_check.h"
#include "cuda/plugin.h"
#include "ops/backend.h"

#include <cuda_runtime_api.h>

C_BEGIN

enum status cuda_backend_open(const struct plugin_settings *settings, struct backend **opened);
// The queue, for launchers.
cudaStream_t cuda_backend_stream(struct backend *backend);
int32_t cuda_backend_device(struct backend *backend);

// The slots of the table that cuda_transport.c fills: NCCL, ops/transport.h.
struct transport_id;
struct transport_settings;
struct transport;
enum status cuda_transport_identify(struct backend *backend, int32_t rank, int32_t ranks,
                                    struct transport_id *id);
enum status cuda_transport_open(struct backend *backend, const struct transport_settings *settings,
                                struct transport **opened);

// Launchers, one an operator; what each computes is said in ops/op.h.
enum status cuda_rms_norm(struct backend *backend, const struct rms_norm_args *args);

C_END
