#pragma once
// A mixer out of the operators of a backend.

#include "ops/mixer.h"

// Allocates all it needs. Errors: NO_MEMORY.
enum status op_mixer_open(struct backend *backend, const struct mixer_shape *shape,
                          struct mixer **opened);
