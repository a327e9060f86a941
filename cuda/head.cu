// The language model head: logits of some rows at a time, and from them each row's negative log
// likelihood of its target, with the operations of ops/cpu/cpu_head.c in their order.

#include "cuda/float_math.cuh"
#include "cuda/product.h"
#include "cuda/row_sum.cuh"
#include "ops/base/check.h"

#include <float.h>
#include <math.h>

namespace {

constexpr int kThreads = 256;
constexpr int kGroups = kThreads / kLanes; // each has a block of the vocabulary at a time
constexpr int64_t kBlock = 1024;           // logits a maximum and a sum are kept of together
constexpr int64_t kPanel = 64;             // logits a group takes in at a time, four a lane

// See head_log in ops/cpu/cpu_head.c: log(x) for 0 < x < infinity, else NaN.
__device__ double head_log(double x) {
    if (!(x > 0.0) || isinf(x)) return (double)NAN;
    long long bits = __double_as_longlong(x);
    long long exponent = (bits >> 52) - 1023;
    double m = __longlong_as_double((bits & 0x000fffffffffffffLL) | 0x3ff0000000000000LL);
    if (m > 0x1.6a09e667f3bcdp0) {
        m *= 0.5;
        exponent++;
    }
    const double s = (m - 1.0) / (m + 1.0);
    const double z = s * s;
    double series = 0.0;
    for (int i = 23; i >= 1; i -= 2) {
        series = series * z + 1.0 / i;
    }
    return (double)exponent * 0x1.62e42fefa39efp-1 + 2.0 * s * series;
}

// Maximum and sum of exp(logit - maximum) over a block of the vocabulary. Lane i has the logits i,
// i + 16, ... of each panel.
__device__ void block_sum(const float *logit, int64_t count, float *maximum, float *sum) {
    const int lane = threadIdx.x % kLanes;
    float most = -FLT_MAX, total = 0.0f;
    for (int64_t panel = 0; panel < count; panel += kPanel) {
        float v[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int64_t place = panel + i * kLanes + lane;
            v[i] = place < count ? logit[place] : -INFINITY;
        }
        const float pair = take_most(take_most(v[0], v[1]), take_most(v[2], v[3]));
        const float m = take_most(most, pair);
        const float low = exp_f32(v[0] - m) + exp_f32(v[1] - m);
        const float high = exp_f32(v[2] - m) + exp_f32(v[3] - m);
        total = fmaf(total, exp_f32(most - m), low + high);
        most = m;
    }
    *maximum = lanes_most(most);
    *sum = lanes_sum(total * exp_f32(most - *maximum));
}

// Grid: (rows)  Block: (kThreads), 16 groups of 16 threads  Shared: a maximum and a sum a group
// Groups take 16 blocks of the vocabulary at a time; then one thread adds them in block order.
__global__ void __launch_bounds__(kThreads)
    head_kernel(const float *logits, int64_t pitch, int64_t vocabulary, const int32_t *target,
                float *nll) {
    __shared__ float maximum[kGroups], sum[kGroups];
    const int64_t row = blockIdx.x;
    const float *logit = logits + row * pitch;
    const int group = threadIdx.x / kLanes;
    float most = 0.0f, total = 0.0f; // of thread 0
    if (target[row] < 0) {           // the whole block
        if (threadIdx.x == 0) nll[row] = 0.0f;
        return;
    }
    for (int64_t first = 0; first < vocabulary; first += kGroups * kBlock) {
        const int64_t begin = first + group * kBlock;
        const int64_t left = vocabulary - begin;
        const int64_t count = left < 0 ? 0 : left < kBlock ? left : kBlock;
        float m, s;
        block_sum(logit + begin, count, &m, &s);
        if (threadIdx.x % kLanes == 0) {
            maximum[group] = m;
            sum[group] = s;
        }
        __syncthreads();
        for (int b = 0; threadIdx.x == 0 && b < kGroups; b++) {
            if (first + b * kBlock >= vocabulary) break;
            if (first == 0 && b == 0) {
                most = maximum[0];
                total = sum[0];
                continue;
            }
            const float both = take_most(most, maximum[b]);
            const float before = total * exp_f32(most - both);
            total = fmaf(sum[b], exp_f32(maximum[b] - both), before);
            most = both;
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        const double from_target = (double)most - (double)logit[target[row]];
        nll[row] = (float)(head_log((double)total) + from_target);
    }
}

} // namespace

enum status cuda_head(struct backend *backend, const struct head_args *args) {
    struct cuda_backend *cuda = cuda_backend_of(backend);
    const struct packed_weight *weight = args->weight;
    const int64_t pitch = (weight->outputs + 3) / 4 * 4;
    const int64_t fit = cuda->logits_bytes / (pitch * (int64_t)sizeof(float));
    const int64_t most = fit > PRODUCT_ROWS ? fit / PRODUCT_ROWS * PRODUCT_ROWS : fit;
    CHECK(args->in.columns == weight->inputs);
    for (int64_t first = 0; first < args->in.rows; first += most) {
        const int64_t rows = args->in.rows - first < most ? args->in.rows - first : most;
        const struct linear_args product = {
            {args->in.data + first * args->in.stride, rows, args->in.columns, args->in.stride},
            weight,
            NULL,
            {cuda->logits,                            rows, weight->outputs,  pitch          },
            false,
        };
        TRY(cuda_product(backend, &product));
        head_kernel<<<(unsigned)rows, kThreads, 0, cuda->stream>>>(
            cuda->logits, pitch, weight->outputs, args->target + first, args->nll + first);
        CUDA_TRY(cudaGetLastError());
    }
    return STATUS_OK;
}
