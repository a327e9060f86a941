// The kernels for NEON of aarch64.

#include "ops/cpu/kernels.h"

#if defined(__aarch64__)

#    include <float.h>
#    include <math.h>
#    include <stddef.h>
#    include <stdint.h>
#    include <string.h>

#    define SIMD_NEON
#    define CPU_KERNELS      cpu_kernels_neon
#    define CPU_KERNELS_NAME "neon"
#    define BF16_KERNELS     bf16_kernels_neon

#    include "ops/cpu/kernels.inc"

#endif
