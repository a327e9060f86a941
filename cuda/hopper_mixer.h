#pragma once
// The fused way through a layer: bf16, Hopper, the shapes its scan knows, one group.

#include "ops/mixer.h"

C_BEGIN

// *opened NULL: this device, dtype or shape goes operator by operator. Errors: NO_MEMORY, PEER.
enum status hopper_mixer_open(struct backend *backend, const struct mixer_shape *shape,
                              struct mixer **opened);

C_END
