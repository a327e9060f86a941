#define _DEFAULT_SOURCE // MAP_NORESERVE; before any header of the system

// Offsets and products of strides beyond 2^31 and 2^32, where a number of 32 bits anywhere
// gives another result or a crash. Memory is reserved, not used: rows lie far apart in it, and only
// the pages of the rows themselves are ever touched.

#include "ops/model/safetensors.h"
#include "ops/op.h"
#include "tests/scan_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cmocka.h>

#define ROWS        70
#define WIDE_STRIDE INT64_C(70000000) // so that 31 rows, of a tile or of a block, are 2^31 apart
#define ISAS_MOST   8

// Zeros. Where so much may not even be reserved, the test is skipped.
static void *reserve(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        print_message("cannot reserve %zu bytes of addresses\n", bytes);
        skip();
    }
    (void)madvise(memory, bytes, MADV_NOHUGEPAGE); // a row is to cost a page or two
    return memory;
}

static size_t wide_bytes(int64_t rows) {
    return (size_t)(rows * WIDE_STRIDE) * sizeof(float);
}

static struct matrix wide_of(const struct matrix *dense) {
    struct matrix wide = *dense;
    wide.data = reserve(wide_bytes(dense->rows));
    wide.stride = WIDE_STRIDE;
    for (int64_t r = 0; r < dense->rows; r++) {
        memcpy(wide.data + r * wide.stride, dense->data + r * dense->stride,
               (size_t)dense->columns * sizeof(float));
    }
    return wide;
}

static void wide_free(struct matrix *wide) {
    munmap(wide->data, wide_bytes(wide->rows));
}

static void expect_equal(const struct matrix *wide, const struct matrix *dense) {
    for (int64_t r = 0; r < dense->rows; r++) {
        assert_memory_equal(wide->data + r * wide->stride, dense->data + r * dense->stride,
                            (size_t)dense->columns * sizeof(float));
    }
}

static struct matrix drawn(int64_t rows, int64_t columns, uint64_t seed) {
    struct matrix made = case_matrix(rows, columns, 3);
    for (int64_t i = 0; i < rows * made.stride; i++) {
        made.data[i] = case_number(seed, i, 0);
    }
    return made;
}

static void with_backends(void (*check)(struct backend *backend)) {
    const char *isa[ISAS_MOST];
    const size_t count = cpu_isa_list(isa, ISAS_MOST);
    for (size_t i = 0; i < count; i++) {
        const struct cpu_backend_settings settings = {.threads = 2, .isa = isa[i]};
        struct backend *backend = NULL;
        assert_int_equal(cpu_backend_open(&settings, &backend), STATUS_OK);
        check(backend);
        backend->table->close(backend);
    }
}

static void check_row_operators(struct backend *backend) {
    struct matrix a = drawn(ROWS, 96, 1), b = drawn(ROWS, 96, 2), out = drawn(ROWS, 96, 3);
    struct matrix weight = drawn(96, 96, 4);
    struct matrix wide_a = wide_of(&a), wide_b = wide_of(&b), wide_out = wide_of(&out);
    struct packed_weight *packed = NULL;
    int32_t token[ROWS];
    float nll[ROWS], wide_nll[ROWS];
    for (int32_t i = 0; i < ROWS; i++) {
        token[i] = (i * 31 + ROWS - 1) % ROWS;
    }
    weight.stride = weight.columns; // as pack wants it
    assert_int_equal(backend->table->pack(backend, weight.data, 96, 96, &packed), STATUS_OK);

    struct embedding_args embedding = {token, a, out};
    assert_int_equal(op_embedding(backend, &embedding), STATUS_OK);
    embedding = (struct embedding_args){token, wide_a, wide_out};
    assert_int_equal(op_embedding(backend, &embedding), STATUS_OK);
    expect_equal(&wide_out, &out);

    struct rms_norm_args norm = {a, out, weight.data, 1e-5f};
    assert_int_equal(op_rms_norm(backend, &norm), STATUS_OK);
    norm = (struct rms_norm_args){wide_a, wide_out, weight.data, 1e-5f};
    assert_int_equal(op_rms_norm(backend, &norm), STATUS_OK);
    expect_equal(&wide_out, &out);

    struct dt_args dt = {a, out, weight.data, 0.0f, 1.0f};
    assert_int_equal(op_dt(backend, &dt), STATUS_OK);
    dt = (struct dt_args){wide_a, wide_out, weight.data, 0.0f, 1.0f};
    assert_int_equal(op_dt(backend, &dt), STATUS_OK);
    expect_equal(&wide_out, &out);

    struct linear_args linear = {a, packed, weight.data, out, true};
    assert_int_equal(op_linear(backend, &linear), STATUS_OK);
    linear = (struct linear_args){wide_a, packed, weight.data, wide_out, true};
    assert_int_equal(op_linear(backend, &linear), STATUS_OK);
    expect_equal(&wide_out, &out);

    for (int first = 0; first < 2; first++) {
        struct gated_norm_args gated = {a, b, out, weight.data, 2, 1e-5f, first == 1};
        assert_int_equal(op_gated_norm(backend, &gated), STATUS_OK);
        gated =
            (struct gated_norm_args){wide_a, wide_b, wide_out, weight.data, 2, 1e-5f, first == 1};
        assert_int_equal(op_gated_norm(backend, &gated), STATUS_OK);
        expect_equal(&wide_out, &out);
    }

    struct head_args head = {a, packed, token, nll};
    assert_int_equal(op_head(backend, &head), STATUS_OK);
    head = (struct head_args){wide_a, packed, token, wide_nll};
    assert_int_equal(op_head(backend, &head), STATUS_OK);
    assert_memory_equal(wide_nll, nll, sizeof nll);

    backend->table->release_packed(backend, packed);
    wide_free(&wide_a);
    wide_free(&wide_b);
    wide_free(&wide_out);
    free(a.data);
    free(b.data);
    free(out.data);
    free(weight.data);
}

static void rows_lie_far_apart(void **state) {
    (void)state;
    with_backends(check_row_operators);
}

// A span of two tiles that goes on from a state and leaves one, in the last layer of slots of 3 GiB.
static void check_scan_stages(struct backend *backend) {
    const struct scan_shape shape = {.heads = 4, .head_dim = 16, .d_state = 24, .groups = 2};
    const int64_t layer = 5, wide_layer = INT64_C(1) << 29;
    const size_t layer_bytes = case_layer_bytes(&shape, 4);
    char *in = case_state(&shape, 4, 7), *out = case_state(&shape, 4, 0);
    char *wide_in = reserve((size_t)(layer * wide_layer) + layer_bytes);
    char *wide_out = reserve((size_t)(layer * wide_layer) + layer_bytes);
    const struct piece pieces[] = {
        {.seed = 1,       .first = 64,      .rows = ROWS - 2, .state_in = in, .state_out = out},
        {.seed = 2, .rows = 2}
    };
    struct scan_case dense;
    case_open(&dense, shape, 4, pieces, 2, 1.0f);
    struct scan_case wide = dense;
    wide.raw = wide_of(&dense.raw);
    wide.xbc = wide_of(&dense.xbc);
    wide.dt = wide_of(&dense.dt);
    wide.cumsum = wide_of(&dense.cumsum);
    wide.y = wide_of(&dense.y);
    memcpy(wide_in + layer * wide_layer, in, layer_bytes);
    assert_int_equal(case_run(backend, &dense), STATUS_OK);

    wide.batch.span = wide.span;
    wide.batch.layer = (int32_t)layer;
    wide.span[0].state_in = wide_in;
    wide.span[0].state_out = wide_out;
    wide.span[0].in_layer_bytes = wide.span[0].out_layer_bytes = wide_layer;
    assert_int_equal(case_run(backend, &wide), STATUS_OK);
    expect_equal(&wide.y, &dense.y);
    assert_memory_equal(wide_out + layer * wide_layer, out, layer_bytes);

    wide_free(&wide.raw);
    wide_free(&wide.xbc);
    wide_free(&wide.dt);
    wide_free(&wide.cumsum);
    wide_free(&wide.y);
    munmap(wide_in, (size_t)(layer * wide_layer) + layer_bytes);
    munmap(wide_out, (size_t)(layer * wide_layer) + layer_bytes);
    case_close(&dense);
    free(in);
    free(out);
}

static void rows_and_layers_of_a_scan_lie_far_apart(void **state) {
    (void)state;
    with_backends(check_scan_stages);
}

#define TILES INT64_C(530000) // times the 4096 numbers of a tile's cb or state: beyond 2^31

// So many documents of one token, whose states nobody needs, and one of two tiles behind them.
static void tiles_are_many(void **state) {
    const struct scan_shape shape = {.heads = 1, .head_dim = 16, .d_state = 256, .groups = 1};
    const int64_t floats = 16 * 256, columns = 16 + 2 * 256, last = TILES - 2;
    const int64_t square = (int64_t)CPU_TILE_TOKENS * CPU_TILE_TOKENS;
    const size_t states_bytes = (size_t)(TILES * floats) * sizeof(float);
    const size_t cb_bytes = (size_t)(TILES * square) * sizeof(float);
    const size_t xbc_bytes = (size_t)((TILES + ROWS) * columns) * sizeof(float);
    struct backend *backend = NULL;
    (void)state;
    assert_int_equal(cpu_backend_open(&(struct cpu_backend_settings){.threads = 2}, &backend),
                     STATUS_OK);
    char *out = case_state(&shape, 4, 0), *far_out = case_state(&shape, 4, 0);
    const struct piece piece = {.seed = 3, .rows = ROWS, .state_out = out};
    struct scan_case few;
    case_open(&few, shape, 4, &piece, 1, 1.0f);
    assert_int_equal(case_run(backend, &few), STATUS_OK);

    struct scan_tile *tile = calloc((size_t)TILES, sizeof *tile);
    struct scan_span *span = calloc((size_t)TILES, sizeof *span);
    assert_non_null(tile);
    assert_non_null(span);
    for (int64_t t = 0; t < last; t++) {
        tile[t] = (struct scan_tile){t, 1, (int32_t)t};
        span[t] = (struct scan_span){.row = t, .rows = 1, .first_tile = t, .tiles = 1};
    }
    tile[last] = (struct scan_tile){last, 64, (int32_t)last};
    tile[last + 1] = (struct scan_tile){last + 64, ROWS - 64, (int32_t)last};
    span[last] = (struct scan_span){
        .row = last, .rows = ROWS, .first_tile = last, .tiles = 2, .state_out = far_out};
    const int64_t rows = last + ROWS;
    struct scan_args many = case_scan_args(&few);
    many.batch = (struct scan_batch){
        .rows = rows, .tiles = TILES, .spans = last + 1, .tile = tile, .span = span};
    many.xbc = (struct matrix){reserve(xbc_bytes), rows, columns, columns};
    many.dt = (struct matrix){calloc((size_t)rows, sizeof(float)), rows, 1, 1};
    many.cumsum = (struct matrix){calloc((size_t)rows, sizeof(float)), rows, 1, 1};
    many.y = (struct matrix){calloc((size_t)rows, 16 * sizeof(float)), rows, 16, 16};
    many.states = reserve(states_bytes);
    many.cb = reserve(cb_bytes);
    for (int64_t r = 0; r < ROWS; r++) {
        memcpy(many.xbc.data + (last + r) * columns, few.xbc.data + r * few.xbc.stride,
               (size_t)columns * sizeof(float));
        many.dt.data[last + r] = few.dt.data[r * few.dt.stride];
    }
    // chunk_cb writes to every tile, which is too much: its share of the last two is put there.
    memcpy(many.cb + last * square, few.cb, (size_t)(2 * square) * sizeof(float));
    assert_int_equal(op_chunk_cumsum(backend, &many), STATUS_OK);
    assert_int_equal(op_chunk_state(backend, &many), STATUS_OK);
    assert_int_equal(op_state_passing(backend, &many), STATUS_OK);
    assert_int_equal(op_chunk_scan(backend, &many), STATUS_OK);
    const struct matrix y = {many.y.data + last * 16, ROWS, 16, 16};
    expect_equal(&y, &few.y);
    assert_memory_equal(far_out, out, (size_t)floats * sizeof(float));
    // What lies before the second tile lies where it belongs, and not somewhere else twice.
    assert_memory_equal(many.states + (last + 1) * floats, few.states + floats,
                        (size_t)floats * sizeof(float));

    munmap(many.xbc.data, xbc_bytes);
    munmap(many.states, states_bytes);
    munmap(many.cb, cb_bytes);
    free(many.dt.data);
    free(many.cumsum.data);
    free(many.y.data);
    free(span);
    free(tile);
    case_close(&few);
    free(out);
    free(far_out);
    backend->table->close(backend);
}

static void tensors_lie_far_apart(void **state) {
    const size_t bytes = (size_t)6 << 30;
    char header[256];
    const int length = snprintf(header, sizeof header,
                                "{\"a\":{\"dtype\":\"F32\",\"shape\":[1100000000],"
                                "\"data_offsets\":[0,4400000000]},"
                                "\"b\":{\"dtype\":\"F32\",\"shape\":[50000,2],"
                                "\"data_offsets\":[4400000000,4400400000]}}");
    char *file = reserve(bytes);
    struct tensors parsed;
    const uint64_t header_bytes = (uint64_t)length;
    (void)state;
    memcpy(file, &header_bytes, sizeof header_bytes);
    memcpy(file + 8, header, (size_t)length);
    assert_int_equal(
        safetensors_parse("far", file, 8 + (size_t)length + (size_t)4400400000, &parsed),
        STATUS_OK);
    assert_int_equal(tensors_find(&parsed, "a")->count, 1100000000);
    assert_ptr_equal(tensors_find(&parsed, "b")->data, file + 8 + length + 4400000000);
    tensors_free(&parsed);
    munmap(file, bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_lie_far_apart),
        cmocka_unit_test(rows_and_layers_of_a_scan_lie_far_apart),
        cmocka_unit_test(tiles_are_many),
        cmocka_unit_test(tensors_lie_far_apart),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
