#pragma once
// The few instructions of sm_90a that C++ has no words for: barriers in shared memory that count
// bytes, the copy engine, and products by a warpgroup. One thin function an instruction. All
// shared-memory addresses are the 32-bit ones of their window.

#include <cuda.h> // CUtensorMap

#include <stdint.h>

namespace hopper {

// A wait that is longer than this traps: the longest proper one, for a peer's last tile, takes less than
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

template <bool kCluster = false>
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
    const auto ended = [=] {
        return kCluster ? barrier_ended_in_cluster(barrier, parity)
                        : barrier_ended(barrier, parity);
    };
    if (ended()) return;
    const uint64_t begin = nanoseconds();
    while (!ended()) {
        if (nanoseconds() - begin > kDeadline) __trap();
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

// Box at (x, y) into this CTA.
__device__ __forceinline__ void copy_box(uint32_t to, const CUtensorMap *map, uint32_t barrier,
                                         int32_t x, int32_t y) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%3, %4}], [%2];" ::"r"(to),
                 "l"(map), "r"(barrier), "r"(x), "r"(y)
                 : "memory");
}

// Box at (x, y) to the same place in both CTAs of the cluster; each CTA's own barrier counts it.
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

// Fetches `bytes` (a multiple of 16, as is the address) into L2.
__device__ __forceinline__ void prefetch(const void *memory, uint32_t bytes) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(memory), "r"(bytes) : "memory");
}

// ---- Products by a warpgroup

template <int kRegisters>
__device__ __forceinline__ void registers_take() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void registers_give() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

__device__ __forceinline__ void product_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void product_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most kLeft of the committed groups still run.
template <int kLeft>
__device__ __forceinline__ void product_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}

// Keeps the compiler from reading sums before the wait in front of this.
template <int kCount>
__device__ __forceinline__ void product_done(float (&sum)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; i++)
        asm volatile("" : "+f"(sum[i])::"memory");
}

// Describes rows of 64 bf16 (128 bytes), swizzled by 128 bytes, eight rows to 1024 bytes. Sixteen
// columns further on is 32 bytes, 2 in the descriptor's unit.
__device__ __forceinline__ uint64_t describe_rows(uint32_t address) {
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62;
}

// A thread's sums of a product of 64 rows and N columns, N/2 of them: sum[4j + 2h + e] is row
// 16 * warp + lane / 4 + 8h, column 8j + 2 * (lane % 4) + e.
#define SUMS_8(i)                                                                         \
    "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3]), "+f"(sum[i + 4]), \
        "+f"(sum[i + 5]), "+f"(sum[i + 6]), "+f"(sum[i + 7])
#define SUMS_48(i) \
    SUMS_8(i), SUMS_8(i + 8), SUMS_8(i + 16), SUMS_8(i + 24), SUMS_8(i + 32), SUMS_8(i + 40)

// sum = (add ? sum : 0) + A B^T over 16 columns of A [64 rows] and of B [256 rows].
__device__ __forceinline__ void product(float (&sum)[128], uint64_t a, uint64_t b, int add) {
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.ne.b32 p, %130, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
                 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
                 "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
                 "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
                 "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
                 "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127},"
                 " %128, %129, p, 1, 1, 0, 0;\n"
                 "}"
                 : SUMS_48(0), SUMS_48(48), SUMS_8(96), SUMS_8(104), SUMS_8(112), SUMS_8(120)
                 : "l"(a), "l"(b), "r"(add));
}

// The same with B [96 rows].
__device__ __forceinline__ void product(float (&sum)[48], uint64_t a, uint64_t b, int add) {
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.ne.b32 p, %50, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 {"
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47},"
                 " %48, %49, p, 1, 1, 0, 0;\n"
                 "}"
                 : SUMS_48(0)
                 : "l"(a), "l"(b), "r"(add));
}

#undef SUMS_48
#undef SUMS_8

} // namespace hopper
