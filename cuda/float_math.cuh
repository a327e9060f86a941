#pragma once
// The elementary functions of ops/cpu/simd.h, operation for operation, so that f32 results have the
// bits of the CPU backend. Files that include this are compiled without contraction of a * b + c
// and with denormals flushed to zero (CMakeLists.txt), which is what the CPU's threads do.

#include <math.h>

// a > b ? a : b, so that NaN comes through as the second operand only; likewise take_least.
static __device__ __forceinline__ float take_most(float a, float b) {
    return a > b ? a : b;
}

static __device__ __forceinline__ float take_least(float a, float b) {
    return a < b ? a : b;
}

// exp(x): 0 below -87, exp(88) above 88. See v16_exp for the polynomial.
static __device__ __forceinline__ float exp_f32(float x) {
    const float magic = 0x1.8p23f;
    const float bounded = take_least(88.0f, take_most(-87.0f, x));
    const float t = fmaf(bounded, 0x1.715476p0f, magic);
    const float n = t - magic;
    float r = fmaf(-n, 0x1.62e430p-1f, bounded);
    r = fmaf(-n, -0x1.05c610p-29f, r);
    float p = 0x1.6a2434p-10f;
    p = fmaf(p, r, 0x1.1239e2p-7f);
    p = fmaf(p, r, 0x1.5558f2p-5f);
    p = fmaf(p, r, 0x1.555492p-3f);
    p = fmaf(p, r, 0x1.fffffcp-2f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    const float power = __uint_as_float((__float_as_uint(t) << 23) + 0x3f800000U);
    return -87.0f > x ? 0.0f : p * power;
}

// x / (1 + exp(-x)), from exp(-|x|).
static __device__ __forceinline__ float silu_f32(float x) {
    const float e = exp_f32(0.0f - fabsf(x));
    return (0.0f > x ? x * e : x) / (1.0f + e);
}

// log(1 + e) for 0 <= e <= 1.
static __device__ __forceinline__ float log1p_f32(float e) {
    const float t = (e + e) / (2.0f + e);
    const float z = t * t;
    float p = 0x1.f1b2cp-14f;
    p = fmaf(p, z, 0x1.b6d5b2p-12f);
    p = fmaf(p, z, 0x1.25097cp-9f);
    p = fmaf(p, z, 0x1.9996a8p-7f);
    p = fmaf(p, z, 0x1.555558p-4f);
    return fmaf(p * z, t, t);
}

// log(1 + exp(x)); x itself above 20.
static __device__ __forceinline__ float softplus_f32(float x) {
    const float e = exp_f32(0.0f - fabsf(x));
    const float sum = take_most(0.0f, x) + log1p_f32(e);
    return x > 20.0f ? x : sum;
}
