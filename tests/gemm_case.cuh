#pragma once
// Device memory, random numbers and the operands of a product, for cuda_gemm_check and gemm_bench.
// A failure ends the program.

#include "cuda/hopper_gemm.h"

#include <cuda_bf16.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(call)                                                                           \
    do {                                                                                     \
        const cudaError_t must_ = (call);                                                    \
        if (must_ != cudaSuccess) {                                                          \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(must_)); \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)
#define MUST_OK(call)                                                \
    do {                                                             \
        if ((call) != STATUS_OK) {                                   \
            printf("%s:%d: %s failed\n", __FILE__, __LINE__, #call); \
            exit(1);                                                 \
        }                                                            \
    } while (0)

using bf16 = __nv_bfloat16;

// Numbers of a normal distribution, the same for the same seed and place.
__device__ inline float normal_at(uint64_t seed, uint64_t place) {
    uint64_t x = (place + 1) * 0x9e3779b97f4a7c15ull + seed * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    const float first = ((float)(uint32_t)x + 1.0f) / 4294967808.0f;
    const float second = (float)(uint32_t)(x >> 32) / 4294967296.0f;
    return sqrtf(-2.0f * logf(first)) * cospif(2.0f * second);
}

template <class T>
__global__ void fill_kernel(T *data, int64_t count, uint64_t seed, float mean, float spread) {
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        data[i] = (T)(mean + spread * normal_at(seed, (uint64_t)i));
    }
}

// Memory on the device that goes with its variable; all bytes 0xff (NaN) at first.
template <class T>
struct array {
    T *data = nullptr;
    int64_t count = 0;

    explicit array(int64_t n) : count(n) {
        MUST(cudaMalloc(&data, (size_t)(n > 0 ? n : 1) * sizeof(T)));
        poison();
    }
    array(const array &) = delete;
    ~array() {
        cudaFree(data);
    }
    void poison() {
        MUST(cudaMemset(data, 0xff, (size_t)count * sizeof(T)));
    }
    void fill(uint64_t seed, float spread, float mean = 0.0f) {
        fill_kernel<<<1024, 256>>>(data, count, seed, mean, spread);
        MUST(cudaGetLastError());
    }
    void copy(const array &from) {
        MUST(cudaMemcpy(data, from.data, (size_t)count * sizeof(T), cudaMemcpyDeviceToDevice));
    }
};

inline gemm_queue make_queue() {
    gemm_queue queue = {};
    cudaDeviceProp device;
    MUST(cudaGetDeviceProperties(&device, 0));
    queue.sms = device.multiProcessorCount;
    MUST(cudaMalloc(&queue.ticket, 8));
    MUST(cudaMemset(queue.ticket, 0, 8));
    return queue;
}

// Weights: memory up to a multiple of 16 rows, the rows behind n NaN.
inline int64_t padded(int64_t n) {
    return (n + 15) / 16 * 16;
}
