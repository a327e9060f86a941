#pragma once
// A checkpoint's tensors, whatever format they were stored in. Their numbers stay in the file.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

C_BEGIN

#define TENSOR_DIMS_MOST 8

// DTYPE_OTHER: a type that can stand in a file but that nobody here reads.
enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_OTHER };

struct tensor {
    const char *name; // terminated
    const char *path; // of its file, for messages; borrowed from who parsed it
    enum dtype dtype;
    int32_t dims;
    int64_t shape[TENSOR_DIMS_MOST];
    int64_t count;    // of elements
    const char *data; // borrowed from the file; row after row, any alignment
    size_t bytes;
};

struct tensors {
    struct tensor *items; // by name, once tensors_sort has been there
    int64_t count;
    char *names; // what the items' names point into, or NULL if that is elsewhere
};

// Errors: MISMATCH (a name stands twice).
enum status tensors_sort(const char *path, struct tensors *tensors);
// NULL: there is none of that name. Sorted ones only.
const struct tensor *tensors_find(const struct tensors *tensors, const char *name);
void tensors_free(struct tensors *tensors); // accepts empty ones

const char *dtype_name(enum dtype dtype);
// The tensor as f32: *values points into the file where it can, else into room[count], converted.
// A tensor of DTYPE_OTHER is a bug.
void tensor_f32(const struct tensor *tensor, float *room, const float **values);
// Will tensor_f32 need the room?
bool tensor_needs_room(const struct tensor *tensor);
float f16_to_f32(uint16_t bits);

C_END
