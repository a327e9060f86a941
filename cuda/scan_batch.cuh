#pragma once
// Questions about a batch of spans, as ops/cpu/cpu_scan.c asks them.

#include "ops/backend.h"

static __device__ __forceinline__ const struct scan_span *span_of(const struct scan_batch &batch,
                                                                  int64_t tile) {
    return &batch.span[batch.tile[tile].span];
}

// The tile's own sum is seen by the tile after it or by state_out.
static __device__ __forceinline__ bool sum_is_seen(const struct scan_batch &batch, int64_t tile) {
    const struct scan_span *span = span_of(batch, tile);
    return span->state_out != NULL || span->first_tile + span->tiles - 1 != tile;
}

// The state before the tile is zero, and not in memory.
static __device__ __forceinline__ bool starts_from_zero(const struct scan_batch &batch,
                                                        int64_t tile) {
    const struct scan_span *span = span_of(batch, tile);
    return span->state_in == NULL && span->first_tile == tile;
}

// The layer's state that a span begins with; NULL: zero.
static __device__ __forceinline__ const char *layer_in(const struct scan_batch &batch,
                                                       const struct scan_span *span) {
    if (span->state_in == NULL) return NULL;
    return span->state_in + batch.layer * span->in_layer_bytes;
}

// The layer's state that a span leaves; NULL: nobody needs it.
static __device__ __forceinline__ char *layer_out(const struct scan_batch &batch,
                                                  const struct scan_span *span) {
    if (span->state_out == NULL) return NULL;
    return span->state_out + batch.layer * span->out_layer_bytes;
}

// A head's state [d_state, head_dim] before (or of) a tile.
static __device__ __forceinline__ float *head_state(const struct scan_args &a, int64_t tile,
                                                    int64_t head) {
    return a.states + (tile * a.shape.heads + head) * a.shape.d_state * a.shape.head_dim;
}

// A row's x of a head, and B and C of a group.
static __device__ __forceinline__ const float *x_of(const struct scan_args &a, int64_t row,
                                                    int64_t head) {
    return a.xbc.data + row * a.xbc.stride + head * a.shape.head_dim;
}

static __device__ __forceinline__ const float *b_of(const struct scan_args &a, int64_t row,
                                                    int64_t group) {
    return a.xbc.data + row * a.xbc.stride + a.shape.heads * a.shape.head_dim +
           group * a.shape.d_state;
}

static __device__ __forceinline__ const float *c_of(const struct scan_args &a, int64_t row,
                                                    int64_t group) {
    return b_of(a, row, group) + a.shape.groups * a.shape.d_state;
}
