// The convolution and the scan over random ragged batches: y, every state out and every state
// before a tile have the CPU's bits.

#include "tests/gpu/check.h"

static const struct scan_shape shapes[] = {
    {8,  16,  16,  2},
    {1,  64,  128, 1},
    {3,  32,  32,  1},
    {3,  21,  19,  3},
    {2,  112, 256, 1},
    {4,  8,   8,   4},
    {8,  128, 64,  8},
    {24, 64,  128, 1},
};
#define SHAPES (int)(sizeof shapes / sizeof shapes[0])

static uint64_t draw(uint64_t *seed, uint64_t below) {
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*seed >> 33) % below;
}

// 1 to 12 spans of 1 to 300 rows, most often around a tile's border, the first at times of more tiles
// than passing takes at once; states in and out or not.
static int64_t draw_pieces(uint64_t *seed, const struct scan_shape *shape, int64_t taps,
                           struct piece *pieces) {
    static const int64_t lengths[] = {1, 2, 3, 4, 62, 63, 64, 65, 127, 128, 129, 0};
    const int64_t count = 1 + (int64_t)draw(seed, 12);
    for (int64_t s = 0; s < count; s++) {
        const bool longest = s == 0 && draw(seed, 4) == 0;
        const int64_t length = longest ? 4200 : lengths[draw(seed, 12)];
        const bool in = draw(seed, 2) == 0, out = draw(seed, 2) == 0;
        pieces[s] = (struct piece){
            .seed = 100 + *seed % 1000,
            .rows = length > 0 ? length : 1 + (int64_t)draw(seed, 300),
            .state_in = in ? case_state(shape, taps, 7 + *seed % 99) : NULL,
            .state_out = out ? case_state(shape, taps, 0) : NULL,
        };
    }
    return count;
}

static bool same_floats(const float *a, const float *b, int64_t count) {
    return memcmp(a, b, (size_t)count * sizeof *a) == 0;
}

// The same batch on both; what an operator leaves as it was is NaN on both.
static void check_batch(const struct world *world, struct tally *tally, int s, uint64_t *seed) {
    struct piece pieces[12];
    struct scan_case cpu, cuda;
    char *out[12];
    const int64_t taps = 1 + (int64_t)draw(seed, 5);
    const float dt_scale = draw(seed, 3) == 0 ? 30.0f : 1.0f; // decays that underflow
    const int64_t count = draw_pieces(seed, &shapes[s], taps, pieces);
    case_open(&cpu, shapes[s], taps, pieces, count, dt_scale);
    MUST(case_run(world->cpu, &cpu));
    for (int64_t i = 0; i < count; i++) {
        out[i] = pieces[i].state_out;
        if (out[i] != NULL) pieces[i].state_out = case_state(&shapes[s], taps, 0);
    }
    case_open(&cuda, shapes[s], taps, pieces, count, dt_scale);
    MUST(case_run(world->cuda, &cuda));
    bool states = true;
    for (int64_t i = 0; i < count; i++) {
        if (out[i] != NULL) {
            states = states && memcmp(out[i], pieces[i].state_out, cpu.layer_bytes) == 0;
        }
        free(out[i]);
        free(pieces[i].state_out);
        free((void *)(uintptr_t)pieces[i].state_in);
    }
    expect(tally, same_bits(&cuda.xbc, &cpu.xbc), "shape %d, %d taps: convolution", s, (int)taps);
    expect(tally, same_bits(&cuda.cumsum, &cpu.cumsum), "shape %d: cumsum", s);
    expect(tally, same_floats(cuda.states, cpu.states, cpu.batch.tiles * cpu.state_floats),
           "shape %d: states before tiles", s);
    expect(tally, same_bits(&cuda.y, &cpu.y), "shape %d: y", s);
    expect(tally, states, "shape %d: states out", s);
    case_close(&cpu);
    case_close(&cuda);
}

bool check_scan(const struct world *world) {
    struct tally tally = {.part = "scan"};
    uint64_t seed = 1;
    for (int s = 0; s < (world->small ? 4 : SHAPES); s++) {
        for (int turn = 0; turn < (world->small ? 1 : 6); turn++) {
            check_batch(world, &tally, s, &seed);
        }
    }
    printf("scan: %d cases, %d wrong\n", tally.cases, tally.failures);
    return tally.failures == 0;
}
