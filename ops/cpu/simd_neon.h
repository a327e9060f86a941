#pragma once
// The primitives of simd.h for NEON of aarch64: four registers of four lanes.

#include <arm_neon.h>
#include <string.h>

typedef struct {
    float32x4_t part[4];
} v16;

#define SIMD_EACH(expression)       \
    v16 out;                        \
    for (int i = 0; i < 4; i++) {   \
        out.part[i] = (expression); \
    }                               \
    return out

SIMD v16 v16_set1(float f) {
    SIMD_EACH(vdupq_n_f32(f));
}
SIMD v16 v16_zero(void) {
    return v16_set1(0.0f);
}
SIMD v16 v16_load(const float *p) {
    SIMD_EACH(vld1q_f32(p + 4 * i));
}
SIMD void v16_store(float *p, v16 a) {
    for (int i = 0; i < 4; i++) {
        vst1q_f32(p + 4 * i, a.part[i]);
    }
}
SIMD v16 v16_load_n(const float *p, int64_t n) {
    float all[16] = {0};
    memcpy(all, p, (size_t)n * sizeof(float));
    return v16_load(all);
}
SIMD void v16_store_n(float *p, v16 a, int64_t n) {
    float all[16];
    v16_store(all, a);
    memcpy(p, all, (size_t)n * sizeof(float));
}
SIMD v16 v16_add(v16 a, v16 b) {
    SIMD_EACH(vaddq_f32(a.part[i], b.part[i]));
}
SIMD v16 v16_sub(v16 a, v16 b) {
    SIMD_EACH(vsubq_f32(a.part[i], b.part[i]));
}
SIMD v16 v16_mul(v16 a, v16 b) {
    SIMD_EACH(vmulq_f32(a.part[i], b.part[i]));
}
SIMD v16 v16_div(v16 a, v16 b) {
    SIMD_EACH(vdivq_f32(a.part[i], b.part[i]));
}
SIMD v16 v16_fma(v16 a, v16 b, v16 c) {
    SIMD_EACH(vfmaq_f32(c.part[i], a.part[i], b.part[i]));
}
SIMD v16 v16_fnma(v16 a, v16 b, v16 c) {
    SIMD_EACH(vfmsq_f32(c.part[i], a.part[i], b.part[i]));
}
// Not vmaxq_f32 and vminq_f32, which give NaN for NaN in either operand and order the zeros.
SIMD v16 v16_max(v16 a, v16 b) {
    SIMD_EACH(vbslq_f32(vcgtq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]));
}
SIMD v16 v16_min(v16 a, v16 b) {
    SIMD_EACH(vbslq_f32(vcltq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]));
}
SIMD v16 v16_select(v16 a, v16 b, v16 x, v16 y) {
    SIMD_EACH(vbslq_f32(vcgtq_f32(a.part[i], b.part[i]), x.part[i], y.part[i]));
}
SIMD v16 v16_abs(v16 a) {
    SIMD_EACH(vabsq_f32(a.part[i]));
}
SIMD v16 v16_high(const uint32_t *p) {
    const uint32x4_t upper = vdupq_n_u32(0xffff0000U);
    SIMD_EACH(vreinterpretq_f32_u32(vandq_u32(vld1q_u32(p + 4 * i), upper)));
}
SIMD v16 v16_low(const uint32_t *p) {
    SIMD_EACH(vreinterpretq_f32_u32(vshlq_n_u32(vld1q_u32(p + 4 * i), 16)));
}
SIMD v16 v16_power2(v16 t) {
    const uint32x4_t one = vdupq_n_u32(0x3f800000U);
    SIMD_EACH(
        vreinterpretq_f32_u32(vaddq_u32(vshlq_n_u32(vreinterpretq_u32_f32(t.part[i]), 23), one)));
}
SIMD float v16_sum(v16 a) {
    const float32x4_t low = vaddq_f32(a.part[0], a.part[2]);
    const float32x4_t high = vaddq_f32(a.part[1], a.part[3]);
    const float32x4_t four = vaddq_f32(low, high);
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
SIMD float v16_highest(v16 a) {
    float lane[16];
    v16_store(lane, a);
    for (int half = 8; half >= 1; half /= 2) {
        for (int i = 0; i < half; i++) {
            lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
        }
    }
    return lane[0];
}
