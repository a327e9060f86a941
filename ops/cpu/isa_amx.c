// The products in bf16 for AMX. Tiles are a thread's own and are given back after every product, so
// that nothing else carries their 8 KiB around.

#include "ops/cpu/bf16_kernels.h"

#if defined(__x86_64__)

#    include <immintrin.h>
#    include <stdbool.h>
#    include <stddef.h>
#    include <stdint.h>
#    include <string.h>

#    define SIMD              static inline __attribute__((always_inline))
#    define BF16_KERNELS      bf16_kernels_amx
#    define BF16_KERNELS_NAME "amx"

// As the instruction reads it.
struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static const struct tile_shapes all_tiles = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};
_Static_assert(sizeof(struct tile_shapes) == 64, "the instruction reads 64 bytes");

#    define TILES_BEGIN()             _tile_loadconfig(&all_tiles)
#    define TILES_END()               _tile_release()
#    define TILE_ZERO(t)              _tile_zero(t)
#    define TILE_LOAD(t, from)        _tile_loadd(t, from, 64)
#    define TILE_STORE(t, to, stride) _tile_stored(t, to, stride)
#    define TILE_DOT(c, a, b)         _tile_dpbf16ps(c, a, b)

#    define AMX_TARGET "amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2"
#    if defined(__clang__)
#        pragma clang attribute push(__attribute__((target(AMX_TARGET))), apply_to = function)
#    else
#        pragma GCC push_options
#        pragma GCC target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")
#    endif

#    include "ops/cpu/amx_kernels.inc"

#    if defined(__clang__)
#        pragma clang attribute pop
#    else
#        pragma GCC pop_options
#    endif

#endif
