// The products in bf16 for AVX-512 BF16.

#include "ops/cpu/bf16_kernels.h"

#if defined(__x86_64__)

#    include <immintrin.h>
#    include <stdbool.h>
#    include <stddef.h>
#    include <stdint.h>
#    include <string.h>

#    define SIMD_AVX512
#    define SIMD_BF16
#    define BF16_KERNELS      bf16_kernels_avx512bf16
#    define BF16_KERNELS_NAME "avx512bf16"

#    if defined(__clang__)
#        pragma clang attribute push(                                                    \
            __attribute__((                                                              \
                target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2"))), \
            apply_to = function)
#    else
#        pragma GCC push_options
#        pragma GCC target( \
            "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2,prefer-vector-width=512")
#    endif

#    include "ops/cpu/bf16_kernels.inc"

#    if defined(__clang__)
#        pragma clang attribute pop
#    else
#        pragma GCC pop_options
#    endif

#endif
