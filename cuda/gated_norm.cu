// The gate and the norm of each group of a row, in either order.

#include "cuda/cuda_backend.h"
#include "cuda/float_math.cuh"
#include "cuda/row_sum.cuh"

namespace {

constexpr int kThreads = 256;
constexpr int kUnits = kThreads / kLanes; // of a block; a unit is one group of one row

// Grid: (blocks of kUnits units)  Block: (kThreads), 16 threads a unit  Shared: none
// `out` holds the gated numbers between the two passes; it may be y. Threads without a unit go
// through with no columns, since the shuffles need them.
template <bool NormFirst>
__global__ void __launch_bounds__(kThreads) gated_norm_kernel(struct gated_norm_args a) {
    const int lane = threadIdx.x % kLanes;
    const int64_t columns = a.y.columns / a.groups;
    const int64_t unit = (int64_t)blockIdx.x * kUnits + threadIdx.x / kLanes;
    const bool there = unit < a.y.rows * a.groups;
    const int64_t row = there ? unit / a.groups : 0;
    const int64_t first = there ? unit % a.groups * columns : 0;
    const int64_t count = there ? columns : 0;
    const float *y = a.y.data + row * a.y.stride + first;
    const float *z = a.z.data + row * a.z.stride + first;
    const float *weight = a.weight + first;
    float *out = a.out.data + row * a.out.stride + first;
    float squares = 0.0f;
#pragma unroll 4
    for (int64_t c = lane; c < count; c += kLanes) {
        float v = y[c];
        if (!NormFirst) {
            v *= silu_f32(z[c]);
            out[c] = v;
        }
        squares = fmaf(v, v, squares);
    }
    const float scale = lanes_scale(squares, columns, a.epsilon);
#pragma unroll 4
    for (int64_t c = lane; c < count; c += kLanes) {
        if (NormFirst) {
            out[c] = y[c] * scale * weight[c] * silu_f32(z[c]);
        } else {
            out[c] = out[c] * scale * weight[c];
        }
    }
}

} // namespace

enum status cuda_gated_norm(struct backend *backend, const struct gated_norm_args *args) {
    const unsigned blocks = (unsigned)((args->y.rows * args->groups + kUnits - 1) / kUnits);
    cudaStream_t stream = cuda_backend_stream(backend);
    if (args->norm_before_gate) {
        gated_norm_kernel<true><<<blocks, kThreads, 0, stream>>>(*args);
    } else {
        gated_norm_kernel<false><<<blocks, kThreads, 0, stream>>>(*args);
    }
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
