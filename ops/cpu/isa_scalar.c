// The kernels in plain C: for machines without a better set, and the measure for the others.

#include "ops/cpu/kernels.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SIMD_SCALAR
#define CPU_KERNELS      cpu_kernels_scalar
#define CPU_KERNELS_NAME "scalar"
#define BF16_KERNELS     bf16_kernels_scalar

#include "ops/cpu/kernels.inc"
