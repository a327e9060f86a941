// What the convolution leaves to the span that follows: its last inputs, oldest first.

#include "cuda/cuda_backend.h"
#include "cuda/scan_batch.cuh"

namespace {

constexpr int kThreads = 256;

// Grid: (spans, blocks of kThreads channels)  Block: (kThreads), a channel a thread  Shared: none
__global__ void __launch_bounds__(kThreads) conv_tail_kernel(struct conv_args a) {
    const struct scan_span *span = &a.batch.span[blockIdx.x];
    const int64_t channel = (int64_t)blockIdx.y * kThreads + threadIdx.x;
    const int64_t width = a.in.columns;
    const int64_t kept = a.d_conv - 1;
    const char *in = layer_in(a.batch, span);
    char *out = layer_out(a.batch, span);
    if (out == NULL || channel >= width) return;
    const float *before = in == NULL ? NULL : (const float *)(in + a.batch.conv_offset);
    float *tail = (float *)(out + a.batch.conv_offset);
    for (int64_t j = 0; j < kept; j++) {
        const int64_t row = span->rows - kept + j;
        float value = 0.0f;
        if (row >= 0) {
            value = a.in.data[(span->row + row) * a.in.stride + channel];
        } else if (before != NULL) {
            value = before[(kept + row) * width + channel];
        }
        tail[j * width + channel] = value;
    }
}

} // namespace

enum status cuda_conv_tail(struct backend *backend, const struct conv_args *args) {
    const dim3 grid((unsigned)args->batch.spans,
                    (unsigned)((args->in.columns + kThreads - 1) / kThreads));
    conv_tail_kernel<<<grid, kThreads, 0, cuda_backend_stream(backend)>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
