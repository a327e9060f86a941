// Offsets and products of strides beyond 2^31 and 2^32: rows that lie 70 million numbers apart on
// the device give the bits of rows side by side. Takes 60 GiB of the device.

#include "ops/op.h"
#include "tests/gpu/check.h"

#define ROWS        70
#define COLUMNS     96
#define WIDE_STRIDE INT64_C(70000000) // so that 31 rows, of a tile or of a block, are 2^31 apart

static struct backend *device;

// The rows on the device, `stride` apart.
static struct matrix place(const struct matrix *host, int64_t stride) {
    struct matrix made = {NULL, host->rows, host->columns, stride};
    void *memory = NULL;
    MUST(device->table->alloc(device, (size_t)(host->rows * stride) * sizeof(float), &memory));
    made.data = memory;
    for (int64_t r = 0; r < host->rows; r++) {
        MUST(device->table->upload(device, made.data + r * stride, host->data + r * host->stride,
                                   (size_t)host->columns * sizeof(float)));
    }
    MUST(device->table->wait(device));
    return made;
}

static void *place_bytes(const void *host, size_t bytes) {
    void *memory = NULL;
    MUST(device->table->alloc(device, bytes, &memory));
    MUST(device->table->upload(device, memory, host, bytes));
    MUST(device->table->wait(device));
    return memory;
}

static bool same_rows(const struct matrix *a, const struct matrix *b) {
    float one[1024], other[1024];
    const size_t bytes = (size_t)a->columns * sizeof(float);
    CHECK(bytes <= sizeof one);
    for (int64_t r = 0; r < a->rows; r++) {
        MUST(device->table->download(device, one, a->data + r * a->stride, bytes));
        MUST(device->table->download(device, other, b->data + r * b->stride, bytes));
        MUST(device->table->wait(device));
        if (memcmp(one, other, bytes) != 0) return false;
    }
    return true;
}

struct operands {
    struct matrix a, b, out;
};

static struct operands place_operands(int64_t stride) {
    struct matrix a = drawn(1, ROWS, COLUMNS, 0, 1.0f), b = drawn(2, ROWS, COLUMNS, 0, 1.0f);
    struct operands made = {place(&a, stride), place(&b, stride), place(&b, stride)};
    free(a.data);
    free(b.data);
    return made;
}

static void drop_operands(struct operands *operands) {
    device->table->release(device, operands->a.data);
    device->table->release(device, operands->b.data);
    device->table->release(device, operands->out.data);
}

static void run_row_operator(int which, const struct operands *o, float *weight,
                             const struct packed_weight *packed, const int32_t *token) {
    switch (which) {
    case 0: MUST(op_embedding(device, &(struct embedding_args){token, o->a, o->out})); break;
    case 1: MUST(op_rms_norm(device, &(struct rms_norm_args){o->a, o->out, weight, 1e-5f})); break;
    case 2: MUST(op_dt(device, &(struct dt_args){o->a, o->out, weight, 0.0f, 1.0f})); break;
    case 3:
        MUST(op_linear(device, &(struct linear_args){o->a, packed, weight, o->out, true}));
        break;
    default:
        MUST(op_gated_norm(
            device, &(struct gated_norm_args){o->a, o->b, o->out, weight, 2, 1e-5f, which == 4}));
    }
}

static void check_row_operators(struct tally *tally) {
    struct operands dense = place_operands(COLUMNS + 3), wide = place_operands(WIDE_STRIDE);
    float *weight = drawn_floats(4, COLUMNS * COLUMNS, 1.0f);
    float *on_device = place_bytes(weight, (size_t)(COLUMNS * COLUMNS) * sizeof(float));
    struct packed_weight *packed = NULL;
    int32_t token[ROWS];
    for (int32_t i = 0; i < ROWS; i++) {
        token[i] = (i * 31 + ROWS - 1) % ROWS;
    }
    int32_t *tokens = place_bytes(token, sizeof token);
    MUST(device->table->pack(device, weight, COLUMNS, COLUMNS, &packed));
    for (int which = 0; which < 6; which++) {
        run_row_operator(which, &dense, on_device, packed, tokens);
        run_row_operator(which, &wide, on_device, packed, tokens);
        expect(tally, same_rows(&wide.out, &dense.out), "row operator %d", which);
    }
    struct matrix nll[2];
    for (int turn = 0; turn < 2; turn++) {
        float zero[ROWS] = {0};
        nll[turn] = (struct matrix){place_bytes(zero, sizeof zero), 1, ROWS, ROWS};
        const struct head_args head = {turn == 0 ? dense.a : wide.a, packed, tokens,
                                       nll[turn].data};
        MUST(op_head(device, &head));
    }
    expect(tally, same_rows(&nll[0], &nll[1]), "head");
    device->table->release(device, nll[0].data);
    device->table->release(device, nll[1].data);
    device->table->release_packed(device, packed);
    device->table->release(device, on_device);
    device->table->release(device, tokens);
    drop_operands(&dense);
    drop_operands(&wide);
    free(weight);
}

// One span of ROWS rows, its tables and small arrays on the device.
static struct scan_case place_case(const struct scan_case *host) {
    struct scan_case made = *host;
    const size_t square = (size_t)(CPU_TILE_TOKENS * CPU_TILE_TOKENS);
    const size_t tiles = (size_t)host->batch.tiles;
    made.batch.tile = place_bytes(host->tile, tiles * sizeof *host->tile);
    made.batch.span = place_bytes(host->span, sizeof *host->span);
    made.dt = place(&host->dt, host->dt.stride);
    made.a = place_bytes(host->a, (size_t)host->shape.heads * sizeof(float));
    made.d = place_bytes(host->d, (size_t)host->shape.heads * sizeof(float));
    made.taps = place_bytes(host->taps, (size_t)(host->conv_width * host->d_conv) * sizeof(float));
    made.bias = place_bytes(host->bias, (size_t)host->conv_width * sizeof(float));
    made.states = place_bytes(host->states, tiles * (size_t)host->state_floats * sizeof(float));
    made.cb = place_bytes(host->cb, tiles * (size_t)host->shape.groups * square * sizeof(float));
    return made;
}

static void place_matrices(struct scan_case *c, const struct scan_case *host, int64_t stride) {
    c->raw = place(&host->raw, stride > 0 ? stride : host->raw.stride);
    c->xbc = place(&host->raw, stride > 0 ? stride : host->raw.stride);
    c->y = place(&host->y, stride > 0 ? stride : host->y.stride);
    c->cumsum = place(&host->dt, host->dt.stride);
}

static void drop_matrices(struct scan_case *c) {
    device->table->release(device, c->raw.data);
    device->table->release(device, c->xbc.data);
    device->table->release(device, c->y.data);
    device->table->release(device, c->cumsum.data);
}

static void check_scan_rows(struct tally *tally) {
    const struct scan_shape shape = {2, 21, 19, 2};
    const struct piece piece = {3, 0, ROWS, NULL, NULL};
    struct scan_case host;
    case_open(&host, shape, 4, &piece, 1, 1.0f);
    struct scan_case dense = place_case(&host), wide = dense;
    place_matrices(&dense, &host, 0);
    place_matrices(&wide, &host, WIDE_STRIDE);
    MUST(case_run(device, &dense));
    MUST(case_run(device, &wide));
    expect(tally, same_rows(&wide.xbc, &dense.xbc), "causal_conv");
    expect(tally, same_rows(&wide.y, &dense.y), "scan");
    drop_matrices(&dense);
    drop_matrices(&wide);
    void *rest[] = {(void *)(uintptr_t)dense.batch.tile,
                    (void *)(uintptr_t)dense.batch.span,
                    dense.dt.data,
                    dense.a,
                    dense.d,
                    dense.taps,
                    dense.bias,
                    dense.states,
                    dense.cb};
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++) {
        device->table->release(device, rest[i]);
    }
    case_close(&host);
}

bool check_wide(struct world *world) {
    struct tally tally = {.part = "wide"};
    void *probe = NULL;
    device = mirror_inner(world->cuda);
    if (device->table->alloc(device, (size_t)60 << 30, &probe) != STATUS_OK) {
        printf("skipped: the device has no 60 GiB free\n");
        world->skipped = true;
        return true;
    }
    device->table->release(device, probe);
    check_row_operators(&tally);
    check_scan_rows(&tally);
    printf("wide: %d cases, %d wrong\n", tally.cases, tally.failures);
    return tally.failures == 0;
}
