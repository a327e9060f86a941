#pragma once
// What the launchers of the products share: the problem's sizes, the grid, the launch.

#include "cuda/cuda_check.h"
#include "cuda/hopper_gemm.cuh"

#include <algorithm>

namespace hopper {

inline int32_t ceil_div(int64_t a, int64_t b) {
    return (int32_t)((a + b - 1) / b);
}

inline problem make_problem(const gemm_queue *queue, const gemm_operand *a, const gemm_operand *b,
                            const gemm_scale &scale, int64_t rows, int64_t columns, int64_t k) {
    problem p = {};
    p.a = a->map;
    p.b = b->map;
    p.rows = (int32_t)rows;
    p.steps = (int32_t)std::max<int64_t>(k / kDepth, kLeastSteps); // zeros behind k
    p.row_pairs = ceil_div(rows, kRows * kCluster);
    p.column_tiles = ceil_div(columns, kColumns);
    p.ticket = queue->ticket;
    p.scale = scale;
    return p;
}

// Queues the product. A grid larger than what is free at that time is no loss: see the tickets.
template <class Work>
enum status launch(const gemm_queue *queue, const problem &p, const typename Work::args &args) {
    constexpr int kBytes = (int)kShared<Work>;
    const int64_t tiles = (int64_t)p.row_pairs * p.column_tiles;
    const int64_t most = queue->sms / kCluster > 0 ? queue->sms / kCluster : 1;
    const unsigned clusters = (unsigned)(tiles < most ? tiles : most);
    if (tiles == 0) return STATUS_OK;
    CUDA_TRY(cudaFuncSetAttribute(product_kernel<Work>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kBytes));
    CUDA_TRY(launch_overlapped(product_kernel<Work>, dim3(clusters * kCluster), kThreads, kBytes,
                               queue->stream, p, args));
    return STATUS_OK;
}

} // namespace hopper
