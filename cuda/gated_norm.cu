// The gate and the norm of each group of a row, in either order.

#include "cuda/cuda_backend.h"
#include "cuda/float_math.cuh"
#include "cuda/row_sum.cuh"

namespace {

constexpr int kThreads = 128;
constexpr int kUnits = kThreads / kWarp; // of a block; a unit is one group of one row
constexpr int kAhead = 8;                // columns of a thread fetched at once

// Grid: (blocks of kUnits units)  Block: (kThreads), a warp a unit  Shared: none
// `out` holds the gated numbers between the two passes; it may be y: a thread writes what it has
// read.
template <bool NormFirst>
__global__ void __launch_bounds__(kThreads) gated_norm_kernel(struct gated_norm_args a) {
    const int lane = threadIdx.x % kWarp;
    const int64_t columns = a.y.columns / a.groups;
    const int64_t unit = (int64_t)blockIdx.x * kUnits + threadIdx.x / kWarp;
    if (unit >= a.y.rows * a.groups) return; // the whole warp
    const int64_t row = unit / a.groups;
    const int64_t begin = unit % a.groups * columns;
    const float *y = a.y.data + row * a.y.stride + begin;
    const float *z = a.z.data + row * a.z.stride + begin;
    const float *weight = a.weight + begin;
    float *out = a.out.data + row * a.out.stride + begin;
    float squares = 0.0f;
    for (int64_t first = lane; first - lane < columns; first += kAhead * kWarp) {
        float v[kAhead], gate[kAhead];
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            const int64_t c = first + i * kWarp;
            v[i] = c < columns ? y[c] : 0.0f;
            gate[i] = !NormFirst && c < columns ? z[c] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            const int64_t c = first + i * kWarp;
            if (!NormFirst) v[i] *= silu_f32(gate[i]);
            if (!NormFirst && c < columns) out[c] = v[i];
            squares = lanes_add_square(v[i], c < columns, squares);
        }
    }
    const float scale = row_scale(squares, columns, a.epsilon);
    const float *from = NormFirst ? y : out;
    for (int64_t first = lane; first < columns; first += kAhead * kWarp) {
        float v[kAhead], gate[kAhead];
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            const int64_t c = first + i * kWarp;
            v[i] = c < columns ? from[c] * scale * weight[c] : 0.0f;
            gate[i] = NormFirst && c < columns ? z[c] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            const int64_t c = first + i * kWarp;
            if (c < columns) out[c] = NormFirst ? v[i] * silu_f32(gate[i]) : v[i];
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
