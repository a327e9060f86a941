// The kernels for AMX over tiles in plain C, so that their tiling, packing and edges are tried on
// machines without them. What an instruction does is written here a second time, from its
// specification: loads and stores of 16 rows of 64 bytes, and TDPBF16PS.

#include "tests/amx_emulated.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct tile {
    union {
        uint32_t word[16][16];
        float number[16][16];
    };
};

static _Thread_local struct tile tiles[8];
static _Thread_local bool configured;

static void tiles_begin(void) {
    memset(tiles, 0, sizeof tiles);
    configured = true;
}

static void tiles_end(void) {
    memset(tiles, 0xff, sizeof tiles); // NaN: nobody may count on what was there
    configured = false;
}

static struct tile *tile_at(int which) {
    if (!configured || which < 0 || which > 7) abort(); // the processor would fault
    return &tiles[which];
}

static void tile_zero(int which) {
    memset(tile_at(which), 0, sizeof(struct tile));
}

static void tile_load(int which, const void *from) {
    memcpy(tile_at(which), from, sizeof(struct tile));
}

static void tile_store(int which, void *to, size_t stride) {
    for (size_t row = 0; row < 16; row++) {
        memcpy((char *)to + row * stride, tile_at(which)->number[row], 64);
    }
}

static float half_of(uint32_t word, bool upper) {
    const uint32_t bits = upper ? word & 0xffff0000U : word << 16;
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static void tile_dot(int sum, int left, int right) {
    struct tile *c = tile_at(sum);
    const struct tile *a = tile_at(left), *b = tile_at(right);
    for (int m = 0; m < 16; m++) {
        for (int n = 0; n < 16; n++) {
            float chain[2] = {0.0f, 0.0f};
            for (int k = 0; k < 16; k++) {
                for (int half = 0; half < 2; half++) {
                    chain[half] = fmaf(half_of(a->word[m][k], half == 1),
                                       half_of(b->word[k][n], half == 1), chain[half]);
                }
            }
            c->number[m][n] += chain[0] + chain[1];
        }
    }
}

#define SIMD                      static inline
#define BF16_KERNELS              bf16_kernels_amx_emulated
#define BF16_KERNELS_NAME         "amx-emulated"
#define TILES_BEGIN()             tiles_begin()
#define TILES_END()               tiles_end()
#define TILE_ZERO(t)              tile_zero(t)
#define TILE_LOAD(t, from)        tile_load(t, from)
#define TILE_STORE(t, to, stride) tile_store(t, to, stride)
#define TILE_DOT(c, a, b)         tile_dot(c, a, b)

#include "ops/cpu/amx_kernels.inc"
