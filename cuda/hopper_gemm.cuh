#pragma once
// The core of the matrix products on Hopper: out = A B^T with A [rows][k], B [columns][k], both bf16,
// and an epilogue of the user's that gets f32 sums in registers.
//
// Grid: as many clusters of 2 CTAs as there may be, each working tiles until none is left.
// Block: 384 threads = one warpgroup that fetches, two that multiply. One CTA an SM.
// Shared: 4 stages of 48 KiB (A 128 x 64, B 256 x 64, rows of 128 bytes swizzled; 52 KiB where dt's 32
// columns ride along), a patch for each multiplier's warp, the barriers.
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
//
// Tiles are handed out by tickets, so a cluster that starts late, for want of free SMs, finds the
// work done.
//
// An epilogue may keep its tile's last stage as room for what goes out (Work::kKeepsStage): the copy
// engine takes it from there while the next tile's first products run; then the stage is given back.
//
// The order of B's rows in shared memory is the weight map's (hopper_maps.c), chosen so that a thread's
// sums lie side by side in the output: no exchange between threads before they are stored.

#include "cuda/hopper_fetch.cuh"
#include "cuda/overlap.cuh"

namespace hopper {

// A multiplier's sums, and those of the extra columns.
template <int kExtra>
struct sums {
    float wide[kColumns / 2];
    float extra[kExtra > 0 ? kExtra / 2 : 1];
};

// One step into the sums. kFirst is known when compiled, so that what the sums held before is dead.
template <bool kFirst, int kExtra>
__device__ __forceinline__ void multiply_step(sums<kExtra> &sum, uint32_t stage,
                                              uint32_t multiplier) {
    const uint64_t a = describe_rows(stage + multiplier * 64 * kDepth * 2);
    const uint64_t b = describe_rows(stage + kBytesA), c = describe_rows(stage + kBytesA + kBytesB);
    product_begin();
#pragma unroll
    for (int k = 0; k < kDepth / 16; k++) {
        product(sum.wide, a + 2 * k, b + 2 * k, !kFirst || k > 0);
        if constexpr (kExtra > 0) product(sum.extra, a + 2 * k, c + 2 * k, !kFirst || k > 0);
    }
    product_commit();
}

// A B^T of one tile into this multiplier's sums. A stage is given back one step late, when its
// product has surely ended; the last one is the caller's to give back. after_first is done once
// products run again, before_end while the last ones run.
template <int kExtra, class First, class Do>
__device__ __forceinline__ uint32_t multiply(sums<kExtra> &sum, const problem &p, uint32_t stages,
                                             uint32_t stage_bytes, control &shared,
                                             ring<kStages> &at, uint32_t multiplier,
                                             const First &after_first, const Do &before_end) {
    const uint32_t lane = threadIdx.x % 32;
    uint32_t last = at.slot; // of the step before
    barrier_wait(shared_address(&shared.full[at.slot]), at.parity);
    multiply_step<true>(sum, stages + at.slot * stage_bytes, multiplier);
    at.next();
    after_first();
#pragma unroll 1
    for (int32_t step = 1; step < p.steps; step++) {
        barrier_wait(shared_address(&shared.full[at.slot]), at.parity);
        multiply_step<false>(sum, stages + at.slot * stage_bytes, multiplier);
        product_wait<1>();
        if (lane < kCluster) barrier_arrive_at(shared_address(&shared.empty[last]), lane);
        last = at.slot;
        at.next();
    }
    before_end();
    product_wait<0>();
    product_done(sum.wide);
    if constexpr (kExtra > 0) product_done(sum.extra);
    return last;
}

// What an epilogue knows of its place. Of the sums its thread has rows row and row + 8.
struct place {
    int64_t row, warp_row; // the warp's 16 rows begin at warp_row
    int32_t rows;
    int32_t column; // index of the tile
    uint32_t lane;
    uint32_t warp;         // of the multipliers' eight
    uint32_t patch, stage; // addresses of the warp's own Work::kPatch bytes, of the kept stage
    float scale[2];
};

template <class Work>
__device__ __forceinline__ void work_tiles(const problem &p, const typename Work::args &args,
                                           uint32_t stages, control &shared, uint32_t rank,
                                           uint32_t multiplier) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4, tiles = tile_count(p);
    const uint32_t row = multiplier * 64 + warp * 16 + lane / 4; // in the CTA's 128
    constexpr uint32_t kStage = kBytesStage<Work::kExtra>;
    uint32_t kept = kStages; // the slot whose stage the epilogue has kept; kStages: none
    const auto give_back = [&](uint32_t slot) {
        if (lane < kCluster) barrier_arrive_at(shared_address(&shared.empty[slot]), lane);
    };
    const auto give_back_kept = [&] {
        if (!Work::kKeepsStage || kept == kStages) return;
        if (lane == 0) store_wait();
        __syncwarp();
        give_back(kept);
    };
    turns turn(shared);
    ring<2> scale;
    ring<kStages> at;
    for (uint32_t ticket; (ticket = turn.take<true>()) < tiles; scale.next()) {
        const tile t = find_tile(p, ticket, rank);
        place here = {};
        here.row = t.row + (int64_t)row;
        here.warp_row = here.row - lane / 4;
        here.rows = p.rows;
        here.column = t.column;
        here.lane = lane;
        here.warp = multiplier * 4 + warp;
        here.patch = stages + kStages * kStage + here.warp * Work::kPatch;
        const auto take_scale = [&] {
            barrier_wait(shared_address(&shared.scale_full[scale.slot]), scale.parity);
            here.scale[0] = shared.scale[scale.slot][row];
            here.scale[1] = shared.scale[scale.slot][row + 8];
            __syncwarp();
            if (lane == 0) barrier_arrive(shared_address(&shared.scale_empty[scale.slot]));
        };
        const auto after = [&](uint32_t last) {
            kept = last;
            here.stage = stages + last * kStage;
            if (Work::kKeepsStage) {
                multipliers_sync(); // nobody reads it any more
            } else {
                give_back(last);
            }
        };
        typename Work::early early;
        const auto before_end = [&] {
            take_scale();
            Work::load(args, here, early);
        };
        if (Work::kExtra > 0 && t.extra >= 0) {
            sums<Work::kExtra> sum;
            after(multiply(sum, p, stages, kStage, shared, at, multiplier, give_back_kept,
                           before_end));
            Work::finish_extra(args, here, t.extra, sum.extra);
            Work::finish(args, here, early, sum.wide);
        } else {
            sums<0> sum;
            after(multiply(sum, p, stages, kStage, shared, at, multiplier, give_back_kept,
                           before_end));
            Work::finish(args, here, early, sum.wide);
        }
    }
    if (Work::kKeepsStage && lane == 0) store_wait();
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
    barrier_init_done();
}

template <class Work>
__global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads, 1)
    product_kernel(const __grid_constant__ problem p,
                   const __grid_constant__ typename Work::args args) {
    extern __shared__ __align__(1024) unsigned char memory[];
    control &shared = *reinterpret_cast<control *>(memory + kBytesStage<Work::kExtra> * kStages +
                                                   8 * Work::kPatch);
    const uint32_t stages = shared_address(memory), rank = cluster_rank();
    const uint32_t group = threadIdx.x / 128, warp = threadIdx.x / 32;
    if (threadIdx.x == 0) {
        if (stages % 1024 != 0) give_up();
        init_barriers(shared);
        prefetch_map(&p.a);
        prefetch_map(&p.b);
        prefetch_weights<Work>(p, rank);
    }
    take_turn();
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
