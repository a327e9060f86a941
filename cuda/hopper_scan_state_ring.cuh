#pragma once
// The ring of hopper_scan_state.cu: what lies in shared memory, and the thread that fills it. Who waits
// for whom is said there. Compiled for sm_90a only.

#include "cuda/hopper_scan_conv.cuh"

namespace ssd::state_ring {

constexpr int kConsumers = 256;
constexpr int kThreads = kConsumers + 128; // registers move between whole warpgroups
constexpr int kStages = 4;
constexpr int kRows = SCAN_SUBTILE + SCAN_HALO;
constexpr int kPanel = SCAN_SUBTILE * 64; // elements of a swizzled panel, 8 KB

enum { SPAN_START = 1, SUM = 2, STOP = 4 }; // SUM: the tile's is wanted

struct stage_info {
    int32_t row, rows; // the subtile's first row; from there to the tile's end
    int32_t at;        // the first row, counted from the tile's
    int32_t head, tile, span, flags;
};

struct decay_used { // the beginning of a scan_decay
    float s[SCAN_SUBTILE], w[SCAN_SUBTILE];
};
static_assert(offsetof(scan_decay, w) == offsetof(decay_used, w) &&
                  offsetof(scan_decay, e) == sizeof(decay_used),
              "one copy brings them");

struct shared_memory {
    __nv_bfloat16 b[kStages][2][kPanel]; // swizzled; panels of 64 of n
    __nv_bfloat16 wx[2][2][kPanel];      // [head][t % 2], swizzled
    __nv_bfloat16 state[2][2][kPanel];   // [head], an image that leaves
    __nv_bfloat16 raw[kStages][2][kRows * 64];
    alignas(16) decay_used decay[kStages][2];
    stage_info info[kStages];
    uint64_t full[kStages], empty[kStages];
};

struct state_args {
    scan_batch batch;
    __nv_bfloat16 *x;
    int64_t x_pitch;
    const float *conv_weight, *conv_bias;
    const scan_decay *decay;
    int64_t subtiles;
    float *states, *carry, *fall;
    char *chunk_states;
    const int32_t *order;
    int32_t *ticket;
    int64_t heads, groups, pairs, tickets, conv_width;
    int d_conv;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

__device__ inline void produce(const state_args &a, const scan_maps &maps, shared_memory &s) {
    const uint64_t once = policy_first();
    const uint64_t again = policy_last();
    uint32_t stage = 0;
    uint32_t parity = 1;
    for (;;) {
        const int64_t ticket = atomicAdd(a.ticket, 1);
        if (ticket >= a.tickets) break;
        const int32_t index = a.order[ticket / a.pairs];
        const int32_t head = (int32_t)(ticket % a.pairs) * 2;
        const scan_tile tile = a.batch.tile[index];
        const scan_span span = a.batch.span[tile.span];
        const bool ends = tile.row + tile.rows == span.row + span.rows;
        const bool sum = !ends || span.state_out != nullptr;
        // Rows that some state is made of: the tile's, or those before its last chunk.
        const int wanted = sum ? tile.rows : (tile.rows - 1) / SCAN_CHUNK * SCAN_CHUNK;
        const int32_t panel = (int32_t)(head * a.groups / a.heads) * 2;
        for (int at = 0; at < tile.rows; at += SCAN_SUBTILE) {
            const int32_t row = (int32_t)tile.row + at;
            const bool adds = at < wanted;
            wait(&s.empty[stage], parity);
            s.info[stage] = {row,
                             tile.rows - at,
                             at,
                             head,
                             index,
                             tile.span,
                             (row == span.row ? SPAN_START : 0) | (sum ? SUM : 0)};
            arrive_expect(&s.full[stage],
                          sizeof s.raw[0] + sizeof s.decay[0] + (adds ? sizeof s.b[0] : 0));
            load_box(s.raw[stage], &maps.raw_x, 0, row - SCAN_HALO, head, &s.full[stage], once);
            for (int h = 0; h < 2; h++) { // an absent head's are of the last one: never used
                load_bytes(&s.decay[stage][h],
                           a.decay + min((int64_t)head + h, a.heads - 1) * a.subtiles +
                               scan_subtile_at(row, index),
                           sizeof s.decay[0][0], &s.full[stage]);
            }
            if (adds) load_box(s.b[stage], &maps.bc, 0, row, panel, &s.full[stage], again);
            if (++stage == kStages) stage = 0, parity ^= 1;
        }
    }
    wait(&s.empty[stage], parity);
    s.info[stage].flags = STOP;
    arrive(&s.full[stage]);
}

#endif

} // namespace ssd::state_ring
