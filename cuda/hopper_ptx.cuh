#pragma once
// The few instructions of sm_90a that C++ has no words for: barriers in shared memory that count
// bytes, and the copy engine. One thin function an instruction. All
// shared-memory addresses are the 32-bit ones of their window.

#include <cuda.h> // CUtensorMap

#include <stdint.h>

namespace hopper {

// A wait that is longer than this ends the kernel: the longest proper one, for a peer's last tile, takes less than
// a millisecond.
constexpr uint64_t kDeadline = 2000000000; // ns

__device__ __forceinline__ uint64_t nanoseconds() {
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

__device__ __forceinline__ uint32_t shared_address(const void *memory) {
    return (uint32_t)__cvta_generic_to_shared(memory);
}

// ---- Barriers. A phase ends when `arrivals` have arrived and all expected bytes have come.

__device__ __forceinline__ void barrier_init(uint32_t barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}

// Makes the initialised barriers known to the cluster and to the copy engine.
__device__ __forceinline__ void barrier_init_done() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives at the barrier at the same place in the cluster's CTA `cta`. Hands over nothing written by
// ordinary stores: barrier_release_at does, and waits for them.
__device__ __forceinline__ void barrier_arrive_at(uint32_t barrier, uint32_t cta) {
    asm volatile("{\n"
                 ".reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
                 "}" ::"r"(barrier),
                 "r"(cta)
                 : "memory");
}

// The same `count` times over.
__device__ __forceinline__ void barrier_arrive_at(uint32_t barrier, uint32_t cta, uint32_t count) {
    asm volatile("{\n"
                 ".reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there], %2;\n"
                 "}" ::"r"(barrier),
                 "r"(cta), "r"(count)
                 : "memory");
}

__device__ __forceinline__ void barrier_release_at(uint32_t barrier, uint32_t cta) {
    asm volatile("{\n"
                 ".reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n"
                 "}" ::"r"(barrier),
                 "r"(cta)
                 : "memory");
}

__device__ __forceinline__ void barrier_arrive_expecting(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}

// Whether the phase of this parity (0 for the first) has ended. What this CTA's threads wrote, or the
// copy engine brought, before it ended is seen after it.
__device__ __forceinline__ bool barrier_ended(uint32_t barrier, uint32_t parity) {
    uint32_t ended;
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                 "selp.b32 %0, 1, 0, p;\n"
                 "}"
                 : "=r"(ended)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return ended != 0;
}

// The same for what a thread of another CTA wrote before barrier_release_at.
__device__ __forceinline__ bool barrier_ended_in_cluster(uint32_t barrier, uint32_t parity) {
    uint32_t ended;
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
                 "selp.b32 %0, 1, 0, p;\n"
                 "}"
                 : "=r"(ended)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return ended != 0;
}

// Ends the kernel with an illegal access. A trap would be the word for it, but beside one ptxas 13.0 does
// not believe in the registers that setmaxnreg brings, spills, and runs products one by one (C7512).
__device__ __forceinline__ void give_up() {
    asm volatile("st.global.u32 [%0], %1;" ::"l"((uint64_t)0), "r"(0) : "memory");
}

template <bool kCluster = false>
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
    const auto ended = [=] {
        return kCluster ? barrier_ended_in_cluster(barrier, parity)
                        : barrier_ended(barrier, parity);
    };
    if (ended()) return;
    const uint64_t begin = nanoseconds();
    while (!ended()) {
        if (nanoseconds() - begin > kDeadline) give_up();
    }
}

// ---- The cluster

__device__ __forceinline__ uint32_t cluster_rank() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release;\n"
                 "barrier.cluster.wait.acquire;" ::
                     : "memory");
}

// Writes to the same place in the shared memory of CTA `cta`.
__device__ __forceinline__ void store_at(uint32_t address, uint32_t cta, uint32_t value) {
    asm volatile("{\n"
                 ".reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "st.shared::cluster.u32 [there], %2;\n"
                 "}" ::"r"(address),
                 "r"(cta), "r"(value)
                 : "memory");
}

// ---- The copy engine. Bytes are counted at `barrier`; what lies outside the tensor comes as zeros.

// So that the first copy does not wait for the map itself.
__device__ __forceinline__ void prefetch_map(const CUtensorMap *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// A panel's box of rows from `row` on, into this CTA.
__device__ __forceinline__ void copy_box(uint32_t to, const CUtensorMap *map, uint32_t barrier,
                                         int32_t row, int32_t panel) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%5, %3, %4}], [%2];" ::"r"(to),
                 "l"(map), "r"(barrier), "r"(row), "r"(panel), "r"(0)
                 : "memory");
}

// Box at (x, y) of a tensor of two dimensions to the same place in both CTAs of the cluster; each CTA's
// own barrier counts it.
__device__ __forceinline__ void copy_box_to_both(uint32_t to, const CUtensorMap *map,
                                                 uint32_t barrier, int32_t x, int32_t y) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(to),
                 "l"(map), "r"(barrier), "r"(x), "r"(y), "h"((uint16_t)3)
                 : "memory");
}

// The same of a tensor of five dimensions, at (x, 0, 0, 0, y).
__device__ __forceinline__ void copy_group_to_both(uint32_t to, const CUtensorMap *map,
                                                   uint32_t barrier, int32_t x, int32_t y) {
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %6, %6, %6, %4}], [%2], %5;" ::"r"(to),
                 "l"(map), "r"(barrier), "r"(x), "r"(y), "h"((uint16_t)3), "r"(0)
                 : "memory");
}

// What copy_group_to_both would bring, into L2.
__device__ __forceinline__ void prefetch_group(const CUtensorMap *map, int32_t x, int32_t y) {
    asm volatile(
        "cp.async.bulk.prefetch.tensor.5d.L2.global.tile [%0, {%1, %3, %3, %3, %2}];" ::"l"(map),
        "r"(x), "r"(y), "r"(0)
        : "memory");
}

__device__ __forceinline__ void store_shared(uint32_t to, uint32_t x, uint32_t y, uint32_t z,
                                             uint32_t w) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x), "r"(y), "r"(z),
                 "r"(w)
                 : "memory");
}

__device__ __forceinline__ float4 load_shared(uint32_t from) {
    float4 v;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "r"(from)
                 : "memory");
    return v;
}

// A panel's box of rows from shared memory; what lies outside the tensor is not written. By one thread,
// after every thread that wrote the box has fenced. store_wait: all but the thread's last kLeft groups of
// boxes have been read.
__device__ __forceinline__ void store_fence() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void store_box(const CUtensorMap *map, uint32_t from, int32_t row,
                                          int32_t panel) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group"
                 " [%0, {%4, %2, %3}], [%1];" ::"l"(map),
                 "r"(from), "r"(row), "r"(panel), "r"(0)
                 : "memory");
}

__device__ __forceinline__ void store_commit() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

template <int kLeft>
__device__ __forceinline__ void store_wait() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kLeft) : "memory");
}

} // namespace hopper
