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

// Launchers, one an operator; what each computes is said in ops/op.h.
enum status cuda_rms_norm(struct backend *backend, const struct rms_norm_args *args);

C_END
