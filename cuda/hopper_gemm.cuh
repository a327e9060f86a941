#pragma once
// The core of the matrix products on Hopper: out = A B^T with A [rows][k], B [columns][k], both bf16,
// and an epilogue of the user's that gets f32 sums in registers.
//
// Grid: as many clusters of 2 CTAs as there may be, each working tiles until none is left.
// Block: 384 threads = one warpgroup that fetches, two that multiply. One CTA an SM.
// Shared: 4 stages of 48 KiB (A 128 x 64, B 256 x 64, rows of 128 bytes swizzled; 52 KiB where dt's 32
// columns ride along), the barriers; 32 KiB for out_proj's side room.
//
// A cluster's tile is 256 rows x 256 columns: CTA 0 has the upper 128 rows, CTA 1 the lower; each
// fetches its rows of A and half of B, and sends that half to both. Multiplier m has rows
// 64m..64m+63 of its CTA's 128, all 256 columns: 128 sums a thread.
//
// Who waits for whom (full, empty: one barrier a stage):
//
//   ticket taker (CTA 0's fetcher) --turn_full--> everybody in both CTAs --turn_empty--> ticket taker
//   fetchers of both CTAs          --full-------> multipliers             --empty-------> both fetchers
//   multipliers                    --room_full--> storer (warp 2)         --empty-------> both fetchers
//   fetcher                        --side_here--> multipliers' epilogue   --side_full---> fetcher
//   scaler (warp 1)                --scale_full-> multipliers' epilogue   --scale_empty-> scaler
//
// Tiles are handed out by tickets, so a cluster that starts late, for want of free SMs, finds the
// work done.
//
// An epilogue's loads and stores wait for one another when all multiprocessors come to them at one time,
// as they do. So that products do not wait, too, it may leave them to others. The Work::kRooms stages behind
// a tile's steps are its own: the fetcher fills them while the last products run, the multipliers put what
// goes out in its place, and the storer has the copy engine take it and gives the stage back. What the next
// tile's first products wait for is that these stages are empty, so they are to be few: a side room lies
// behind the stages, filled while the tile's products run and emptied while the next one's do. And what is
// to be stored may be held back (Work::held), and goes out in parts between the next tile's steps.
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

// The ring of stages as a multiplier's warp goes through it.
struct stage_ring {
    control &shared;
    uint32_t stages, stage_bytes;
    ring<kStages> at;
    ring<1> side;

    __device__ uint32_t enter() {
        barrier_wait(shared_address(&shared.full[at.slot]), at.parity);
        return stages + at.slot * stage_bytes;
    }
    __device__ void give_back(uint32_t slot) {
        const uint32_t lane = threadIdx.x % 32;
        if (lane < kCluster) barrier_arrive_at(shared_address(&shared.empty[slot]), lane);
    }
    __device__ uint32_t enter_side() {
        barrier_wait(shared_address(&shared.side_here), side.parity);
        return stages + kStages * stage_bytes;
    }
    // What the warp leaves in a room is there.
    __device__ void leave_room() {
        leave(&shared.room_full[at.slot]);
        at.next();
    }
    __device__ void leave_side() {
        leave(&shared.side_full);
        side.next();
    }
    __device__ static void leave(const uint64_t *barrier) {
        store_fence();
        __syncwarp();
        if (threadIdx.x % 32 == 0) barrier_arrive(shared_address(barrier));
    }
};

// A B^T of one tile into this multiplier's sums. A stage is given back one step late, when its
// product has surely ended. meanwhile(0) to meanwhile(kParts - 1) are spread over the steps, before_last and
// before_end are done while the last ones run.
template <int kParts, int kExtra, class Meanwhile, class First, class Do>
__device__ __forceinline__ void multiply(sums<kExtra> &sum, const problem &p, stage_ring &slots,
                                         uint32_t multiplier, const Meanwhile &meanwhile,
                                         const First &before_last, const Do &before_end) {
    uint32_t last = slots.at.slot; // of the step before
    const auto next_step = [&] {
        multiply_step<false>(sum, slots.enter(), multiplier);
        product_wait<1>();
        slots.give_back(last);
        last = slots.at.slot;
        slots.at.next();
    };
    const int32_t gap = (p.steps - 2) / (kParts > 0 ? kParts : 1);
    multiply_step<true>(sum, slots.enter(), multiplier);
    slots.at.next();
#pragma unroll
    for (int part = 0; part < kParts; part++) {
#pragma unroll 1
        for (int32_t i = 0; i < gap; i++)
            next_step();
        meanwhile(part);
    }
#pragma unroll 1
    for (int32_t step = kParts * gap + 1; step < p.steps; step++) {
        if (step == p.steps - 1) before_last();
        next_step();
    }
    before_end();
    product_wait<0>();
    product_done(sum.wide);
    if constexpr (kExtra > 0) product_done(sum.extra);
    slots.give_back(last);
}

// What an epilogue knows of its place. Of the sums its thread has rows row and row + 8.
struct place {
    int64_t row;
    int32_t rows;
    int32_t column;   // index of the tile
    uint32_t in_tile; // row in the CTA's 128
    uint32_t quad;    // place in the quad
    float scale[2];
    const float *factor; // of the tile's columns, in shared memory
};

// The next ticket is taken while a tile's last products run.
template <class Work>
__device__ __forceinline__ void work_tiles(const problem &p, const typename Work::args &args,
                                           uint32_t stages, control &shared, uint32_t rank,
                                           uint32_t multiplier) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4, tiles = tile_count(p);
    const uint32_t row = multiplier * 64 + warp * 16 + lane / 4;
    static_assert(Work::kParts + 2 <= kLeastSteps,
                  "the loop over the steps begins before the last");
    turns turn(shared);
    ring<1> scale;
    stage_ring slots = {shared, stages, kBytesStage<Work::kExtra>, {}, {}};
    typename Work::held held = {};
    const auto put = [&](int part) { Work::put(args, held, part); };
    uint32_t ticket = turn.take<true>();
    tile t = {};
    if (ticket < tiles) t = find_tile(p, ticket, rank);
    for (; ticket < tiles; scale.next()) {
        place here = {};
        here.row = t.row + (int64_t)row;
        here.rows = p.rows;
        here.column = t.column;
        here.in_tile = row;
        here.quad = lane % 4;
        here.factor = shared.factor;
        const int32_t extra = t.extra;
        typename Work::early early;
        const auto take_ticket = [&] {
            ticket = turn.take<true>();
            if (ticket < tiles) t = find_tile(p, ticket, rank);
        };
        const auto take_scale = [&] {
            Work::load(args, here, early);
            barrier_wait(shared_address(&shared.scale_full), scale.parity);
            here.scale[0] = shared.scale[row];
            here.scale[1] = shared.scale[row + 8];
        };
        if (Work::kExtra > 0 && extra >= 0) { // no registers to hold anything back
#pragma unroll
            for (int part = 0; part < Work::kParts; part++)
                put(part);
            sums<Work::kExtra> sum;
            multiply<0>(sum, p, slots, multiplier, put, take_ticket, take_scale);
            Work::finish_extra(args, here, extra, sum.extra);
            Work::finish(args, here, early, slots, sum.wide, held);
        } else {
            sums<0> sum;
            multiply<Work::kParts>(sum, p, slots, multiplier, put, take_ticket, take_scale);
            Work::finish(args, here, early, slots, sum.wide, held);
        }
        __syncwarp();
        if (lane == 0) barrier_arrive(shared_address(&shared.scale_empty));
    }
#pragma unroll
    for (int part = 0; part < Work::kParts; part++)
        put(part);
}

template <class Work>
__device__ __forceinline__ void init_barriers(control &shared) {
    constexpr uint32_t kTake = kWarps + 1 + (Work::kRooms > 0); // multipliers, scaler, storer
    for (int i = 0; i < kStages; i++) {
        barrier_init(shared_address(&shared.full[i]), 1);
        barrier_init(shared_address(&shared.empty[i]), kWarps * kCluster);
        barrier_init(shared_address(&shared.room_full[i]), kWarps);
    }
    for (int i = 0; i < 2; i++) {
        barrier_init(shared_address(&shared.turn_full[i]), 1);
        barrier_init(shared_address(&shared.turn_empty[i]),
                     kCluster * kTake + 1); // and CTA 1's fetcher
    }
    barrier_init(shared_address(&shared.scale_full), 32);
    barrier_init(shared_address(&shared.scale_empty), kWarps);
    barrier_init(shared_address(&shared.side_here), 1);
    barrier_init(shared_address(&shared.side_full), kWarps);
    barrier_init_done();
}

template <class Work>
__global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads, 1)
    product_kernel(const __grid_constant__ problem p,
                   const __grid_constant__ typename Work::args args) {
    extern __shared__ __align__(1024) unsigned char memory[];
    control &shared = *reinterpret_cast<control *>(memory + kControl<Work>);
    const uint32_t stages = shared_address(memory), rank = cluster_rank();
    const uint32_t group = threadIdx.x / 128, warp = threadIdx.x / 32;
    if (threadIdx.x == 0) {
        if (stages % 1024 != 0) give_up();
        init_barriers<Work>(shared);
        prefetch_map(&p.a);
        prefetch_map(&p.b);
        prefetch_weights<Work>(p, rank);
    }
    take_turn();
    cluster_sync();
    if (group == 0) {
        registers_give<40>();
        if (threadIdx.x == 0) fetch<Work>(p, args, stages, shared, rank);
        if (warp == 1) scale_rows<Work>(p, args, shared, rank);
        if (Work::kRooms > 0 && threadIdx.x == 64) store_rooms<Work>(p, args, stages, shared, rank);
        __syncwarp();
    } else {
        registers_take<232>();
        work_tiles<Work>(p, args, stages, shared, rank, group - 1);
    }
    cluster_sync(); // a CTA's barriers and stages live until its peer is done with them
}

} // namespace hopper
