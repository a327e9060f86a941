#pragma once
// The first warpgroup of a product's kernel (hopper_gemm.cuh): one thread takes tickets, fetches, and
// fills and empties the side room; one warp computes the scales of the rows; one thread stores what epilogues
// leave in their rooms.

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

// The first of the weight's groups that this CTA copies for the tile. Work::kGroup: columns of one.
template <class Work>
__device__ __forceinline__ int32_t first_group(const tile &t, uint32_t rank) {
    return (t.column * kColumns + (int32_t)rank * (kColumns / kCluster)) / Work::kGroup;
}

// The weights of the tiles that come first, into L2 while the kernel before this one ends: those that
// have a column tile in common, kBand at most, take turns with its steps.
template <class Work>
__device__ __forceinline__ void prefetch_weights(const problem &p, uint32_t rank) {
    const uint32_t ticket = blockIdx.x / kCluster; // as likely as not
    if (ticket >= tile_count(p)) return;
    const tile t = find_tile(p, ticket, rank);
    for (int32_t step = t.row / (kRows * kCluster) % kBand; step < p.steps; step += kBand) {
        prefetch_group(&p.b, step * kDepth, first_group<Work>(t, rank));
    }
}

// The side room is the fetcher's: the copy engine takes things in order, so what the last tile left there
// is to go out behind the steps that the next tile's first products wait for.
template <class Work>
struct side_room {
    const typename Work::args &args;
    control &shared;
    uint32_t place;
    tile t;    // whose values it holds
    bool used; // it holds some
    ring<1> at;

    __device__ void fetch(const tile &next) {
        if (Work::kSideRoom == 0) return;
        t = next;
        used = true;
        store_wait<0>();
        Work::fetch_room(args, t, (int32_t)Work::kRooms, place, shared_address(&shared.side_here));
    }
    __device__ void store() {
        if (Work::kSideRoom == 0 || !used) return;
        barrier_wait(shared_address(&shared.side_full), at.parity);
        at.next();
        Work::store_room(args, t, (int32_t)Work::kRooms, place);
        store_commit();
    }
};

// All steps of one tile into the stages; meanwhile the side room is emptied and filled.
template <class Work>
__device__ __forceinline__ void fetch_tile(const problem &p, uint32_t stages, control &shared,
                                           ring<kStages> &at, side_room<Work> &side, const tile &t,
                                           uint32_t rank) {
    constexpr uint32_t kStage = kBytesStage<Work::kExtra>, kRow = kDepth * 2;
    constexpr int32_t kHalf = kColumns / kCluster,
                      kHalfExtra = Work::kExtra / kCluster; // of this CTA
    static_assert(kStages <= kLeastSteps / 2 + 1, "the side room's store comes before its fetch");
    const int32_t group = first_group<Work>(t, rank);
    const bool extra = Work::kExtra > 0 && t.extra >= 0;
    for (int32_t step = 0; step < p.steps; step++) {
        const uint32_t a = stages + at.slot * kStage, b = a + kBytesA, c = b + kBytesB;
        const uint32_t full = shared_address(&shared.full[at.slot]);
        barrier_wait(shared_address(&shared.empty[at.slot]), at.parity ^ 1);
        barrier_arrive_expecting(full, extra ? kStage : kBytesA + kBytesB);
        copy_box(a, &p.a, full, t.row, step);
        copy_group_to_both(b + rank * kHalf * kRow, &p.b, full, step * kDepth, group);
        if (extra) {
            copy_box_to_both(c + rank * kHalfExtra * kRow, &p.extra, full, step * kDepth,
                             t.extra * Work::kExtra + (int32_t)rank * kHalfExtra);
        }
        at.next();
        if (step == kStages - 1) side.store();
        if (step == p.steps / 2) side.fetch(t);
    }
}

// What the rooms of the tile's epilogue are to hold.
template <class Work>
__device__ __forceinline__ void fetch_rooms(const typename Work::args &args, uint32_t stages,
                                            control &shared, ring<kStages> &at, const tile &t) {
    for (int32_t room = 0; room < Work::kRooms; room++) {
        barrier_wait(shared_address(&shared.empty[at.slot]), at.parity ^ 1);
        Work::fetch_room(args, t, room, stages + at.slot * kBytesStage<Work::kExtra>,
                         shared_address(&shared.full[at.slot]));
        at.next();
    }
}

// One thread of each CTA; CTA 0's takes the tickets. The multipliers ask for the next one before they
// leave a tile's last stages, so it is given out ahead of the rooms.
template <class Work>
__device__ __forceinline__ void fetch(const problem &p, const typename Work::args &args,
                                      uint32_t stages, control &shared, uint32_t rank) {
    const uint32_t tiles = tile_count(p);
    side_room<Work> side = {args, shared, stages + kStages * kBytesStage<Work::kExtra>,
                            {},   false,  {}};
    ring<kStages> at;
    if (rank == 0) {
        ring<2> turn;
        uint32_t ticket = atomicAdd(p.ticket, 1u);
        give_turn(shared, turn, ticket);
        while (ticket < tiles) {
            const tile t = find_tile(p, ticket, rank);
            ticket = atomicAdd(p.ticket, 1u);
            fetch_tile<Work>(p, stages, shared, at, side, t, rank);
            give_turn(shared, turn, ticket);
            fetch_rooms<Work>(args, stages, shared, at, t);
        }
        if (atomicAdd(p.ticket + 1, 1u) ==
            gridDim.x / kCluster - 1) { // the last: ready for the next product
            p.ticket[0] = 0;
            p.ticket[1] = 0;
        }
    } else {
        turns turn(shared);
        for (uint32_t ticket; (ticket = turn.take<false>()) < tiles;) {
            const tile t = find_tile(p, ticket, rank);
            fetch_tile<Work>(p, stages, shared, at, side, t, rank);
            fetch_rooms<Work>(args, stages, shared, at, t);
        }
    }
    side.store();
    store_wait<0>(); // read before this CTA's memory is another's
}

// One thread: what the multipliers leave in a room goes out, and the stage back to the fetchers.
template <class Work>
__device__ __forceinline__ void store_rooms(const problem &p, const typename Work::args &args,
                                            uint32_t stages, control &shared, uint32_t rank) {
    constexpr uint32_t kStage = kBytesStage<Work::kExtra>;
    const uint32_t tiles = tile_count(p);
    const auto give_back = [&](uint32_t slot) {
        for (uint32_t cta = 0; cta < kCluster; cta++)
            barrier_arrive_at(shared_address(&shared.empty[slot]), cta, kWarps);
    };
    uint32_t at = 0, parities = 0; // slot of the next stage; bit s: parity of room_full[s]
    turns turn(shared);
    for (uint32_t ticket; (ticket = turn.take<false>()) < tiles;) {
        const tile t = find_tile(p, ticket, rank);
        at = (at + (uint32_t)p.steps) % kStages;
        for (int32_t room = 0; room < Work::kRooms; room++) {
            barrier_wait(shared_address(&shared.room_full[at]), parities >> at & 1);
            parities ^= 1u << at;
            Work::store_room(args, t, room, stages + at * kStage);
            store_commit();
            if (room > 0) {
                store_wait<1>();
                give_back((at + kStages - 1) % kStages);
            }
            at = (at + 1) % kStages;
        }
        store_wait<0>();
        give_back((at + kStages - 1) % kStages);
    }
}

// One warp: the scales of the tile's rows, and the factors of its columns.
template <class Work>
__device__ __forceinline__ void scale_rows(const problem &p, const typename Work::args &args,
                                           control &shared, uint32_t rank) {
    const uint32_t lane = threadIdx.x % 32, tiles = tile_count(p);
    turns turn(shared);
    ring<1> at;
    for (uint32_t ticket; (ticket = turn.take<true>()) < tiles; at.next()) {
        const tile t = find_tile(p, ticket, rank);
        barrier_wait(shared_address(&shared.scale_empty), at.parity ^ 1);
        Work::load_factor(args, t, lane, shared.factor);
        for (int32_t i = (int32_t)lane; i < kRows; i += 32) {
            if (t.row + i >= p.rows) break;
            shared.scale[i] = row_scale(p.scale, t.row + i);
        }
        barrier_arrive(shared_address(&shared.scale_full));
    }
}

} // namespace hopper
