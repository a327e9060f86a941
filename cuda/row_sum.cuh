#pragma once
// Sums over a row in the order of the CPU's vectors of 16 lanes: column c belongs to lane c mod 16,
// columns ascend in each lane, and lanes are added as a tree of halves. So a row's sum depends on
// its length only, and has the CPU's bits. Here a warp has a row, thread t the columns t, t + 32,
// ...; the first 16 threads are the lanes, the others hand them every second column.

#include <stdint.h>

constexpr int kLanes = 16;
constexpr int kWarp = 32;
constexpr unsigned kAll = 0xffffffff;

// Adds the squares of 32 columns, one a thread, to the sums of the first 16 threads. `there`: this
// thread's column exists. All threads must come here.
static __device__ __forceinline__ float lanes_add_square(float value, bool there, float squares) {
    const float later = __shfl_down_sync(kAll, value, kLanes);
    const bool later_there = __shfl_down_sync(kAll, there, kLanes);
    if (there) squares = fmaf(value, value, squares);
    return later_there ? fmaf(later, later, squares) : squares;
}

// Lane i plus lane i + 8, then + 4, + 2, + 1; each 16 threads get the result of theirs.
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

// 1 / rms of `columns` numbers, from the squares in the first 16 threads of the warp.
static __device__ __forceinline__ float row_scale(float squares, int64_t columns, float epsilon) {
    const float sum = __shfl_sync(kAll, lanes_sum(squares), 0);
    return 1.0f / sqrtf(sum / (float)columns + epsilon);
}
