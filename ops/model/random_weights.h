#pragma once
// A model without a file: the official shapes, and weights drawn as the official code initialises
// them, so that activations stay as they are in a trained model. For measuring and checking.

#include "ops/model/weights.h"

C_BEGIN

#define OFFICIAL_SHAPES "130m|370m|780m|1.3b|2.7b"

// The config of one of OFFICIAL_SHAPES. Errors: USAGE (there is no such shape).
enum status shape_config(const char *shape, struct mamba2_config *config);

// The same config and seed give the same bytes. Layers share one pool of numbers, each from
// another place in it, so that 2.7b takes under a second and 0.7 GB. Release with weights_close.
// Errors: NO_MEMORY.
enum status weights_random(const struct mamba2_config *config, uint64_t seed,
                           struct mamba2_weights *made);

C_END
