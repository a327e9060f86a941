#pragma once
// What other models look like, so that a refusal can say what was found in place of Mamba-2.

#include "ops/model/tensor.h"

C_BEGIN

// What a config's model_type stands for, as in "a hybrid with attention layers"; NULL: unknown.
const char *foreign_model_type(const char *type, size_t bytes);
// Errors: MISMATCH (a tensor's name belongs to another kind of layer, by that name).
enum status foreign_tensors(const struct tensors *tensors);

C_END
