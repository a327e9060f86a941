// The head: logits that are never in memory. Each tile leaves a row's maximum and sum of powers over
// its columns, the thread that has the target's logit writes it, and a second kernel joins the tiles.
// All in units of log2.

#include "cuda/hopper_launch.cuh"

namespace hopper {

constexpr float kLog2e = 1.44269504088896341f;
constexpr float kLn2 = 0.69314718055994531f;

struct head_work : plain_work {
    struct args {
        const int32_t *target;
        float2 *partial;
        float *target_logit;
        int32_t vocab, tiles;
    };
    static constexpr int kGroup = 16;

    struct early {
        int32_t target[2]; // of the thread's rows
    };
    __device__ static void load(const args &a, const place &here, early &early) {
        for (int h = 0; h < 2; h++)
            early.target[h] = here.row + 8 * h < here.rows ? a.target[here.row + 8 * h] : -1;
    }
    __device__ static void finish(const args &a, const place &here, const early &early,
                                  stage_ring &, float (&sum)[128], held &);
};

// 2^x by the special function unit.
__device__ __forceinline__ float power_of_2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// The tile's column of sum[i].
__device__ __forceinline__ int32_t column_of(int i, uint32_t quad) {
    return 16 * (i / 8) + 4 * (int32_t)quad + 2 * (i / 4 % 2) + i % 2;
}

__device__ __forceinline__ void head_work::finish(const args &a, const place &here,
                                                  const early &early, stage_ring &,
                                                  float (&sum)[128], held &) {
    const int32_t first = here.column * kColumns, left = a.vocab - first;
    if (left < kColumns) {
#pragma unroll
        for (int i = 0; i < 128; i++) {
            sum[i] = column_of(i, here.quad) < left ? sum[i] : -INFINITY;
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int64_t row = here.row + 8 * h;
        const bool valid = row < here.rows;
        const float scale = here.scale[h] * kLog2e; // not negative, so it commutes with the maximum
        const int32_t target = early.target[h] - first;
        if (__any_sync(0xffffffffu, target >= 0 && target < kColumns)) {
#pragma unroll
            for (int i = 2 * h; i < 128; i += i % 2 == 0 ? 1 : 3) {
                if (column_of(i, here.quad) == target) a.target_logit[row] = sum[i] * scale;
            }
        }
        float most = sum[2 * h];
#pragma unroll
        for (int i = 0; i < 128; i += 4)
            most = fmaxf(most, fmaxf(sum[i + 2 * h], sum[i + 2 * h + 1]));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2)) * scale;
        float even = 0.0f, odd = 0.0f;
#pragma unroll
        for (int i = 0; i < 128; i += 4) {
            even += power_of_2(fmaf(sum[i + 2 * h], scale, -most));
            odd += power_of_2(fmaf(sum[i + 2 * h + 1], scale, -most));
        }
        even += odd;
        even += __shfl_xor_sync(0xffffffffu, even, 1);
        even += __shfl_xor_sync(0xffffffffu, even, 2);
        if (valid && here.quad == 0)
            a.partial[row * a.tiles + here.column] = make_float2(most, even);
    }
}

constexpr int kJoinThreads = 256;

// Grid: (ceil(rows / 8))  Block: (kJoinThreads)
// A warp joins the tiles of one row: lane l adds tiles l, l + 32, ..., then the lanes in halves.
__global__ void __launch_bounds__(kJoinThreads)
    join_kernel(const float2 *partial, const float *target_logit, const int32_t *target, float *nll,
                int64_t rows, int32_t tiles) {
    const int64_t row = (int64_t)blockIdx.x * (kJoinThreads / 32) + threadIdx.x / 32;
    const int32_t lane = (int32_t)(threadIdx.x % 32);
    take_turn();
    if (row >= rows) return;
    const float2 *part = partial + row * tiles;
    float most = -INFINITY, sum = 0.0f;
    for (int32_t i = lane; i < tiles; i += 32)
        most = fmaxf(most, part[i].x);
    for (int half = 16; half > 0; half /= 2)
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, half));
    for (int32_t i = lane; i < tiles; i += 32)
        sum = fmaf(part[i].y, exp2f(part[i].x - most), sum);
    for (int half = 16; half > 0; half /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, half);
    if (lane == 0)
        nll[row] = target[row] < 0 ? 0.0f : kLn2 * (most - target_logit[row] + log2f(sum));
}

} // namespace hopper

enum status hopper_head(const struct gemm_queue *queue, const struct gemm_head *args) {
    using namespace hopper;
    const problem p =
        make_problem(queue, args->u, args->weight, args->scale, args->rows, args->vocab, args->k);
    const unsigned blocks = (unsigned)ceil_div(args->rows, kJoinThreads / 32);
    if (args->rows == 0) return STATUS_OK;
    TRY(launch<head_work>(
        queue, p,
        {args->target, args->partial, args->target_logit, (int32_t)args->vocab, p.column_tiles}));
    CUDA_TRY(launch_overlapped(join_kernel, dim3(blocks), kJoinThreads, 0, queue->stream,
                               args->partial, args->target_logit, args->target, args->nll,
                               args->rows, p.column_tiles));
    return STATUS_OK;
}

bool hopper_gemm_supported(void) {
    cudaFuncAttributes attributes; // an error where the build has no code for the device
    const bool supported =
        cudaFuncGetAttributes(&attributes, hopper::product_kernel<hopper::head_work>) ==
        cudaSuccess;
    (void)cudaGetLastError();
    return supported;
}
