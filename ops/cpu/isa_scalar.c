// The kernels in plain C: for machines without a better set, and the measure for the others.

#include "ops/cpu/kernels.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define SIMD_SCALAR
#define CPU_KERNELS      cpu_kernels_scalar
#define CPU_KERNELS_NAME "scalar"

#include "ops/cpu/kernels.inc"
