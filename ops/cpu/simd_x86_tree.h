#pragma once
// v16_sum and v16_highest from the two halves of a v16, for both x86 instruction sets.

SIMD float v16_sum(v16 a) {
    const __m256 eight = _mm256_add_ps(v16_low_half(a), v16_high_half(a));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

SIMD float v16_highest(v16 a) {
    const __m256 eight = _mm256_max_ps(v16_low_half(a), v16_high_half(a));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
