#pragma once
// What lies in the shared memory of hopper_scan.cu, and the three threads that fill it. Who waits for
// whom is said there. Compiled for sm_90a only.

#include "cuda/hopper_ptx.cuh"
#include "cuda/hopper_scan_subtile.cuh"

namespace ssd {

constexpr int kTeams = 2;
constexpr int kConsumers = kTeams * 256;
constexpr int kThreads = kConsumers + 128; // registers move between whole warpgroups
constexpr int kUnits = 2;                  // whose numbers are known
constexpr int kTurns = 2;                  // heads whose decays are there

enum { STATE = 1, STOP = 2 }; // a state before the tile

// A chunk and the heads [head, end) of one group.
struct unit_info {
    int32_t row, rows; // rows: of the chunk
    int32_t tile, chunk, head, end, panel, flags;
};

struct team_memory {
    panel state[2], tile_state[2];           // rows p, panels of 64 of n
    panel x[2], z[2];                        // [half]
    uint4 left[4][128];                      // scores of upper rows and lower columns, by thread
    alignas(16) scan_decay decay[kTurns][2]; // [half]
    float fall[kTurns][SCAN_TILE_CHUNKS];
    float norm_weight[64];
    uint64_t tile_full, tile_empty, state_full, state_empty, x_full, x_empty, z_full, z_empty;
    uint64_t state_ready, decay_full[kTurns], decay_empty[kTurns];
};

struct shared_memory {
    panel b[2][2], c[2][2]; // [half]: panels of 64 of n
    uint4 zeros[64];        // eight rows of a panel
    team_memory team[kTeams];
    unit_info unit[kUnits];
    uint64_t unit_full[kUnits], unit_empty[kUnits], b_full, b_empty, c_full, c_empty;
};

struct kernel_args {
    scan_batch batch;
    __nv_bfloat16 *raw;
    int64_t raw_pitch;
    int32_t heads, groups, parts; // parts: of a group's heads, each a unit
    const scan_decay *decay;
    int64_t subtiles;
    const __nv_bfloat16 *tile_states, *chunk_states;
    const float *fall, *d, *norm_weight;
    float *sq;
    const int32_t *chunk_list, *chunk_count;
    int32_t *ticket;
};

// Unlike ssd::wait without a trap: hopper_ptx.cuh says why.
__device__ inline void await(uint64_t *barrier, uint32_t parity) {
    hopper::barrier_wait(shared_address(barrier), parity);
}

__device__ inline int halves_of(int rows) { // an absent half is not brought
    return rows > SCAN_SUBTILE ? 2 : 1;
}

__device__ inline void bring_state(panel (&to)[2], const void *image, bool there, uint64_t *full,
                                   uint64_t policy) {
    if (there) {
        arrive_expect(full, sizeof to);
        load_bytes(to, image, sizeof to, full, policy);
    } else {
        arrive(full);
    }
}

// The n-th head of a team. Places are filled in the order in which they become free. Loops stay loops
// and policies are made where they are used: the threads that bring have 32 registers.
__device__ inline void bring_head(const kernel_args &a, const scan_maps &maps, team_memory &s,
                                  const unit_info &unit, int head, uint32_t n) {
    const uint32_t free = (n & 1) ^ 1;
    const int halves = halves_of(unit.rows);
    const int64_t at = (int64_t)unit.tile * a.heads + head;
    const __nv_bfloat16 *tile_state = a.tile_states + at * SCAN_STATE;
    const bool later = unit.chunk > 0;
    const bool from_tile = (unit.flags & STATE) != 0;
    await(&s.tile_empty, free);
    bring_state(s.tile_state, tile_state, later && from_tile, &s.tile_full, policy_last());
    const uint32_t turn = n % kTurns;
    const uint32_t decays = (uint32_t)(halves * sizeof s.decay[0][0]);
    await(&s.decay_empty[turn], (n / kTurns & 1) ^ 1);
    arrive_expect(&s.decay_full[turn], decays + (uint32_t)sizeof s.fall[0]);
    load_bytes(s.fall[turn], a.fall + at * SCAN_TILE_CHUNKS, sizeof s.fall[0], &s.decay_full[turn]);
    load_bytes(s.decay[turn], a.decay + head * a.subtiles + scan_subtile_at(unit.row, unit.tile),
               decays, &s.decay_full[turn]);
    await(&s.state_empty, free);
    bring_state(s.state,
                later ? a.chunk_states +
                            ((int64_t)(unit.row / SCAN_CHUNK) * a.heads + head) * SCAN_STATE
                      : tile_state,
                later || from_tile, &s.state_full, policy_first());
    await(&s.x_empty, free);
    arrive_expect(&s.x_full, halves * (uint32_t)sizeof s.x[0]);
#pragma unroll 1
    for (int i = 0; i < halves; i++) {
        load_box(&s.x[i], &maps.x, 0, unit.row + i * SCAN_SUBTILE, head, &s.x_full, policy_first());
    }
    await(&s.z_empty, free);
    arrive_expect(&s.z_full, halves * (uint32_t)sizeof s.z[0] + (uint32_t)sizeof s.norm_weight);
    load_bytes(s.norm_weight, a.norm_weight + head * 64, sizeof s.norm_weight, &s.z_full);
#pragma unroll 1
    for (int i = 0; i < halves; i++) {
        load_box(&s.z[i], &maps.z, 0, unit.row + i * SCAN_SUBTILE, head, &s.z_full, policy_first());
    }
}

__device__ inline void bring_heads(const kernel_args &a, const scan_maps &maps, shared_memory &s,
                                   int team) {
    uint32_t n = 0;
    for (uint32_t u = 0;; u++) {
        await(&s.unit_full[u % kUnits], u / kUnits & 1);
        const unit_info &unit = s.unit[u % kUnits];
        if ((unit.flags & STOP) != 0) break;
        for (int head = unit.head + team; head < unit.end; head += kTeams, n++) {
            bring_head(a, maps, s.team[team], unit, head, n);
        }
        arrive(&s.unit_empty[u % kUnits]);
    }
}

__device__ inline unit_info unit_of(const kernel_args &a, int32_t ticket) {
    const int32_t parts = a.groups * a.parts;
    const int32_t number = a.chunk_list[ticket / parts];
    const int32_t group = ticket % parts / a.parts;
    const int32_t part = ticket % parts % a.parts;
    const int32_t heads = a.heads / a.groups;
    unit_info unit;
    unit.tile = number / SCAN_TILE_CHUNKS;
    unit.chunk = number % SCAN_TILE_CHUNKS;
    const scan_tile tile = a.batch.tile[unit.tile];
    const scan_span span = a.batch.span[tile.span];
    unit.row = (int32_t)tile.row + unit.chunk * SCAN_CHUNK;
    unit.rows = min(tile.rows - unit.chunk * SCAN_CHUNK, (int)SCAN_CHUNK);
    unit.head = group * heads + part * heads / a.parts;
    unit.end = group * heads + (part + 1) * heads / a.parts;
    unit.panel = group * 2;
    unit.flags = tile.row == span.row && span.state_in == nullptr ? 0 : STATE;
    return unit;
}

__device__ inline void bring_units(const kernel_args &a, const scan_maps &maps, shared_memory &s) {
    const int64_t tickets = (int64_t)*a.chunk_count * a.groups * a.parts;
    for (uint32_t u = 0;; u++) {
        const int32_t ticket = u == 0 ? blockIdx.x : gridDim.x + atomicAdd(a.ticket, 1);
        const bool stop = ticket >= tickets;
        unit_info unit = {};
        if (!stop) unit = unit_of(a, ticket);
        if (stop) unit.flags = STOP;
        await(&s.unit_empty[u % kUnits], (u / kUnits & 1) ^ 1);
        s.unit[u % kUnits] = unit;
        arrive(&s.unit_full[u % kUnits]);
        if (stop) break;
        const int halves = halves_of(unit.rows);
        await(&s.b_empty, (u & 1) ^ 1);
        arrive_expect(&s.b_full, halves * (uint32_t)sizeof s.b[0]);
#pragma unroll 1
        for (int i = 0; i < halves; i++) {
            load_box(s.b[i], &maps.bc, 0, unit.row + i * SCAN_SUBTILE, unit.panel, &s.b_full,
                     policy_last());
        }
        await(&s.c_empty, (u & 1) ^ 1);
        arrive_expect(&s.c_full, halves * (uint32_t)sizeof s.c[0]);
#pragma unroll 1
        for (int i = 0; i < halves; i++) {
            load_box(s.c[i], &maps.bc, 0, unit.row + i * SCAN_SUBTILE, a.groups * 2 + unit.panel,
                     &s.c_full, policy_last());
        }
    }
}

} // namespace ssd
