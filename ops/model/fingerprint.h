#pragma once
// The model's hash, and the one pass over its weights that makes it and looks for NaN on the way.

#include "ops/model/config.h"
#include "ops/model/tensor.h"

C_BEGIN

struct fingerprint;

// Errors: NO_MEMORY.
enum status fingerprint_open(struct fingerprint **opened);
void fingerprint_config(struct fingerprint *fingerprint, const struct mamba2_config *config);
// Errors: MISMATCH (an element is NaN or infinite).
enum status fingerprint_tensor(struct fingerprint *fingerprint, const struct tensor *tensor);
uint64_t fingerprint_value(const struct fingerprint *fingerprint);
void fingerprint_close(struct fingerprint *fingerprint); // accepts NULL

C_END
