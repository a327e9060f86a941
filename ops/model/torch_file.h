#pragma once
// What torch.save makes of a state dict (since 1.6): a zip with a pickle that names the tensors, and
// an entry a storage that holds their numbers. Both are checked, and every tensor lies inside its
// storage, row after row.

#include "ops/model/tensor.h"

C_BEGIN

// `bytes` and `path`, which is for messages, stay the caller's and must outlive the result, which
// is sorted; its numbers stay in the file. Tensors that share a storage share their data.
// Errors: MISMATCH, NO_MEMORY.
enum status torch_parse(const char *path, const char *bytes, size_t size, struct tensors *parsed);

C_END
