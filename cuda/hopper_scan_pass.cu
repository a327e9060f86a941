// The Hopper scan's third step: the state before each tile, from the span's state_in on, as the
// scan's products want it. The one place where a boundary state comes in or goes out.

#include "cuda/cuda_check.h"
#include "cuda/hopper_scan_ptx.cuh"
#include "cuda/hopper_scan_shared.h"
#include "cuda/overlap.cuh"

#include <cuda_runtime.h>

namespace {

constexpr int kThreads = 256;
constexpr int kAhead = 4;                   // tiles whose sums are loaded at once
constexpr int64_t kPieces = SCAN_STATE / 4; // float4 of a head's state
constexpr int64_t kImage = SCAN_STATE * 2;  // bytes
constexpr int64_t kSpanBlocks = 64;         // blocks beside each other that share the spans

struct pass_args {
    scan_batch batch;
    const float *states, *carry;
    char *tile_states;
    int64_t heads;
};

// Element 0 of a thread's four is H[p][n], 1 the next n, 2 and 3 the same of p + 8.
struct place {
    int64_t piece;     // float4 of a tile's sum
    int64_t canonical; // element of the canonical state [d_state, head_dim]
    int64_t image;     // byte of the image; row p + 8 follows 1024 bytes on
};

// Half a warp each takes 4 rows of 8 n, next to each other: together they write whole sectors of 32
// bytes of the image.
__device__ place place_of(int number) {
    const int thread = number / 32 % 8 * 16 + number % 16; // of the accumulator
    const int j = number / 256 * 2 + number / 16 % 2;
    const int n = j * 8 + thread % 4 * 2;
    const int p = thread / 32 * 16 + thread % 32 / 4;
    return {(int64_t)j * 128 + thread, (int64_t)n * SCAN_HEAD_DIM + p,
            j / 8 * 8192 + p * 128 + (j % 8 ^ p % 8) * 16 + thread % 4 * 4};
}

__device__ float4 load_state(const float *state, place p) {
    const float *at = state + p.canonical;
    return make_float4(at[0], at[SCAN_HEAD_DIM], at[8], at[SCAN_HEAD_DIM + 8]);
}

__device__ void store_state(float *state, place p, float4 h) {
    float *at = state + p.canonical;
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

__device__ void store_image(char *image, float4 h) {
    *reinterpret_cast<uint32_t *>(image) = ssd::pack(h.x, h.y);
    *reinterpret_cast<uint32_t *>(image + 8 * 128) = ssd::pack(h.z, h.w);
}

// tile_states[tile] = the state before it, but of a first tile that starts from zero: nobody looks.
// Returns the state after `tiles`. While kAhead tiles are worked on, the next are being loaded.
__device__ float4 pass(const pass_args &a, float4 h, bool from_zero, int64_t first, int64_t tiles,
                       int64_t head, place p) {
    const int64_t at = first * a.heads + head;
    const float4 *state = reinterpret_cast<const float4 *>(a.states) + at * kPieces + p.piece;
    const float *carry = a.carry + at;
    char *image = a.tile_states + at * kImage + p.image;
    batch_of_tiles now, next;
    load(now, state, carry, a.heads, tiles);
    for (int64_t i = 0; i < tiles; i += kAhead) {
        const int64_t on = kAhead * a.heads;
        load(next, state + on * kPieces, carry + on, a.heads, tiles - i - kAhead);
#pragma unroll
        for (int k = 0; k < kAhead; k++) {
            if (i + k < tiles) {
                if (!from_zero || i + k > 0) store_image(image + k * a.heads * kImage, h);
                h.x = fmaf(now.factor[k], h.x, now.added[k].x);
                h.y = fmaf(now.factor[k], h.y, now.added[k].y);
                h.z = fmaf(now.factor[k], h.z, now.added[k].z);
                h.w = fmaf(now.factor[k], h.w, now.added[k].w);
            }
        }
        now = next;
        state += on * kPieces;
        carry += on;
        image += on * kImage;
    }
    return h;
}

// Grid: (heads * 2048 / kThreads, spans or kSpanBlocks)  Block: (kThreads)
// A thread: 4 elements of one head's state, through every kSpanBlocks-th span. It reads and writes
// its elements only, so state_in and state_out may be the same memory.
__global__ void __launch_bounds__(kThreads) pass_kernel(pass_args a) {
    const int64_t number = (int64_t)blockIdx.x * kThreads + threadIdx.x;
    const int64_t head = number / kPieces;
    const place p = place_of((int)(number % kPieces));
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
                 head, p);
        if (out) {
            char *to = span.state_out + a.batch.layer * span.out_layer_bytes;
            store_state(reinterpret_cast<float *>(to) + head * SCAN_STATE, p, h);
        } else {
            const int64_t last = (span.first_tile + span.tiles - 1) * a.heads + head;
            store_image(a.tile_states + last * kImage + p.image, h);
        }
    }
}

} // namespace

enum status hopper_scan_pass(const struct hopper_scan_args *args, cudaStream_t stream) {
    const pass_args kernel_args = {args->batch, args->work.states, args->work.carry,
                                   static_cast<char *>(args->work.tile_states), args->shape.heads};
    const int64_t spans = args->batch.spans < kSpanBlocks ? args->batch.spans : kSpanBlocks;
    if (spans == 0) return STATUS_OK;
    const dim3 grid((unsigned)(args->shape.heads * kPieces / kThreads), (unsigned)spans);
    CUDA_TRY(launch_overlapped(pass_kernel, grid, kThreads, 0, stream, kernel_args));
    return STATUS_OK;
}
