#pragma once
// The primitives of simd.h for AVX2 with FMA: two registers, lanes 0 to 7 and 8 to 15.

#include <immintrin.h>

typedef struct {
    __m256 low, high;
} v16;

#define SIMD_PAIR(low_half, high_half) ((v16){(low_half), (high_half)})

SIMD v16 v16_zero(void) {
    return SIMD_PAIR(_mm256_setzero_ps(), _mm256_setzero_ps());
}
SIMD v16 v16_set1(float f) {
    return SIMD_PAIR(_mm256_set1_ps(f), _mm256_set1_ps(f));
}
SIMD v16 v16_load(const float *p) {
    return SIMD_PAIR(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
SIMD void v16_store(float *p, v16 a) {
    _mm256_storeu_ps(p, a.low);
    _mm256_storeu_ps(p + 8, a.high);
}
SIMD __m256i v16_first(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
SIMD v16 v16_load_n(const float *p, int64_t n) {
    return SIMD_PAIR(_mm256_maskload_ps(p, v16_first(n)),
                     _mm256_maskload_ps(p + 8, v16_first(n - 8)));
}
SIMD void v16_store_n(float *p, v16 a, int64_t n) {
    _mm256_maskstore_ps(p, v16_first(n), a.low);
    _mm256_maskstore_ps(p + 8, v16_first(n - 8), a.high);
}
SIMD v16 v16_add(v16 a, v16 b) {
    return SIMD_PAIR(_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high));
}
SIMD v16 v16_sub(v16 a, v16 b) {
    return SIMD_PAIR(_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high));
}
SIMD v16 v16_mul(v16 a, v16 b) {
    return SIMD_PAIR(_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high));
}
SIMD v16 v16_div(v16 a, v16 b) {
    return SIMD_PAIR(_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high));
}
SIMD v16 v16_fma(v16 a, v16 b, v16 c) {
    return SIMD_PAIR(_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high));
}
SIMD v16 v16_fnma(v16 a, v16 b, v16 c) {
    return SIMD_PAIR(_mm256_fnmadd_ps(a.low, b.low, c.low),
                     _mm256_fnmadd_ps(a.high, b.high, c.high));
}
SIMD v16 v16_max(v16 a, v16 b) {
    return SIMD_PAIR(_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high));
}
SIMD v16 v16_min(v16 a, v16 b) {
    return SIMD_PAIR(_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high));
}
SIMD __m256 v16_select_half(__m256 a, __m256 b, __m256 x, __m256 y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
SIMD v16 v16_select(v16 a, v16 b, v16 x, v16 y) {
    return SIMD_PAIR(v16_select_half(a.low, b.low, x.low, y.low),
                     v16_select_half(a.high, b.high, x.high, y.high));
}
SIMD v16 v16_abs(v16 a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return SIMD_PAIR(_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high));
}
SIMD __m256i v16_words(const uint32_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
SIMD v16 v16_high(const uint32_t *p) {
    const __m256i upper = _mm256_set1_epi32((int)0xffff0000U);
    return SIMD_PAIR(_mm256_castsi256_ps(_mm256_and_si256(v16_words(p), upper)),
                     _mm256_castsi256_ps(_mm256_and_si256(v16_words(p + 8), upper)));
}
SIMD v16 v16_low(const uint32_t *p) {
    return SIMD_PAIR(_mm256_castsi256_ps(_mm256_slli_epi32(v16_words(p), 16)),
                     _mm256_castsi256_ps(_mm256_slli_epi32(v16_words(p + 8), 16)));
}
SIMD __m256 v16_power2_half(__m256 t) {
    const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(n, _mm256_set1_epi32(0x3f800000)));
}
SIMD v16 v16_power2(v16 t) {
    return SIMD_PAIR(v16_power2_half(t.low), v16_power2_half(t.high));
}
SIMD __m256 v16_low_half(v16 a) {
    return a.low;
}
SIMD __m256 v16_high_half(v16 a) {
    return a.high;
}
#include "ops/cpu/simd_x86_tree.h"
