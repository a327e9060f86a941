#pragma once
// A safetensors file in memory: a u64 header length, a JSON header, raw data. Nothing the header
// says is believed before it is checked: every tensor lies inside the data, has the bytes its
// shape and type need, overlaps no other, and no byte of the data belongs to none.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

C_BEGIN

#define TENSOR_DIMS_MOST 8

// DTYPE_OTHER: a type that can stand in the file but that nobody here reads.
enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_OTHER };

struct tensor {
    const char *name; // as in the file, escapes undone, terminated
    enum dtype dtype;
    int32_t dims;
    int64_t shape[TENSOR_DIMS_MOST];
    int64_t count;    // of elements
    const char *data; // borrowed from the file; any alignment
    size_t bytes;
};

struct safetensors {
    struct tensor *tensors; // by name
    int64_t count;
    char *names;
};

// `bytes` stays the caller's and must outlive the result; `path` is for messages only. Names must
// be free of NUL. Errors: MISMATCH, NO_MEMORY.
enum status safetensors_parse(const char *path, const char *bytes, size_t size,
                              struct safetensors *parsed);
// NULL: there is none of that name.
const struct tensor *safetensors_find(const struct safetensors *file, const char *name);
void safetensors_free(struct safetensors *file); // accepts an empty one

const char *dtype_name(enum dtype dtype);
// The tensor as f32: *values points into the file where it can, else into room[count], converted.
// A tensor of DTYPE_OTHER is a bug.
void tensor_f32(const struct tensor *tensor, float *room, const float **values);
// Will tensor_f32 need the room?
bool tensor_needs_room(const struct tensor *tensor);
float f16_to_f32(uint16_t bits);

C_END
