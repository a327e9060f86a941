#pragma once
// Hopper's instructions as the scan uses them: barriers by pointer, tensor copies of panels, and its
// warpgroup products. The rest is in hopper_ptx.cuh and hopper_wgmma.cuh. Only for sm_90a.

#include "cuda/hopper_ptx.cuh"
#include "cuda/hopper_wgmma.cuh"

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <stdint.h>

namespace ssd {

using hopper::barrier_init_done, hopper::shared_address, hopper::store_fence;
using hopper::product_begin, hopper::product_commit, hopper::product_wait, hopper::product_done;
using hopper::registers_give, hopper::registers_take;

// --- mbarriers -----------------------------------------------------------------------------------
__device__ inline void barrier_init(uint64_t *barrier, uint32_t arrivals) {
    hopper::barrier_init(shared_address(barrier), arrivals);
}
__device__ inline void arrive(uint64_t *barrier) {
    hopper::barrier_arrive(shared_address(barrier));
}
__device__ inline void arrive_expect(uint64_t *barrier, uint32_t bytes) {
    hopper::barrier_arrive_expecting(shared_address(barrier), bytes);
}
// What is waited for is a copy in flight or a warp of the same block: microseconds. A wait that
// does not end is a bug, and stops the kernel instead of the machine.
__device__ inline void wait(uint64_t *barrier, uint32_t parity) {
    const uint32_t address = shared_address(barrier);
#pragma unroll 1
    for (uint32_t tries = 0; tries < (1u << 19); tries++) {
        uint32_t done;
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}\n"
                     : "=r"(done)
                     : "r"(address), "r"(parity)
                     : "memory");
        if (done != 0) return;
    }
    __trap();
}
// The 128 threads of one warpgroup; `name` from 1.
__device__ inline void warpgroup_sync(int name) {
    asm volatile("bar.sync %0, 128;" ::"r"(name) : "memory");
}

// --- tensor copies: box at (column, row, panel) --------------------------------------------------
__device__ inline uint64_t policy_first() {
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
__device__ inline uint64_t policy_last() {
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
// So that the first copy does not wait for the map itself.
__device__ inline void prefetch_map(const CUtensorMap *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
__device__ inline void load_box(void *to, const CUtensorMap *map, int32_t column, int32_t row,
                                int32_t panel, uint64_t *barrier, uint64_t policy) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 ".L2::cache_hint [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(shared_address(to)),
                 "l"(map), "r"(column), "r"(row), "r"(panel), "r"(shared_address(barrier)),
                 "l"(policy)
                 : "memory");
}
// Contiguous bytes, a multiple of 16.
__device__ inline void load_bytes(void *to, const void *from, uint32_t bytes, uint64_t *barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], "
                 "%2, [%3];" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
}
__device__ inline void load_bytes(void *to, const void *from, uint32_t bytes, uint64_t *barrier,
                                  uint64_t policy) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1], %2, [%3], %4;" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
                 : "memory");
}
__device__ inline void store_box(const CUtensorMap *map, const void *from, int32_t column,
                                 int32_t row, int32_t panel) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], "
                 "[%1];\ncp.async.bulk.commit_group;" ::"l"(map),
                 "r"(shared_address(from)), "r"(column), "r"(row), "r"(panel)
                 : "memory");
}
// Contiguous bytes, a multiple of 16. One or more make a group.
__device__ inline void store_bytes(void *to, const void *from, uint32_t bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to),
                 "r"(shared_address(from)), "r"(bytes)
                 : "memory");
}
__device__ inline void stores_commit() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// Until the stores of this thread have read their shared memory.
__device__ inline void stores_read() {
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

// --- 8 x 8 matrices of bf16; lane l gives the row address of row l % 8 of matrix l / 8 ------------
__device__ inline void load_matrices(uint32_t (&m)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(address)
                 : "memory");
}
__device__ inline void store_matrices(uint32_t address, const uint32_t (&m)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
                 "r"(m[0]), "r"(m[1]), "r"(m[2]), "r"(m[3])
                 : "memory");
}

// --- numbers -------------------------------------------------------------------------------------
__device__ inline uint32_t pack(float low, float high) {
    uint32_t both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
__device__ inline float low(uint32_t both) {
    return __uint_as_float(both << 16);
}
__device__ inline float high(uint32_t both) {
    return __uint_as_float(both & 0xffff0000u);
}
// Of two pairs of bf16, rounded once.
__device__ inline uint32_t multiply_pairs(uint32_t a, uint32_t b) {
    uint32_t product;
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
    return product;
}
// a + b c of pairs of bf16, rounded once.
__device__ inline uint32_t add_pairs(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t sum;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(b), "r"(c), "r"(a));
    return sum;
}
__device__ inline float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ inline float tanh_fast(float x) {
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// x / (1 + e^-x) = h + h tanh h, h = x / 2: one special instruction instead of two. Off by at
// most 2^-12 |x|.
__device__ inline float silu(float x) {
    const float h = 0.5f * x;
    return fmaf(h, tanh_fast(h), h);
}

// --- warpgroup products: d (+)= A B, d f32, A and B bf16 -----------------------------------------
// A tile in shared memory is panels of rows of 64 elements = 128 bytes, panel after panel, each
// aligned to 1024 bytes, with the 128-byte swizzle: the 16-byte piece c of row r lies at c ^ (r % 8).
// The same bits name a tile whose rows run along M or N (`turned` operands: rows are k) and one
// whose rows run along k; in the first case `panel_bytes` leads to the next 64 of M or N.
__device__ inline uint64_t descriptor(const void *tile, uint32_t panel_bytes) {
    const uint64_t address = (shared_address(tile) & 0x3ffffu) >> 4;
    return address | (uint64_t)(panel_bytes >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 | 1ull << 62;
}
constexpr uint64_t kNext16Columns = 32 >> 4;    // rows along k: 16 elements on in the panel
constexpr uint64_t kNext16Rows = 16 * 128 >> 4; // rows are k: 16 rows on

#define HOPPER_D4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define HOPPER_D16(d, i) \
    HOPPER_D4(d, i), HOPPER_D4(d, i + 4), HOPPER_D4(d, i + 8), HOPPER_D4(d, i + 12)
#define HOPPER_D32(d) HOPPER_D16(d, 0), HOPPER_D16(d, 16)
#define HOPPER_D64(d) HOPPER_D32(d), HOPPER_D16(d, 32), HOPPER_D16(d, 48)
#define HOPPER_LIST32                                                                         \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23," \
    "%24,%25,%26,%27,%28,%29,%30,%31}"
#define HOPPER_LIST64                                                                          \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"  \
    "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45," \
    "%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}"

// d[64 x 64] (+)= A[64 x 16] B[16 x 64], rows of both tiles along k
__device__ inline void product_n64(float (&d)[32], uint64_t a, uint64_t b, int add) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " HOPPER_LIST32
                 ", %32, %33, p, 1, 1, 0, 0;\n}\n"
                 : HOPPER_D32(d)
                 : "l"(a), "l"(b), "r"(add));
}
// d[64 x 64] (+)= A[64 x 16] B[16 x 64], A in registers, B's rows are k
__device__ inline void product_n64_turned(float (&d)[32], const uint32_t *a, uint64_t b, int add) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " HOPPER_LIST32
                 ", {%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}\n"
                 : HOPPER_D32(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}
// d[64 x 128] (+)= A[64 x 16] B[16 x 128], both tiles' rows are k
__device__ inline void product_n128_both_turned(float (&d)[64], uint64_t a, uint64_t b, int add) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " HOPPER_LIST64
                 ", %64, %65, p, 1, 1, 1, 1;\n}\n"
                 : HOPPER_D64(d)
                 : "l"(a), "l"(b), "r"(add));
}

} // namespace ssd
