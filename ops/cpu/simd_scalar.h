#pragma once
// The primitives of simd.h in plain C: right everywhere, the measure for the others.

#include <math.h>
#include <string.h>

typedef struct {
    float lane[16];
} v16;

#define SIMD_EACH(expression)       \
    v16 out;                        \
    for (int i = 0; i < 16; i++) {  \
        out.lane[i] = (expression); \
    }                               \
    return out

SIMD v16 v16_set1(float f) {
    SIMD_EACH(f);
}
SIMD v16 v16_zero(void) {
    return v16_set1(0.0f);
}
SIMD v16 v16_load(const float *p) {
    SIMD_EACH(p[i]);
}
SIMD void v16_store(float *p, v16 a) {
    memcpy(p, a.lane, sizeof a.lane);
}
SIMD v16 v16_load_n(const float *p, int64_t n) {
    SIMD_EACH(i < n ? p[i] : 0.0f);
}
SIMD void v16_store_n(float *p, v16 a, int64_t n) {
    for (int i = 0; i < n; i++) {
        p[i] = a.lane[i];
    }
}
SIMD v16 v16_add(v16 a, v16 b) {
    SIMD_EACH(a.lane[i] + b.lane[i]);
}
SIMD v16 v16_sub(v16 a, v16 b) {
    SIMD_EACH(a.lane[i] - b.lane[i]);
}
SIMD v16 v16_mul(v16 a, v16 b) {
    SIMD_EACH(a.lane[i] * b.lane[i]);
}
SIMD v16 v16_div(v16 a, v16 b) {
    SIMD_EACH(a.lane[i] / b.lane[i]);
}
SIMD v16 v16_fma(v16 a, v16 b, v16 c) {
    SIMD_EACH(fmaf(a.lane[i], b.lane[i], c.lane[i]));
}
SIMD v16 v16_fnma(v16 a, v16 b, v16 c) {
    SIMD_EACH(fmaf(-a.lane[i], b.lane[i], c.lane[i]));
}
SIMD v16 v16_max(v16 a, v16 b) {
    SIMD_EACH(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]);
}
SIMD v16 v16_min(v16 a, v16 b) {
    SIMD_EACH(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]);
}
SIMD v16 v16_select(v16 a, v16 b, v16 x, v16 y) {
    SIMD_EACH(a.lane[i] > b.lane[i] ? x.lane[i] : y.lane[i]);
}
SIMD v16 v16_abs(v16 a) {
    SIMD_EACH(fabsf(a.lane[i]));
}
SIMD float v16_of_bits(uint32_t bits) {
    float lane;
    memcpy(&lane, &bits, sizeof lane);
    return lane;
}
SIMD v16 v16_high(const uint32_t *p) {
    SIMD_EACH(v16_of_bits(p[i] & 0xffff0000U));
}
SIMD v16 v16_low(const uint32_t *p) {
    SIMD_EACH(v16_of_bits(p[i] << 16));
}
SIMD v16 v16_power2(v16 t) {
    uint32_t bits[16];
    memcpy(bits, t.lane, sizeof bits);
    for (int i = 0; i < 16; i++) {
        bits[i] = (bits[i] << 23) + 0x3f800000U;
    }
    memcpy(t.lane, bits, sizeof bits);
    return t;
}
SIMD float v16_sum(v16 a) {
    for (int half = 8; half >= 1; half /= 2) {
        for (int i = 0; i < half; i++) {
            a.lane[i] += a.lane[i + half];
        }
    }
    return a.lane[0];
}
SIMD float v16_highest(v16 a) {
    for (int half = 8; half >= 1; half /= 2) {
        for (int i = 0; i < half; i++) {
            a.lane[i] = a.lane[i] > a.lane[i + half] ? a.lane[i] : a.lane[i + half];
        }
    }
    return a.lane[0];
}
