// Tensors by name, and their numbers as f32, whatever they are stored as.

#include "ops/model/tensor.h"

#include "ops/base/check.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b) {
    const struct tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

enum status tensors_sort(const char *path, struct tensors *tensors) {
    if (tensors->count < 2) return STATUS_OK;
    qsort(tensors->items, (size_t)tensors->count, sizeof(struct tensor), by_name);
    for (int64_t i = 1; i < tensors->count; i++) {
        const char *name = tensors->items[i].name;
        if (strcmp(tensors->items[i - 1].name, name) != 0) continue;
        return FAIL(MISMATCH, "%s: tensor %.200s stands twice", path, name);
    }
    return STATUS_OK;
}

const struct tensor *tensors_find(const struct tensors *tensors, const char *name) {
    const struct tensor wanted = {.name = name};
    if (tensors->count == 0) return NULL;
    return bsearch(&wanted, tensors->items, (size_t)tensors->count, sizeof wanted, by_name);
}

void tensors_free(struct tensors *tensors) {
    free(tensors->items);
    free(tensors->names);
    *tensors = (struct tensors){0};
}

const char *dtype_name(enum dtype dtype) {
    static const char *const names[] = {"F32", "BF16", "F16", "of an unsupported type"};
    return names[dtype];
}

// Exact: every f16 is a normal f32, or zero, so that a flush-to-zero mode changes nothing. Without
// branches: compilers make vectors of it.
float f16_to_f32(uint16_t bits) {
    const uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    const uint32_t exponent = (bits >> 10) & 0x1F, mantissa = bits & 0x3FF;
    const float small = (float)(int32_t)mantissa * 0x1p-24F; // where the exponent is 0
    const uint32_t above = exponent == 0x1F ? 0xFF : exponent + 127 - 15;
    const uint32_t normal = above << 23 | mantissa << 13;
    uint32_t out;
    float value;
    memcpy(&out, &small, sizeof out);
    out = sign | (exponent == 0 ? out : normal);
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
