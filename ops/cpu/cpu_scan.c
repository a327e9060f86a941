// The five stages of the scan: which tile, group or head each turn of the team's loop takes.
//
//   1. A turn reads what earlier stages wrote and writes what no other turn touches.
//   2. Heads come first in the order of turns, so that a worker meets the same heads, and finds
//      their states in its own cache, in chunk_state, state_passing and chunk_scan.
//   3. What nobody can see is not computed: the sum of a span's last tile without a state_out, and
//      the state before a first tile without a state_in (zero). A document of one tile costs no
//      state at all. Those places of `states` are left as they are.

#include "ops/cpu/kernels.h"

#include <string.h>

struct scan_job {
    const struct scan_args *args;
    const struct scan_kernels *kernels;
    int64_t blocks; // of SCAN_PASS_FLOATS in a head's state
};

static struct scan_job scan_job_of(struct backend *backend, const struct scan_args *args) {
    const int64_t floats = args->shape.d_state * args->shape.head_dim;
    return (struct scan_job){
        .args = args,
        .kernels = cpu_backend_of(backend)->kernels->scan,
        .blocks = (floats + SCAN_PASS_FLOATS - 1) / SCAN_PASS_FLOATS,
    };
}

static bool first_of_span(const struct scan_args *args, int64_t tile) {
    return args->batch.span[args->batch.tile[tile].span].first_tile == tile;
}

static bool last_of_span(const struct scan_args *args, int64_t tile) {
    const struct scan_span *span = &args->batch.span[args->batch.tile[tile].span];
    return span->first_tile + span->tiles - 1 == tile;
}

// The tile's own sum, seen by the tile after it or by state_out.
static bool sum_is_seen(const struct scan_args *args, int64_t tile) {
    const struct scan_span *span = &args->batch.span[args->batch.tile[tile].span];
    return span->state_out != NULL || !last_of_span(args, tile);
}

// The state before the tile is zero, and not in memory.
static bool starts_from_zero(const struct scan_args *args, int64_t tile) {
    const struct scan_span *span = &args->batch.span[args->batch.tile[tile].span];
    return span->state_in == NULL && first_of_span(args, tile);
}

static float *head_state(const struct scan_args *args, int64_t tile, int64_t head) {
    const struct scan_shape *shape = &args->shape;
    return args->states + (tile * shape->heads + head) * shape->d_state * shape->head_dim;
}

static float *group_cb(const struct scan_args *args, int64_t tile, int64_t group) {
    const int64_t square = (int64_t)CPU_TILE_TOKENS * CPU_TILE_TOKENS;
    return args->cb + (tile * args->shape.groups + group) * square;
}

static struct head_tile head_tile_of(const struct scan_args *args, int64_t tile, int64_t head) {
    const struct scan_shape *shape = &args->shape;
    const int64_t row = args->batch.tile[tile].row;
    const int64_t group = head / (shape->heads / shape->groups);
    const float *xbc = args->xbc.data + row * args->xbc.stride;
    const float *b = xbc + shape->heads * shape->head_dim + group * shape->d_state;
    return (struct head_tile){
        .rows = args->batch.tile[tile].rows,
        .head_dim = shape->head_dim,
        .d_state = shape->d_state,
        .x = xbc + head * shape->head_dim,
        .b = b,
        .c = b + shape->groups * shape->d_state,
        .xbc_stride = args->xbc.stride,
        .dt = args->dt.data + row * args->dt.stride + head,
        .dt_stride = args->dt.stride,
        .cumsum = args->cumsum.data + row * args->cumsum.stride + head,
        .cumsum_stride = args->cumsum.stride,
        .cb = group_cb(args, tile, group),
        .state = starts_from_zero(args, tile) ? NULL : head_state(args, tile, head),
        .d = args->d[head],
        .y = args->y.data + row * args->y.stride + head * shape->head_dim,
        .y_stride = args->y.stride,
    };
}

static void cumsum_tile(int64_t index, int64_t worker, const void *argument) {
    (void)worker;
    const struct scan_args *args = ((const struct scan_job *)argument)->args;
    const struct scan_tile *tile = &args->batch.tile[index];
    for (int64_t i = 0; i < tile->rows; i++) {
        const float *dt = args->dt.data + (tile->row + i) * args->dt.stride;
        float *sum = args->cumsum.data + (tile->row + i) * args->cumsum.stride;
        const float *before = i == 0 ? NULL : sum - args->cumsum.stride;
        for (int64_t h = 0; h < args->shape.heads; h++) {
            const float step = dt[h] * args->a[h];
            sum[h] = before == NULL ? step : before[h] + step;
        }
    }
}

enum status cpu_chunk_cumsum(struct backend *backend, const struct scan_args *args) {
    const struct scan_job job = scan_job_of(backend, args);
    team_run(cpu_backend_of(backend)->team, args->batch.tiles, cumsum_tile, &job);
    return STATUS_OK;
}

static void cb_tile(int64_t index, int64_t worker, const void *argument) {
    (void)worker;
    const struct scan_job *job = argument;
    const struct scan_args *args = job->args;
    const struct scan_shape *shape = &args->shape;
    const int64_t group = index % shape->groups;
    const struct scan_tile *tile = &args->batch.tile[index / shape->groups];
    const float *b = args->xbc.data + tile->row * args->xbc.stride +
                     shape->heads * shape->head_dim + group * shape->d_state;
    const struct group_tile part = {
        .b = b,
        .c = b + shape->groups * shape->d_state,
        .stride = args->xbc.stride,
        .rows = tile->rows,
        .d_state = shape->d_state,
        .cb = group_cb(args, index / shape->groups, group),
    };
    job->kernels->chunk_cb(&part);
}

enum status cpu_chunk_cb(struct backend *backend, const struct scan_args *args) {
    const struct scan_job job = scan_job_of(backend, args);
    team_run(cpu_backend_of(backend)->team, args->batch.tiles * args->shape.groups, cb_tile, &job);
    return STATUS_OK;
}

static void state_head(int64_t index, int64_t worker, const void *argument) {
    (void)worker;
    const struct scan_job *job = argument;
    const int64_t tile = index % job->args->batch.tiles;
    const int64_t head = index / job->args->batch.tiles;
    if (!sum_is_seen(job->args, tile)) return;
    struct head_tile part = head_tile_of(job->args, tile, head);
    part.state = head_state(job->args, tile, head);
    job->kernels->chunk_state(&part);
}

enum status cpu_chunk_state(struct backend *backend, const struct scan_args *args) {
    const struct scan_job job = scan_job_of(backend, args);
    team_run(cpu_backend_of(backend)->team, args->batch.tiles * args->shape.heads, state_head,
             &job);
    return STATUS_OK;
}

// One block of one head of one span, tile by tile. The block in hand lies on the stack, so that
// state_in is read before state_out is written, which may be the same memory.
static void pass_block(int64_t index, int64_t worker, const void *argument) {
    (void)worker;
    const struct scan_job *job = argument;
    const struct scan_args *args = job->args;
    const int64_t floats = args->shape.d_state * args->shape.head_dim;
    const struct scan_span *span = &args->batch.span[index % args->batch.spans];
    // Backwards: what chunk_state wrote last is still near.
    const int64_t turns = args->shape.heads * job->blocks;
    const int64_t turn = turns - 1 - index / args->batch.spans;
    const int64_t head = turn / job->blocks;
    const int64_t first = turn % job->blocks * SCAN_PASS_FLOATS;
    const int64_t count = floats - first < SCAN_PASS_FLOATS ? floats - first : SCAN_PASS_FLOATS;
    const size_t bytes = (size_t)count * sizeof(float);
    _Alignas(64) float h[SCAN_PASS_FLOATS];
    if (span->state_in == NULL) {
        memset(h, 0, bytes);
    } else {
        const char *layer = span->state_in + args->batch.layer * span->in_layer_bytes;
        memcpy(h, (const float *)(const void *)layer + head * floats + first, bytes);
    }
    for (int64_t t = span->first_tile; t < span->first_tile + span->tiles; t++) {
        const struct scan_tile *tile = &args->batch.tile[t];
        const int64_t last = tile->row + tile->rows - 1;
        job->kernels->pass(args->cumsum.data[last * args->cumsum.stride + head], count, h,
                           head_state(args, t, head) + first, !starts_from_zero(args, t),
                           sum_is_seen(args, t));
    }
    if (span->state_out == NULL) return;
    char *layer = span->state_out + args->batch.layer * span->out_layer_bytes;
    memcpy((float *)(void *)layer + head * floats + first, h, bytes);
}

enum status cpu_state_passing(struct backend *backend, const struct scan_args *args) {
    const struct scan_job job = scan_job_of(backend, args);
    team_run(cpu_backend_of(backend)->team, args->batch.spans * args->shape.heads * job.blocks,
             pass_block, &job);
    return STATUS_OK;
}

static void scan_head(int64_t index, int64_t worker, const void *argument) {
    (void)worker;
    const struct scan_job *job = argument;
    const int64_t tile = index % job->args->batch.tiles;
    const struct head_tile part = head_tile_of(job->args, tile, index / job->args->batch.tiles);
    job->kernels->chunk_scan(&part);
}

enum status cpu_chunk_scan(struct backend *backend, const struct scan_args *args) {
    const struct scan_job job = scan_job_of(backend, args);
    team_run(cpu_backend_of(backend)->team, args->batch.tiles * args->shape.heads, scan_head, &job);
    return STATUS_OK;
}
