// The numbers of a checkpoint's tensor as f32, whatever they are stored as.

#include "ops/base/check.h"
#include "ops/model/safetensors.h"

#include <string.h>

const char *dtype_name(enum dtype dtype) {
    static const char *const names[] = {"F32", "BF16", "F16", "of an unsupported type"};
    return names[dtype];
}

// Exact: every f16 is a normal f32. By integers, so that a flush-to-zero mode changes nothing.
float f16_to_f32(uint16_t bits) {
    const uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t exponent = (bits >> 10) & 0x1F, mantissa = bits & 0x3FF;
    uint32_t out = sign;
    float value;
    if (exponent == 0x1F) {
        out |= 0x7F800000 | (mantissa << 13);
    } else if (exponent > 0) {
        out |= ((exponent + 127 - 15) << 23) | (mantissa << 13);
    } else if (mantissa > 0) {
        exponent = 127 - 14;
        while ((mantissa & 0x400) == 0) {
            mantissa <<= 1;
            exponent--;
        }
        out |= (exponent << 23) | ((mantissa & 0x3FF) << 13);
    }
    memcpy(&value, &out, sizeof value);
    return value;
}

bool tensor_needs_room(const struct tensor *tensor) {
    return tensor->dtype != DTYPE_F32 || (uintptr_t)tensor->data % sizeof(float) != 0;
}

void tensor_f32(const struct tensor *tensor, float *room, const float **values) {
    CHECK(tensor->dtype != DTYPE_OTHER);
    if (!tensor_needs_room(tensor)) {
        *values = (const float *)(const void *)tensor->data;
        return;
    }
    if (tensor->dtype == DTYPE_F32) {
        memcpy(room, tensor->data, tensor->bytes);
    } else if (tensor->dtype == DTYPE_BF16) {
        for (int64_t i = 0; i < tensor->count; i++) {
            uint16_t half;
            memcpy(&half, tensor->data + 2 * i, sizeof half);
            const uint32_t whole = (uint32_t)half << 16;
            memcpy(room + i, &whole, sizeof whole);
        }
    } else {
        for (int64_t i = 0; i < tensor->count; i++) {
            uint16_t half;
            memcpy(&half, tensor->data + 2 * i, sizeof half);
            room[i] = f16_to_f32(half);
        }
    }
    *values = room;
}
