#pragma once
// The core of the matrix products on Hopper: out = A B^T with A [rows][k], B [columns][k], both bf16,
// and an epilogue of the user's that gets f32 sums in registers.
//
// Grid: as many clusters of 2 CTAs as there may be, each working tiles until none is left.
// Block: 384 threads = one warpgroup that fetches, two that multiply. One CTA an SM.
// Shared: 4 stages of 48 KiB (A 128 x 64, B 256 x 64, rows of 128 bytes swizzled) and kShared more.
//
// A cluster's tile is 256 rows x 256 columns: CTA 0 has the upper 128 rows, CTA 1 the lower; each
// fetches its rows of A and half of B, and sends that half to both. Multiplier m has rows
// 64m..64m+63 of its CTA's 128, all 256 columns: 128 sums a thread.
//
// Who waits for whom (full, empty: one barrier a stage):
//
//   ticket taker (CTA 0's fetcher) --turn_full--> everybody in both CTAs --turn_empty--> ticket taker
//   fetchers of both CTAs          --full-------> multipliers             --empty-------> both fetchers
//   scaler (warp 1)                --scale_full-> multipliers' epilogue   --scale_empty-> scaler
//   multiplier 0, kLead steps in   --lead-------> multiplier 1, at its tile's start
//
// Tiles are handed out by tickets, so a cluster that starts late, for want of free SMs, finds the
// work done. The lead makes the epilogues overlap: while multiplier 0 is in its epilogue, 1 has the
// tensor cores for itself for its last kLead steps, and then 0 for its first.
//
// The order of B's rows in shared memory is the weight map's (hopper_maps.c), chosen so that a thread's
// sums lie side by side in the output: no exchange between threads before they are stored.

#include "cuda/hopper_tiles.cuh"

namespace hopper {

// The tickets as each role sees them. Leaves: take() gives the next one, or tile_count at the end.
struct turns {
    control &shared;
    ring<2> at;

    __device__ explicit turns(control &c) : shared(c) {}
    // By a whole warp, or by a thread that works alone.
    template <bool kWarp>
    __device__ uint32_t take() {
        barrier_wait<true>(shared_address(&shared.turn_full[at.slot]), at.parity);
        const uint32_t ticket = *(volatile uint32_t *)&shared.turn[at.slot];
        if (kWarp) __syncwarp(); // all have read it
        if (!kWarp || threadIdx.x % 32 == 0) {
            barrier_arrive_at(shared_address(&shared.turn_empty[at.slot]), 0);
        }
        at.next();
        return ticket;
    }
};

// CTA 0's fetcher alone: gives both CTAs the ticket.
__device__ __forceinline__ void give_turn(control &shared, ring<2> &at, uint32_t ticket) {
    barrier_wait(shared_address(&shared.turn_empty[at.slot]), at.parity ^ 1);
    for (uint32_t cta = 0; cta < kCluster; cta++) {
        store_at(shared_address(&shared.turn[at.slot]), cta, ticket);
        barrier_release_at(shared_address(&shared.turn_full[at.slot]), cta);
    }
    at.next();
}

// All steps of one tile into the stages. Work::kGroup: columns of a group of the weight's map.
template <class Work>
__device__ __forceinline__ void fetch_tile(const problem &p, uint32_t stages, control &shared,
                                           ring<kStages> &at, const tile &t, uint32_t rank) {
    const uint32_t half = (t.narrow ? kNarrow : kColumns) / kCluster; // rows of B from this CTA
    for (int32_t step = 0; step < p.steps; step++) {
        const uint32_t a = stages + at.slot * kBytesStage,
                       b = a + kBytesA + rank * half * kDepth * 2;
        const uint32_t full = shared_address(&shared.full[at.slot]);
        barrier_wait(shared_address(&shared.empty[at.slot]), at.parity ^ 1);
        barrier_arrive_expecting(full, kBytesA + kCluster * half * kDepth * 2);
        copy_box(a, &p.a, full, step * kDepth, t.row);
        if (t.narrow) {
            copy_box_to_both(b, &p.b_narrow, full, step * kDepth,
                             t.column * kNarrow + (int32_t)(rank * half));
        } else {
            const int32_t column = t.column * kColumns + (int32_t)(rank * half);
            copy_group_to_both(b, &p.b, full, step * kDepth, column / Work::kGroup);
        }
        at.next();
    }
}

template <
    class
    Work> // one thread of each CTA; CTA 0's takes the tickets, each while the tile before it is fetched.
__device__ __forceinline__ void fetch(const problem &p, uint32_t stages, control &shared,
                                      uint32_t rank) {
    const uint32_t tiles = tile_count(p);
    ring<kStages> at;
    if (rank == 0) {
        ring<2> turn;
        uint32_t next = atomicAdd(p.ticket, 1u);
        for (;;) {
            const uint32_t ticket = next;
            give_turn(shared, turn, ticket);
            if (ticket >= tiles) break;
            next = atomicAdd(p.ticket, 1u);
            fetch_tile<Work>(p, stages, shared, at, find_tile(p, ticket, rank), rank);
        }
        if (atomicAdd(p.ticket + 1, 1u) ==
            gridDim.x / kCluster - 1) { // the last: ready for the next product
            p.ticket[0] = 0;
            p.ticket[1] = 0;
        }
    } else {
        turns turn(shared);
        for (uint32_t ticket; (ticket = turn.take<false>()) < tiles;) {
            fetch_tile<Work>(p, stages, shared, at, find_tile(p, ticket, rank), rank);
        }
    }
}

// One warp: the scales of the tile's rows, and what the epilogue wants in L2.
template <class Work>
__device__ __forceinline__ void scale_rows(const problem &p, const typename Work::args &args,
                                           control &shared, uint32_t rank) {
    const uint32_t lane = threadIdx.x % 32, tiles = tile_count(p);
    turns turn(shared);
    ring<2> at;
    for (uint32_t ticket; (ticket = turn.take<true>()) < tiles; at.next()) {
        const tile t = find_tile(p, ticket, rank);
        barrier_wait(shared_address(&shared.scale_empty[at.slot]), at.parity ^ 1);
        for (int32_t i = (int32_t)lane; i < kRows; i += 32) {
            if (t.row + i >= p.rows) break;
            Work::prefetch(args, t, t.row + i);
            shared.scale[at.slot][i] = row_scale(p.scale, t.row + i);
        }
        barrier_arrive(shared_address(&shared.scale_full[at.slot]));
    }
}

// One step into the sums. kFirst is known when compiled, so that what the sums held before is dead.
template <bool kFirst, int kCount>
__device__ __forceinline__ void multiply_step(float (&sum)[kCount], uint64_t a, uint64_t b,
                                              control &shared, const ring<kStages> &at) {
    const uint64_t offset = at.slot * (kBytesStage >> 4);
    barrier_wait(shared_address(&shared.full[at.slot]), at.parity);
    product_begin();
#pragma unroll
    for (int k = 0; k < kDepth / 16; k++) {
        product(sum, a + offset + 2 * k, b + offset + 2 * k, !kFirst || k > 0);
    }
    product_commit();
}

// A B^T of one tile into this multiplier's sums. A stage is given back one step late, when its
// product has surely ended.
template <int kCount>
__device__ __forceinline__ void multiply(float (&sum)[kCount], const problem &p, uint32_t stages,
                                         control &shared, ring<kStages> &at, uint32_t multiplier,
                                         bool leads) {
    const uint32_t lane = threadIdx.x % 32;
    const uint64_t a = describe_rows(stages + multiplier * 64 * kDepth * 2);
    const uint64_t b = describe_rows(stages + kBytesA);
    multiply_step<true>(sum, a, b, shared, at);
    uint32_t last = at.slot; // of the step before
    at.next();
#pragma unroll 1
    for (int32_t step = 1; step < p.steps; step++) {
        multiply_step<false>(sum, a, b, shared, at);
        product_wait<1>();
        if (lane < kCluster) barrier_arrive_at(shared_address(&shared.empty[last]), lane);
        if (leads && step == kLead && lane == 0) barrier_arrive(shared_address(&shared.lead));
        last = at.slot;
        at.next();
    }
    product_wait<0>();
    product_done(sum);
    if (lane < kCluster) barrier_arrive_at(shared_address(&shared.empty[last]), lane);
}

// What an epilogue knows of its place: its thread has rows row and row + 8 of the output.
struct place {
    int64_t row;
    int32_t rows;
    int32_t column; // index of the tile
    uint32_t quad;  // lane % 4
    float scale[2];
};

template <class Work>
__device__ __forceinline__ void work_tiles(const problem &p, const typename Work::args &args,
                                           uint32_t stages, control &shared, uint32_t rank,
                                           uint32_t multiplier) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4, tiles = tile_count(p);
    const uint32_t row = multiplier * 64 + warp * 16 + lane / 4; // in the CTA's 128
    // With fewer steps multiplier 0 could be a whole tile ahead, and the lead's parity ambiguous.
    const bool lead = kLead > 0 && p.steps >= 2 * kStages;
    turns turn(shared);
    ring<2> scale;
    ring<1> led;
    ring<kStages> at;
    for (uint32_t ticket; (ticket = turn.take<true>()) < tiles; scale.next()) {
        const tile t = find_tile(p, ticket, rank);
        place here = {
            t.row + (int64_t)row, p.rows, t.column, lane % 4, {0.0f, 0.0f}
        };
        const auto take_scale = [&] {
            barrier_wait(shared_address(&shared.scale_full[scale.slot]), scale.parity);
            here.scale[0] = shared.scale[scale.slot][row];
            here.scale[1] = shared.scale[scale.slot][row + 8];
            __syncwarp();
            if (lane == 0) barrier_arrive(shared_address(&shared.scale_empty[scale.slot]));
        };
        if (lead && multiplier == 1) {
            barrier_wait(shared_address(&shared.lead), led.parity);
            led.next();
        }
        if (Work::kNarrowTiles && t.narrow) {
            float sum[kNarrow / 2];
            multiply(sum, p, stages, shared, at, multiplier, lead && multiplier == 0);
            take_scale();
            Work::finish_narrow(args, here, sum);
        } else {
            float sum[kColumns / 2];
            multiply(sum, p, stages, shared, at, multiplier, lead && multiplier == 0);
            take_scale();
            Work::finish(args, here, sum);
        }
    }
}

__device__ __forceinline__ void init_barriers(control &shared) {
    for (int i = 0; i < kStages; i++) {
        barrier_init(shared_address(&shared.full[i]), 1);
        barrier_init(shared_address(&shared.empty[i]), 8 * kCluster); // the multipliers' warps
    }
    for (int i = 0; i < 2; i++) {
        barrier_init(shared_address(&shared.turn_full[i]), 1);
        barrier_init(shared_address(&shared.turn_empty[i]),
                     9 + 10); // CTA 0 without its fetcher, CTA 1
        barrier_init(shared_address(&shared.scale_full[i]), 32);
        barrier_init(shared_address(&shared.scale_empty[i]), 8);
    }
    barrier_init(shared_address(&shared.lead), 4);
    barrier_init_done();
}

template <class Work>
__global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads, 1)
    product_kernel(const __grid_constant__ problem p,
                   const __grid_constant__ typename Work::args args) {
    extern __shared__ __align__(1024) unsigned char memory[];
    control &shared = *reinterpret_cast<control *>(memory + kStages * kBytesStage);
    const uint32_t stages = shared_address(memory), rank = cluster_rank();
    const uint32_t group = threadIdx.x / 128, warp = threadIdx.x / 32;
    if (threadIdx.x == 0) {
        if (stages % 1024 != 0) __trap();
        init_barriers(shared);
    }
    cluster_sync();
    if (group == 0) {
        registers_give<40>();
        if (threadIdx.x == 0) fetch<Work>(p, stages, shared, rank);
        if (warp == 1) scale_rows<Work>(p, args, shared, rank);
        __syncwarp();
    } else {
        registers_take<232>();
        work_tiles<Work>(p, args, stages, shared, rank, group - 1);
    }
    cluster_sync(); // a CTA's barriers and stages live until its peer is done with them
}

} // namespace hopper
