// The Hopper scan's third step: the state before each tile, from the span's state_in on. The one
// place where a boundary state comes in or goes out.

#include "cuda/cuda_check.h"
#include "cuda/hopper_scan_shared.h"
#include "cuda/overlap.cuh"

#include <cuda_runtime.h>

namespace {

constexpr int kThreads = 256;
constexpr int kAhead = 4;                   // tiles whose sums are loaded at once
constexpr int64_t kPieces = SCAN_STATE / 4; // float4 of a head's state
constexpr int64_t kSpanBlocks = 64;         // blocks beside each other that share the spans

struct pass_args {
    scan_batch batch;
    float *states;
    const float *carry;
    int64_t heads;
};

// Elements of the canonical state [d_state, head_dim] that piece j of accumulator thread t holds.
struct place {
    int64_t at; // n * head_dim + p of element 0; 1: next n, 2: p + 8, 3: both
};

__device__ place place_of(int piece) {
    const int thread = piece % 128;
    const int n = piece / 128 * 8 + thread % 4 * 2;
    const int p = thread / 32 * 16 + thread % 32 / 4;
    return {(int64_t)n * SCAN_HEAD_DIM + p};
}

__device__ float4 load_state(const float *state, place p) {
    const float *at = state + p.at;
    return make_float4(at[0], at[SCAN_HEAD_DIM], at[8], at[SCAN_HEAD_DIM + 8]);
}

__device__ void store_state(float *state, place p, float4 h) {
    float *at = state + p.at;
    at[0] = h.x;
    at[SCAN_HEAD_DIM] = h.y;
    at[8] = h.z;
    at[SCAN_HEAD_DIM + 8] = h.w;
}

struct batch_of_tiles {
    float4 added[kAhead];
    float factor[kAhead];
};

__device__ void load(batch_of_tiles &b, const float4 *state, const float *carry, int64_t heads,
                     int64_t tiles) {
#pragma unroll
    for (int k = 0; k < kAhead; k++) {
        if (k < tiles) {
            b.added[k] = __ldcs(state + k * heads * kPieces);
            b.factor[k] = carry[k * heads];
        }
    }
}

// states[tile] = the state before it, but of a first tile that starts from zero: nobody looks.
// Returns the state after `tiles`. While kAhead tiles are worked on, the next are being loaded.
__device__ float4 pass(const pass_args &a, float4 h, bool from_zero, int64_t first, int64_t tiles,
                       int64_t head, int piece) {
    float4 *state =
        reinterpret_cast<float4 *>(a.states) + (first * a.heads + head) * kPieces + piece;
    const float *carry = a.carry + first * a.heads + head;
    batch_of_tiles now, next;
    load(now, state, carry, a.heads, tiles);
    for (int64_t i = 0; i < tiles; i += kAhead) {
        const int64_t on = kAhead * a.heads;
        load(next, state + on * kPieces, carry + on, a.heads, tiles - i - kAhead);
#pragma unroll
        for (int k = 0; k < kAhead; k++) {
            if (i + k < tiles) {
                if (!from_zero || i + k > 0) state[k * a.heads * kPieces] = h;
                h.x = fmaf(now.factor[k], h.x, now.added[k].x);
                h.y = fmaf(now.factor[k], h.y, now.added[k].y);
                h.z = fmaf(now.factor[k], h.z, now.added[k].z);
                h.w = fmaf(now.factor[k], h.w, now.added[k].w);
            }
        }
        now = next;
        state += on * kPieces;
        carry += on;
    }
    return h;
}

// Grid: (heads * 2048 / kThreads, spans or kSpanBlocks)  Block: (kThreads)
// A thread: 4 elements of one head's state, through every kSpanBlocks-th span. It reads and writes
// its elements only, so state_in and state_out may be the same memory.
__global__ void __launch_bounds__(kThreads) pass_kernel(pass_args a) {
    const int64_t number = (int64_t)blockIdx.x * kThreads + threadIdx.x;
    const int64_t head = number / kPieces;
    const int piece = (int)(number % kPieces);
    const place p = place_of(piece);
    take_turn();
    for (int64_t i = blockIdx.y; i < a.batch.spans; i += gridDim.y) {
        const scan_span span = a.batch.span[i];
        const bool out = span.state_out != nullptr;
        if (span.tiles == 1 && span.state_in == nullptr && !out) continue;
        float4 h = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (span.state_in != nullptr) {
            const char *in = span.state_in + a.batch.layer * span.in_layer_bytes;
            h = load_state(reinterpret_cast<const float *>(in) + head * SCAN_STATE, p);
        }
        // Without state_out nobody has summed up the last tile.
        h = pass(a, h, span.state_in == nullptr, span.first_tile, out ? span.tiles : span.tiles - 1,
                 head, piece);
        if (out) {
            char *to = span.state_out + a.batch.layer * span.out_layer_bytes;
            store_state(reinterpret_cast<float *>(to) + head * SCAN_STATE, p, h);
        } else {
            const int64_t last = span.first_tile + span.tiles - 1;
            reinterpret_cast<float4 *>(a.states)[(last * a.heads + head) * kPieces + piece] = h;
        }
    }
}

} // namespace

enum status hopper_scan_pass(const struct hopper_scan_args *args, cudaStream_t stream) {
    const pass_args kernel_args = {args->batch, args->work.states, args->work.carry,
                                   args->shape.heads};
    const int64_t spans = args->batch.spans < kSpanBlocks ? args->batch.spans : kSpanBlocks;
    if (spans == 0) return STATUS_OK;
    const dim3 grid((unsigned)(args->shape.heads * kPieces / kThreads), (unsigned)spans);
    CUDA_TRY(launch_overlapped(pass_kernel, grid, kThreads, 0, stream, kernel_args));
    return STATUS_OK;
}
