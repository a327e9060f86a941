#pragma once
// Products by a warpgroup: the registers for them, and the instruction in the two widths in use.

#include <stdint.h>

namespace hopper {

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

// The same with B [32 rows].
__device__ __forceinline__ void product(float (&sum)[16], uint64_t a, uint64_t b, int add) {
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.ne.b32 p, %18, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15},"
                 " %16, %17, p, 1, 1, 0, 0;\n"
                 "}"
                 : SUMS_8(0), SUMS_8(8)
                 : "l"(a), "l"(b), "r"(add));
}

#undef SUMS_48
#undef SUMS_8

} // namespace hopper
