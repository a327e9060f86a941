#pragma once
// The kernels for AMX on a machine that need not have it (amx_emulated.c).

#include "ops/cpu/bf16_kernels.h"

extern const struct bf16_kernels bf16_kernels_amx_emulated;
