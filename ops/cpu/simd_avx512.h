#pragma once
// The primitives of simd.h for AVX-512F: one register.

#include <immintrin.h>

typedef __m512 v16;

SIMD v16 v16_zero(void) {
    return _mm512_setzero_ps();
}
SIMD v16 v16_set1(float f) {
    return _mm512_set1_ps(f);
}
SIMD v16 v16_load(const float *p) {
    return _mm512_loadu_ps(p);
}
SIMD void v16_store(float *p, v16 a) {
    _mm512_storeu_ps(p, a);
}
SIMD __mmask16 v16_first(int64_t n) {
    return (__mmask16)((1U << n) - 1U);
}
SIMD v16 v16_load_n(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps(v16_first(n), p);
}
SIMD void v16_store_n(float *p, v16 a, int64_t n) {
    _mm512_mask_storeu_ps(p, v16_first(n), a);
}
SIMD v16 v16_add(v16 a, v16 b) {
    return _mm512_add_ps(a, b);
}
SIMD v16 v16_sub(v16 a, v16 b) {
    return _mm512_sub_ps(a, b);
}
SIMD v16 v16_mul(v16 a, v16 b) {
    return _mm512_mul_ps(a, b);
}
SIMD v16 v16_div(v16 a, v16 b) {
    return _mm512_div_ps(a, b);
}
SIMD v16 v16_fma(v16 a, v16 b, v16 c) {
    return _mm512_fmadd_ps(a, b, c);
}
SIMD v16 v16_fnma(v16 a, v16 b, v16 c) {
    return _mm512_fnmadd_ps(a, b, c);
}
SIMD v16 v16_max(v16 a, v16 b) {
    return _mm512_max_ps(a, b);
}
SIMD v16 v16_min(v16 a, v16 b) {
    return _mm512_min_ps(a, b);
}
SIMD v16 v16_select(v16 a, v16 b, v16 x, v16 y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), y, x);
}
SIMD v16 v16_abs(v16 a) {
    const __m512i bits = _mm512_set1_epi32(0x7fffffff);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), bits));
}
SIMD v16 v16_high(const uint32_t *p) {
    const __m512i word = _mm512_loadu_si512(p);
    return _mm512_castsi512_ps(_mm512_and_si512(word, _mm512_set1_epi32((int)0xffff0000U)));
}
SIMD v16 v16_low(const uint32_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}
SIMD v16 v16_power2(v16 t) {
    const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(0x3f800000)));
}
SIMD __m256 v16_low_half(v16 a) {
    return _mm512_castps512_ps256(a);
}
SIMD __m256 v16_high_half(v16 a) {
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
}
#include "ops/cpu/simd_x86_tree.h"
