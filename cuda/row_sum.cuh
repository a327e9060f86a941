#pragma once
// Rows shared by 16 threads, as the CPU shares them among the 16 lanes of a vector: column c belongs
// to lane c mod 16, columns ascend in each lane, and lanes are added as a tree of halves. So a row's
// sum depends on its length only, and has the CPU's bits.

constexpr int kLanes = 16;            // threads a row
constexpr unsigned kAll = 0xffffffff; // both halves of a warp take part

// Lane i plus lane i + 8, then + 4, + 2, + 1; all 16 threads get the result.
static __device__ __forceinline__ float lanes_sum(float value) {
    for (int half = kLanes / 2; half > 0; half /= 2) {
        value += __shfl_down_sync(kAll, value, half, kLanes);
    }
    return __shfl_sync(kAll, value, 0, kLanes);
}

static __device__ __forceinline__ float lanes_most(float value) {
    for (int half = kLanes / 2; half > 0; half /= 2) {
        const float other = __shfl_down_sync(kAll, value, half, kLanes);
        value = value > other ? value : other;
    }
    return __shfl_sync(kAll, value, 0, kLanes);
}

// 1 / rms of `columns` numbers whose squares this thread's lane has summed.
static __device__ __forceinline__ float lanes_scale(float squares, int64_t columns, float epsilon) {
    return 1.0f / sqrtf(lanes_sum(squares) / (float)columns + epsilon);
}
