#pragma once
// A vector of 16 floats, v16, for the instruction set the including file has chosen by defining
// one of SIMD_AVX512, SIMD_AVX2, SIMD_NEON, SIMD_SCALAR (its target options already on). This file
// is for the kernel bodies (*.inc) only.
//
//   1. Every instruction set gives the same bits: the primitives of simd_NAME.h are operations
//      that IEEE 754 defines to the last bit, and what is made of them stands once, here.
//   2. A tail goes through the same formula as the rest, by masked loads and stores.
//   3. NaN goes in, NaN comes out, of every function here but v16_max, v16_min and v16_highest,
//      where it does only as the second operand: write v16_max(limit, x).
//
// Primitives, each of all instruction sets (n: 0 to 16, the first n; others read as 0):
//   v16_zero() v16_set1(f) v16_load(p) v16_store(p, a) v16_load_n(p, n) v16_store_n(p, a, n)
//   v16_add(a, b) v16_sub(a, b) v16_mul(a, b) v16_div(a, b)
//   v16_fma(a, b, c)    a * b + c, rounded once
//   v16_fnma(a, b, c)   c - a * b, rounded once
//   v16_max(a, b)       a > b ? a : b
//   v16_min(a, b)       a < b ? a : b
//   v16_select(a, b, x, y)  a > b ? x : y
//   v16_abs(a)
//   v16_high(p) v16_low(p)  of 16 words of 32 bits the upper or lower 16 bits, as bf16
//   v16_power2(t)       2^(t - SIMD_MAGIC) from the low bits of t, |t - SIMD_MAGIC| <= 126
//   v16_sum(a)          lane i plus lane i + 8, then + 4, + 2, + 1
//   v16_highest(a)      the same tree of v16_max

#include <stdint.h>

// In plain C nothing is kept in vector registers, so little is lost by loops that are not unrolled;
// and under a sanitizer, whose checks are many to an operation, calls keep the code small enough to
// compile.
#if defined(SIMD_SCALAR) && (defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__))
#    define SIMD static __attribute__((noinline, unused))
#    define SIMD_UNROLL
#elif defined(SIMD_SCALAR)
#    define SIMD static inline
#    define SIMD_UNROLL
#elif defined(__clang__)
#    define SIMD        static inline __attribute__((always_inline))
#    define SIMD_UNROLL _Pragma("clang loop unroll(full)")
#else
#    define SIMD        static inline __attribute__((always_inline))
#    define SIMD_UNROLL _Pragma("GCC unroll 16")
#endif

// 1.5 * 2^23: t = x + SIMD_MAGIC holds x rounded to an integer in its low bits.
#define SIMD_MAGIC 0x1.8p23f

#if defined(SIMD_AVX512)
#    include "ops/cpu/simd_avx512.h"
#elif defined(SIMD_AVX2)
#    include "ops/cpu/simd_avx2.h"
#elif defined(SIMD_NEON)
#    include "ops/cpu/simd_neon.h"
#elif defined(SIMD_SCALAR)
#    include "ops/cpu/simd_scalar.h"
#else
#    error "define SIMD_AVX512, SIMD_AVX2, SIMD_NEON or SIMD_SCALAR before including ops/cpu/simd.h"
#endif

// exp(x), relative error below 1.3 units of 2^-24. Exactly 0 below -87, where the result would soon
// be denormal; exp(88) above 88. 2^n e^r with |r| <= ln(2) / 2; the polynomial is the minimax one of
// degree 6 with the first two coefficients 1, its own error 0.05 units of 2^-24.
SIMD v16 v16_exp(v16 x) {
    const v16 magic = v16_set1(SIMD_MAGIC);
    const v16 low = v16_set1(-87.0f);
    const v16 bounded = v16_min(v16_set1(88.0f), v16_max(low, x));
    const v16 t = v16_fma(bounded, v16_set1(0x1.715476p0f), magic); // log2(e)
    const v16 n = v16_sub(t, magic);
    v16 r = v16_fnma(n, v16_set1(0x1.62e430p-1f), bounded); // ln(2), its first 24 bits
    r = v16_fnma(n, v16_set1(-0x1.05c610p-29f), r);         // and the rest
    v16 p = v16_set1(0x1.6a2434p-10f);
    p = v16_fma(p, r, v16_set1(0x1.1239e2p-7f));
    p = v16_fma(p, r, v16_set1(0x1.5558f2p-5f));
    p = v16_fma(p, r, v16_set1(0x1.555492p-3f));
    p = v16_fma(p, r, v16_set1(0x1.fffffcp-2f));
    p = v16_fma(p, r, v16_set1(1.0f));
    p = v16_fma(p, r, v16_set1(1.0f));
    return v16_select(low, x, v16_zero(), v16_mul(p, v16_power2(t)));
}

// x / (1 + exp(-x)), from exp(-|x|) so that nothing overflows.
SIMD v16 v16_silu(v16 x) {
    const v16 one = v16_set1(1.0f);
    const v16 e = v16_exp(v16_sub(v16_zero(), v16_abs(x)));
    const v16 numerator = v16_select(v16_zero(), x, v16_mul(x, e), x);
    return v16_div(numerator, v16_add(one, e));
}

// log(1 + e) for 0 <= e <= 1, good to the last few bits also for tiny e: 2 atanh(s) with
// s = e / (2 + e), in t = 2 s, which does not become denormal before e does. The series in t^2 <= 4/9
// as a minimax polynomial, its own error 0.002 units of 2^-24.
SIMD v16 v16_log1p(v16 e) {
    const v16 t = v16_div(v16_add(e, e), v16_add(v16_set1(2.0f), e));
    const v16 z = v16_mul(t, t);
    v16 p = v16_set1(0x1.f1b2cp-14f);
    p = v16_fma(p, z, v16_set1(0x1.b6d5b2p-12f));
    p = v16_fma(p, z, v16_set1(0x1.25097cp-9f));
    p = v16_fma(p, z, v16_set1(0x1.9996a8p-7f));
    p = v16_fma(p, z, v16_set1(0x1.555558p-4f));
    return v16_fma(v16_mul(p, z), t, t);
}

// log(1 + exp(x)); x itself above 20, where the rest is below half a unit in the last place.
SIMD v16 v16_softplus(v16 x) {
    const v16 e = v16_exp(v16_sub(v16_zero(), v16_abs(x)));
    const v16 sum = v16_add(v16_max(v16_zero(), x), v16_log1p(e));
    return v16_select(x, v16_set1(20.0f), x, sum);
}
