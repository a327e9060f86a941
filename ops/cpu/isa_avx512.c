// The kernels for AVX-512.

#include "ops/cpu/kernels.h"

#if defined(__x86_64__)

#    include <float.h>
#    include <immintrin.h>
#    include <math.h>
#    include <stddef.h>
#    include <stdint.h>
#    include <string.h>

#    define SIMD_AVX512
#    define CPU_KERNELS      cpu_kernels_avx512
#    define CPU_KERNELS_NAME "avx512"
#    define BF16_KERNELS     bf16_kernels_avx512

// The target is set here and not by a compiler flag, so that nothing outside these bodies, such as
// an inline function of a header, is compiled for a machine that may not be there.
#    if defined(__clang__)
#        pragma clang attribute push(                                                    \
            __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2"))), \
            apply_to = function)
#    else
#        pragma GCC push_options
#        pragma GCC target( \
            "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2,prefer-vector-width=512")
#    endif

#    include "ops/cpu/kernels.inc"

#    if defined(__clang__)
#        pragma clang attribute pop
#    else
#        pragma GCC pop_options
#    endif

#endif
