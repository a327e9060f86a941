// A document's bits on the device: alone, among others, beside one of NaN, cut at 1024s with its
// state handed on, and whatever comes after a row.

#include "tests/gpu/check.h"

#define TAPS  4
#define SPANS 6

static const struct scan_shape shapes[] = {
    {3,  32, 32,  1},
    {2,  21, 19,  2},
    {24, 64, 128, 1},
};
static const int64_t lengths[SPANS] = {1, 200, 64, 65, 3, 130};

// What a document gave: y of its rows, dense, and the state after it.
struct result {
    float *y;
    char *state;
};

static void run_packed(struct backend *backend, const struct scan_shape *shape,
                       const int64_t *length, int64_t count, uint64_t first_seed, int64_t spoilt,
                       struct result *results) {
    struct piece pieces[SPANS];
    struct scan_case c;
    for (int64_t s = 0; s < count; s++) {
        const uint64_t seed = first_seed + (uint64_t)s;
        char *in = seed % 2 == 1 ? case_state(shape, TAPS, seed) : NULL;
        results[s].state = case_state(shape, TAPS, 0);
        pieces[s] = (struct piece){seed, 0, length[s], in, results[s].state};
    }
    case_open(&c, *shape, TAPS, pieces, count, 1.0f);
    for (int64_t r = 0; spoilt >= 0 && r < c.span[spoilt].rows; r++) {
        const int64_t row = c.span[spoilt].row + r;
        for (int64_t k = 0; k < c.conv_width; k++) {
            c.raw.data[row * c.raw.stride + k] = k % 2 == 0 ? NAN : INFINITY;
        }
        c.dt.data[row * c.dt.stride] = NAN;
    }
    MUST(case_run(backend, &c));
    for (int64_t s = 0; s < count; s++) {
        results[s].y = case_floats(length[s] * c.d_inner);
        for (int64_t r = 0; r < length[s]; r++) {
            memcpy(results[s].y + r * c.d_inner, c.y.data + (c.span[s].row + r) * c.y.stride,
                   (size_t)c.d_inner * sizeof(float));
        }
        free((void *)(uintptr_t)pieces[s].state_in);
    }
    case_close(&c);
}

static void drop(struct result *results, int64_t count) {
    for (int64_t s = 0; s < count; s++) {
        free(results[s].y);
        free(results[s].state);
    }
}

static bool same(const struct scan_shape *shape, const struct result *a, const struct result *b,
                 int64_t rows) {
    const size_t y_bytes = (size_t)(rows * shape->heads * shape->head_dim) * sizeof(float);
    return memcmp(a->y, b->y, y_bytes) == 0 &&
           memcmp(a->state, b->state, case_layer_bytes(shape, TAPS)) == 0;
}

static void check_neighbours(const struct world *world, struct tally *tally, int k) {
    struct result packed[SPANS], spoilt[SPANS];
    run_packed(world->cuda, &shapes[k], lengths, SPANS, 11, -1, packed);
    run_packed(world->cuda, &shapes[k], lengths, SPANS, 11, 2, spoilt);
    for (int64_t s = 0; s < SPANS; s++) {
        struct result alone;
        run_packed(world->cuda, &shapes[k], &lengths[s], 1, 11 + (uint64_t)s, -1, &alone);
        expect(tally, same(&shapes[k], &alone, &packed[s], lengths[s]), "shape %d, span %d alone",
               k, (int)s);
        if (s != 2) {
            expect(tally, same(&shapes[k], &spoilt[s], &packed[s], lengths[s]),
                   "shape %d, span %d beside NaN", k, (int)s);
        }
        drop(&alone, 1);
    }
    drop(packed, SPANS);
    drop(spoilt, SPANS);
}

// Pieces one after the other, each in a batch of its own.
static void check_cuts(const struct world *world, struct tally *tally, int k) {
    static const int64_t cuts[][4] = {
        {1024, 1024, 17, 0},
        {1024, 1041, 0,  0},
        {2048, 17,   0,  0}
    };
    const int64_t whole_rows = 2065;
    const int64_t d_inner = shapes[k].heads * shapes[k].head_dim;
    struct result whole;
    run_packed(world->cuda, &shapes[k], &whole_rows, 1, 31, -1, &whole);
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        struct result got = {.y = case_floats(whole_rows * d_inner),
                             .state = case_state(&shapes[k], TAPS, 31)};
        int64_t at = 0;
        for (int p = 0; p < 4 && cuts[i][p] > 0; p++) {
            struct scan_case c;
            char *next = case_state(&shapes[k], TAPS, 0);
            const struct piece piece = {31, at, cuts[i][p], got.state, next};
            case_open(&c, shapes[k], TAPS, &piece, 1, 1.0f);
            MUST(case_run(world->cuda, &c));
            for (int64_t r = 0; r < cuts[i][p]; r++) {
                memcpy(got.y + (at + r) * d_inner, c.y.data + r * c.y.stride,
                       (size_t)d_inner * sizeof(float));
            }
            at += cuts[i][p];
            free(got.state);
            got.state = next;
            case_close(&c);
        }
        expect(tally, same(&shapes[k], &got, &whole, whole_rows), "shape %d, cut %d", k, (int)i);
        drop(&got, 1);
    }
    drop(&whole, 1);
}

// NaN from some row on leaves the rows before it alone.
static void check_causality(const struct world *world, struct tally *tally, int k) {
    const struct piece piece = {41, 0, 150, NULL, NULL};
    struct scan_case whole;
    case_open(&whole, shapes[k], TAPS, &piece, 1, 1.0f);
    MUST(case_run(world->cuda, &whole));
    for (int64_t rows = 1; rows < 150; rows += world->small ? 70 : 13) {
        struct scan_case begun;
        case_open(&begun, shapes[k], TAPS, &piece, 1, 1.0f);
        for (int64_t r = rows; r < 150; r++) {
            begun.raw.data[r * begun.raw.stride + r % begun.conv_width] = NAN;
            begun.dt.data[r * begun.dt.stride + r % shapes[k].heads] = NAN;
        }
        MUST(case_run(world->cuda, &begun));
        bool right = true;
        for (int64_t r = 0; r < rows; r++) {
            right = right &&
                    memcmp(begun.y.data + r * begun.y.stride, whole.y.data + r * whole.y.stride,
                           (size_t)whole.d_inner * sizeof(float)) == 0;
        }
        expect(tally, right, "shape %d, NaN from row %d on", k, (int)rows);
        case_close(&begun);
    }
    case_close(&whole);
}

// state_in and state_out of the scan in the same memory, in a layer that is not the first.
static void check_state_in_place(const struct world *world, struct tally *tally, int k) {
    const int64_t layer_bytes = (int64_t)case_layer_bytes(&shapes[k], TAPS);
    const size_t ssm_bytes =
        (size_t)(shapes[k].heads * shapes[k].d_state * shapes[k].head_dim) * sizeof(float);
    char *slot[2];
    for (int turn = 0; turn < 2; turn++) {
        struct backend *backend = turn == 0 ? world->cpu : world->cuda;
        struct scan_case c;
        char *in = case_state(&shapes[k], TAPS, 51);
        slot[turn] = malloc((size_t)(3 * layer_bytes));
        CHECK(slot[turn] != NULL);
        memset(slot[turn], 0x77, (size_t)(3 * layer_bytes));
        memcpy(slot[turn] + 2 * layer_bytes, in, (size_t)layer_bytes);
        const struct piece piece = {51, 0, 150, slot[turn], slot[turn]};
        case_open(&c, shapes[k], TAPS, &piece, 1, 1.0f);
        c.batch.layer = 2;
        c.span[0].in_layer_bytes = c.span[0].out_layer_bytes = layer_bytes;
        const struct conv_args conv = case_conv_args(&c);
        const struct scan_args scan = case_scan_args(&c);
        MUST(backend->table->causal_conv(backend, &conv));
        MUST(backend->table->chunk_cumsum(backend, &scan));
        MUST(backend->table->chunk_cb(backend, &scan));
        MUST(backend->table->chunk_state(backend, &scan));
        MUST(backend->table->state_passing(backend, &scan));
        MUST(backend->table->chunk_scan(backend, &scan));
        case_close(&c);
        free(in);
    }
    const size_t before = (size_t)(2 * layer_bytes);
    expect(tally, memcmp(slot[0], slot[1], before + ssm_bytes) == 0, "shape %d: the state in place",
           k);
    free(slot[0]);
    free(slot[1]);
}

bool check_places(const struct world *world) {
    struct tally tally = {.part = "places"};
    for (int k = 0; k < (world->small ? 2 : 3); k++) {
        check_neighbours(world, &tally, k);
        if (!world->small) check_cuts(world, &tally, k);
        check_causality(world, &tally, k);
        check_state_in_place(world, &tally, k);
    }
    printf("places: %d cases, %d wrong\n", tally.cases, tally.failures);
    return tally.failures == 0;
}
