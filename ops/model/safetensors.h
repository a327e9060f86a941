#pragma once
// A safetensors file in memory: a u64 header length, a JSON header, raw data. Nothing the header
// says is believed before it is checked: every tensor lies inside the data, has the bytes its
// shape and type need, overlaps no other, and no byte of the data belongs to none.

#include "ops/model/tensor.h"

C_BEGIN

// `bytes` and `path`, which is for messages, stay the caller's and must outlive the result, which
// is sorted. Names must be free of NUL. Errors: MISMATCH, NO_MEMORY.
enum status safetensors_parse(const char *path, const char *bytes, size_t size,
                              struct tensors *parsed);

C_END
