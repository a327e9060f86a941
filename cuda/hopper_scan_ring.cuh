#pragma once
// The ring of hopper_scan.cu: what lies in shared memory, and the thread that fills it. Who waits
// for whom is said there. Compiled for sm_90a only.

#include "cuda/hopper_scan_subtile.cuh"

namespace ssd {

constexpr int kConsumers = 256;
constexpr int kThreads = kConsumers + 128;
constexpr int kStages = 3;
constexpr int kSlots = 2;

enum { FIRST = 1, LAST = 2, ZERO = 4, STOP = 8 };

struct stage_info {
    int32_t row, rows, head, tile, flags; // rows: from here to the tile's end
};

struct shared_memory {
    struct {
        panel b[2], c[2]; // panels of 64 of n
        panel x[2];       // the two heads
    } stage[kStages];
    panel z[kSlots][2]; // the two heads
    panel h[2][2];      // [head]: rows are p, panels of 64 of n
    float4 decay[kStages][2][SCAN_SUBTILE];
    float norm_weight[2][64];
    stage_info info[kStages];
    uint64_t full[kStages], empty[kStages], z_full[kSlots], z_empty[kSlots];
};

struct kernel_args {
    scan_batch batch;
    __nv_bfloat16 *raw;
    int64_t raw_pitch, heads, groups, pairs, tickets;
    const float4 *decay;
    int64_t decay_pitch;
    const float *states, *d, *norm_weight;
    float *sq;
    const int32_t *order;
    int32_t *ticket;
};

struct ring {
    uint32_t at, parity;
};
template <int kCount>
__device__ inline void next(ring &r) {
    if (++r.at == kCount) r.at = 0, r.parity ^= 1;
}

__device__ inline void produce(const kernel_args &a, const scan_maps &maps, shared_memory &s) {
    const uint64_t once = policy_first();
    const uint64_t again = policy_last();
    const int32_t c_panel = (int32_t)a.groups * 2;
    ring r = {0, 1};
    ring slot = {0, 1};
    for (;;) {
        const int64_t ticket = atomicAdd(a.ticket, 1);
        if (ticket >= a.tickets) break;
        const int32_t index = a.order[ticket / a.pairs];
        const int32_t head = (int32_t)(ticket % a.pairs) * 2;
        const int32_t panel = (int32_t)(head * a.groups / a.heads) * 2;
        const scan_tile tile = a.batch.tile[index];
        const scan_span span = a.batch.span[tile.span];
        const bool zero = tile.row == span.row && span.state_in == nullptr;
        for (int at = 0; at < tile.rows; at += SCAN_SUBTILE) {
            auto &stage = s.stage[r.at];
            uint64_t *full = &s.full[r.at];
            const int32_t row = (int32_t)tile.row + at;
            const int left = tile.rows - at;
            wait(&s.empty[r.at], r.parity);
            s.info[r.at] = {row, left, head, index,
                            (at == 0 ? FIRST : 0) | (left <= SCAN_SUBTILE ? LAST : 0) |
                                (zero ? ZERO : 0)};
            arrive_expect(full, sizeof stage + sizeof s.decay[0]);
            load_box(stage.b, &maps.bc, 0, row, panel, full, again);
            load_box(stage.c, &maps.bc, 0, row, c_panel + panel, full, again);
            load_box(stage.x, &maps.x, 0, row, head, full, once);
            for (int h = 0; h < 2; h++) { // an absent head's are of the last one: never used
                load_bytes(s.decay[r.at][h],
                           a.decay + min((int64_t)head + h, a.heads - 1) * a.decay_pitch + row,
                           sizeof s.decay[0][0], full);
            }
            next<kStages>(r);
            wait(&s.z_empty[slot.at], slot.parity);
            arrive_expect(&s.z_full[slot.at], sizeof s.z[0]);
            for (int h = 0; h < 2; h++) {
                load_box(&s.z[slot.at][h], &maps.z, 0, row, head + h, &s.z_full[slot.at], once);
            }
            next<kSlots>(slot);
        }
    }
    wait(&s.empty[r.at], r.parity);
    s.info[r.at].flags = STOP;
    arrive(&s.full[r.at]);
}

} // namespace ssd
