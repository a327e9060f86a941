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

// To be called by each entry first: the current device belongs to a thread.
enum status cuda_use_device(struct backend *backend);

// For measuring (measure.c).
struct cuda_marks;
struct cuda_marks **cuda_backend_marks(struct backend *backend);
void cuda_marks_free(struct cuda_marks *marks); // accepts NULL
enum status cuda_mark_time(struct backend *backend, int64_t index);
enum status cuda_read_marks(struct backend *backend, int64_t count, double *seconds);
enum status cuda_ceilings(struct backend *backend, struct ceilings *ceilings);

// Launchers, one an operator; what each computes is said in ops/op.h.
enum status cuda_rms_norm(struct backend *backend, const struct rms_norm_args *args);

C_END
