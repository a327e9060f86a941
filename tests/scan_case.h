#pragma once
// Batches of ragged spans for the tests of the convolution and the scan. Numbers are drawn from
// (seed, position), so that a document is the same wherever it lies and however it is cut.

#include "ops/backend.h"
#include "ops/cpu/cpu_backend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CASE_PIECES 40
#define CASE_TILES  160

// Some tokens of the document `seed`, from position `first` on.
struct piece {
    uint64_t seed;
    int64_t first, rows;
    const char *state_in;
    char *state_out;
};

struct scan_case {
    struct scan_shape shape;
    int64_t d_conv, conv_width, d_inner, state_floats; // of the SSM part
    size_t layer_bytes;
    struct scan_tile tile[CASE_TILES];
    struct scan_span span[CASE_PIECES];
    struct scan_batch batch;
    struct matrix raw, xbc, dt, cumsum, y;
    float *a, *d, *taps, *bias, *states, *cb;
};

// In [-1, 1), from splitmix64's mixing function.
static inline float case_number(uint64_t seed, int64_t position, int64_t what) {
    uint64_t x = seed * 0x9e3779b97f4a7c15U + (uint64_t)position * 0xbf58476d1ce4e5b9U +
                 (uint64_t)what * 0x94d049bb133111ebU;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    x ^= x >> 31;
    return (float)((double)(x >> 40) / (double)(1U << 23) - 1.0);
}

// All NaN: what an operator reads without having written it shows.
static inline float *case_floats(int64_t count) {
    float *floats = malloc((size_t)(count > 0 ? count : 1) * sizeof *floats);
    if (floats == NULL) abort();
    for (int64_t i = 0; i < count; i++) {
        floats[i] = NAN;
    }
    return floats;
}

// Rows a few numbers longer than they need to be, as slices of a larger matrix are.
static inline struct matrix case_matrix(int64_t rows, int64_t columns, int64_t more) {
    return (struct matrix){case_floats(rows * (columns + more)), rows, columns, columns + more};
}

static inline size_t case_layer_bytes(const struct scan_shape *shape, int64_t d_conv) {
    const int64_t inner = shape->heads * shape->head_dim;
    const int64_t tail = (d_conv - 1) * (inner + 2 * shape->groups * shape->d_state);
    return (size_t)(inner * shape->d_state + tail) * sizeof(float);
}

// A state of one layer: drawn from the seed, or NaN for seed 0.
static inline char *case_state(const struct scan_shape *shape, int64_t d_conv, uint64_t seed) {
    const int64_t count = (int64_t)(case_layer_bytes(shape, d_conv) / sizeof(float));
    float *state = case_floats(count);
    for (int64_t i = 0; seed != 0 && i < count; i++) {
        state[i] = case_number(seed, -1, i);
    }
    return (char *)state;
}

static inline void case_place(struct scan_case *c, const struct piece *pieces, int64_t count) {
    int64_t row = 0, tiles = 0;
    for (int64_t s = 0; s < count; s++) {
        struct scan_span *span = &c->span[s];
        *span = (struct scan_span){
            .row = row,
            .rows = pieces[s].rows,
            .first_tile = tiles,
            .tiles = (pieces[s].rows + CPU_TILE_TOKENS - 1) / CPU_TILE_TOKENS,
            .state_in = pieces[s].state_in,
            .state_out = pieces[s].state_out,
        };
        if (s == CASE_PIECES || tiles + span->tiles > CASE_TILES) abort();
        for (int64_t t = 0; t < span->tiles; t++) {
            const int64_t rest = span->rows - t * CPU_TILE_TOKENS;
            c->tile[tiles++] = (struct scan_tile){
                .row = row + t * CPU_TILE_TOKENS,
                .rows = (int32_t)(rest < CPU_TILE_TOKENS ? rest : CPU_TILE_TOKENS),
                .span = (int32_t)s,
            };
        }
        row += span->rows;
    }
    c->batch = (struct scan_batch){
        .rows = row,
        .tiles = tiles,
        .spans = count,
        .tile = c->tile,
        .span = c->span,
        .conv_offset = c->d_inner * c->shape.d_state * (int64_t)sizeof(float),
    };
}

// dt log-uniform in 0.001 to 0.1 times dt_scale; A from -1 to -16.
static inline void case_fill(struct scan_case *c, const struct piece *pieces, float dt_scale) {
    for (int64_t s = 0; s < c->batch.spans; s++) {
        for (int64_t t = 0; t < pieces[s].rows; t++) {
            const int64_t position = pieces[s].first + t;
            float *raw = c->raw.data + (c->span[s].row + t) * c->raw.stride;
            float *dt = c->dt.data + (c->span[s].row + t) * c->dt.stride;
            for (int64_t k = 0; k < c->conv_width; k++) {
                raw[k] = 2.0f * case_number(pieces[s].seed, position, k);
            }
            for (int64_t h = 0; h < c->shape.heads; h++) {
                const float u = case_number(pieces[s].seed, position, c->conv_width + h);
                dt[h] = dt_scale * 0.01f * powf(10.0f, u);
            }
        }
    }
    for (int64_t h = 0; h < c->shape.heads; h++) {
        c->a[h] = -8.5f - 7.5f * case_number(1, h, 1);
        c->d[h] = case_number(1, h, 2);
    }
    for (int64_t k = 0; k < c->conv_width; k++) {
        c->bias[k] = case_number(1, k, 3);
        for (int64_t j = 0; j < c->d_conv; j++) {
            c->taps[k * c->d_conv + j] = case_number(1, k, 4 + j);
        }
    }
}

static inline void case_open(struct scan_case *c, struct scan_shape shape, int64_t d_conv,
                             const struct piece *pieces, int64_t count, float dt_scale) {
    *c = (struct scan_case){.shape = shape, .d_conv = d_conv};
    c->d_inner = shape.heads * shape.head_dim;
    c->conv_width = c->d_inner + 2 * shape.groups * shape.d_state;
    c->state_floats = c->d_inner * shape.d_state;
    c->layer_bytes = case_layer_bytes(&shape, d_conv);
    case_place(c, pieces, count);
    c->raw = case_matrix(c->batch.rows, c->conv_width, 5);
    c->xbc = case_matrix(c->batch.rows, c->conv_width, 3);
    c->dt = case_matrix(c->batch.rows, shape.heads, 1);
    c->cumsum = case_matrix(c->batch.rows, shape.heads, 2);
    c->y = case_matrix(c->batch.rows, c->d_inner, 7);
    c->a = case_floats(shape.heads);
    c->d = case_floats(shape.heads);
    c->taps = case_floats(c->conv_width * d_conv);
    c->bias = case_floats(c->conv_width);
    c->states = case_floats(c->batch.tiles * c->state_floats);
    c->cb = case_floats(c->batch.tiles * shape.groups * CPU_TILE_TOKENS * CPU_TILE_TOKENS);
    case_fill(c, pieces, dt_scale);
}

static inline void case_close(struct scan_case *c) {
    free(c->raw.data);
    free(c->xbc.data);
    free(c->dt.data);
    free(c->cumsum.data);
    free(c->y.data);
    free(c->a);
    free(c->d);
    free(c->taps);
    free(c->bias);
    free(c->states);
    free(c->cb);
}

static inline struct conv_args case_conv_args(const struct scan_case *c) {
    return (struct conv_args){.batch = c->batch,
                              .in = c->raw,
                              .out = c->xbc,
                              .weight = c->taps,
                              .bias = c->bias,
                              .d_conv = c->d_conv};
}

static inline struct scan_args case_scan_args(const struct scan_case *c) {
    return (struct scan_args){.batch = c->batch,
                              .shape = c->shape,
                              .xbc = c->xbc,
                              .dt = c->dt,
                              .cumsum = c->cumsum,
                              .a = c->a,
                              .d = c->d,
                              .states = c->states,
                              .cb = c->cb,
                              .y = c->y};
}

// Everything from the raw input to y and the states out.
static inline enum status case_run(struct backend *backend, const struct scan_case *c) {
    const struct backend_table *table = backend->table;
    const struct conv_args conv = case_conv_args(c);
    const struct scan_args scan = case_scan_args(c);
    TRY(table->conv_tail(backend, &conv));
    TRY(table->causal_conv(backend, &conv));
    TRY(table->chunk_cumsum(backend, &scan));
    TRY(table->chunk_cb(backend, &scan));
    TRY(table->chunk_state(backend, &scan));
    TRY(table->state_passing(backend, &scan));
    TRY(table->chunk_scan(backend, &scan));
    return table->wait(backend);
}
