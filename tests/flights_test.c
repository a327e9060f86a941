// Steps that are queued one behind the other, none waited for: each runs with its own tables, however
// late the queue is and whatever the caller does with its arrays meanwhile.

#include "ops/cpu/cpu_backend.h"
#include "ops/model/mamba2.h"
#include "ops/model/random_weights.h"
#include "tests/queue_backend.h"

#include <stdlib.h>
#include <string.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define VOCAB  97
#define ROWS   300 // the most of a step
#define WINDOW 128
#define COUNT  ((int)(sizeof shapes / sizeof shapes[0]))

static const char config_text[] =
    "{\"model_type\":\"mamba2\",\"hidden_size\":48,\"num_hidden_layers\":3,\"state_size\":16,"
    "\"head_dim\":12,\"num_heads\":8,\"expand\":2,\"n_groups\":2,\"vocab_size\":97,"
    "\"tie_word_embeddings\":true}";

static const struct {
    int64_t rows, span, apart; // of spans' rows; of the rows that are asked, 0: none is
} shapes[] = {
    {ROWS, ROWS, 7},
    {ROWS, 1,    1}, // no step has more tiles, pieces and asked rows
    {5,    2,    0},
    {129,  64,   1},
    {ROWS, 1,    1},
    {64,   63,   9},
    {1,    1,    1},
    {257,  100,  3}
};

// A step, the arrays that it names, and what came of it. What is asked of a row is the same bits
// whatever else is asked, so that `best` lies by row here.
struct flight {
    struct model_step step;
    int32_t token[ROWS], target[ROWS], asked[ROWS];
    struct model_span span[ROWS];
    float nll[ROWS];
    struct best_token best[ROWS];
};

static uint32_t draw(uint32_t *random, uint32_t below) {
    *random = *random * 1664525U + 1013904223U;
    return (*random >> 16) % below;
}

// The last span's state is where the next step's first span begins.
static void make_flight(int which, char *const *slot, struct flight *flight) {
    const int64_t rows = shapes[which].rows, apart = shapes[which].apart;
    uint32_t random = (uint32_t)which + 1;
    struct model_step *step = &flight->step;
    memset(flight, 0, sizeof *flight);
    for (int64_t i = 0; i < rows; i++) {
        flight->token[i] = (int32_t)draw(&random, VOCAB);
        flight->target[i] = (int32_t)draw(&random, VOCAB + 1) - 1;
        if (apart > 0 && i % apart == 0) flight->asked[step->asked_count++] = (int32_t)i;
    }
    for (int64_t row = 0; row < rows; row += shapes[which].span) {
        const int64_t left = rows - row;
        flight->span[step->span_count++].rows =
            left < shapes[which].span ? left : shapes[which].span;
    }
    if (which > 0) flight->span[0].state_in = slot[(which + 1) % 2];
    flight->span[step->span_count - 1].state_out = slot[which % 2];
    step->rows = rows;
    step->token = flight->token;
    step->target = flight->target;
    step->spans = flight->span;
    step->asked = flight->asked;
    step->nll = flight->nll;
    step->best = flight->best;
}

// The caller's arrays, gone: still such that a step which reads them would run.
static void forget(struct flight *flight) {
    memset(flight->token, 0, sizeof flight->token);
    memset(flight->target, 0, sizeof flight->target);
    memset(flight->asked, 0, sizeof flight->asked);
    memset(flight->span, 0, sizeof flight->span);
}

// What a step's tables should be; looked at on the queue, behind their copy.
struct sight {
    struct flight own;
    struct windows_settings cutting;
    struct step_tables tables;
    bool same;
};

static bool same_windows(const struct sight *sight) {
    static struct scan_tile tile[ROWS];
    static struct scan_span piece[2 * ROWS];
    static struct window window[ROWS];
    struct windows windows = {.tile = tile, .piece = piece, .window = window};
    windows_cut(&sight->cutting, sight->own.span, sight->own.step.span_count, &windows);
    return memcmp(sight->tables.tile, tile, (size_t)windows.tiles * sizeof *tile) == 0 &&
           memcmp(sight->tables.piece, piece, (size_t)windows.pieces * sizeof *piece) == 0;
}

static void look(void *argument) {
    struct sight *sight = argument;
    const struct flight *own = &sight->own;
    const size_t ids = (size_t)own->step.rows * sizeof(int32_t);
    const int64_t count = own->step.asked_count;
    sight->same = memcmp(sight->tables.token, own->token, ids) == 0 &&
                  memcmp(sight->tables.target, own->target, ids) == 0 && same_windows(sight);
    for (int64_t i = 0; i < count; i++) {
        if (sight->tables.asked[i] != own->asked[i] ||
            sight->tables.asked[count + i] != own->target[own->asked[i]]) {
            sight->same = false;
        }
    }
}

static void tables_are_the_steps_own(void **state) {
    (void)state;
    static struct sight sight[COUNT];
    static struct flight flight;
    char carry[2], slots[2], *slot[2] = {&slots[0], &slots[1]};
    const struct windows_settings cutting = {
        .window_rows = WINDOW,
        .window_tiles = WINDOW,
        .tile_tokens = 64,
        .layer_bytes = 1,
        .carry = {&carry[0], &carry[1]}
    };
    struct tables_room room = {0};
    struct backend *backend = NULL;
    assert_int_equal(queue_backend_open(NULL, 3, 3000, &backend), STATUS_OK);
    assert_int_equal(tables_room_make(backend, &cutting, ROWS, ROWS, &room), STATUS_OK);
    for (int i = 0; i < COUNT; i++) {
        make_flight(i, slot, &flight);
        make_flight(i, slot, &sight[i].own);
        sight[i].cutting = cutting;
        assert_int_equal(tables_upload(backend, &cutting, &flight.step, &room, &sight[i].tables),
                         STATUS_OK);
        assert_int_equal(backend->table->call(backend, look, &sight[i]), STATUS_OK);
        forget(&flight);
    }
    assert_int_equal(backend->table->wait(backend), STATUS_OK);
    for (int i = 0; i < COUNT; i++) {
        if (!sight[i].same) fail_msg("step %d ran with other tables than its own", i);
    }
    tables_room_free(backend, &room);
    backend->table->close(backend);
}

struct world {
    struct mamba2_config config;
    struct mamba2_weights weights;
    struct backend *backend;
    struct model *model;
    char *slot[2];
};

static void open_world(struct world *world, bool late) {
    const struct cpu_backend_settings cpu = {.threads = 1, .window_tokens = WINDOW};
    const struct model_settings settings = {.step_tokens = ROWS, .asked_most = ROWS};
    assert_int_equal(config_parse("config", config_text, strlen(config_text), &world->config),
                     STATUS_OK);
    assert_int_equal(weights_random(&world->config, 7, &world->weights), STATUS_OK);
    assert_int_equal(cpu_backend_open(&cpu, &world->backend), STATUS_OK);
    if (late) {
        struct backend *inner = world->backend;
        assert_int_equal(queue_backend_open(inner, 3, 300, &world->backend), STATUS_OK);
    }
    assert_int_equal(mamba2_open(&world->config, &world->weights, "small", world->backend,
                                 &settings, &world->model),
                     STATUS_OK);
    const struct model_info *info = model_info(world->model);
    for (int i = 0; i < 2; i++) {
        void *memory = NULL;
        assert_int_equal(world->backend->table->alloc(
                             world->backend, (size_t)info->layers * info->layer_bytes, &memory),
                         STATUS_OK);
        world->slot[i] = memory;
    }
}

static void close_world(struct world *world) {
    model_close(world->model);
    for (int i = 0; i < 2; i++) {
        world->backend->table->release(world->backend, world->slot[i]);
    }
    world->backend->table->close(world->backend);
    weights_close(&world->weights);
}

static void run_and_wait(const struct world *world, const struct model_step *step) {
    assert_int_equal(model_run(world->model, step), STATUS_OK);
    assert_int_equal(world->backend->table->wait(world->backend), STATUS_OK);
}

// One by one; the NLLs while nothing is asked, then the answers while every row is.
static void run_alone(struct flight *flight) {
    struct world world = {0};
    open_world(&world, false);
    for (int i = 0; i < COUNT; i++) {
        make_flight(i, world.slot, &flight[i]);
        struct model_step step = flight[i].step;
        float nll[ROWS];
        int32_t every[ROWS];
        for (int32_t row = 0; row < ROWS; row++) {
            every[row] = row;
        }
        step.asked_count = 0;
        run_and_wait(&world, &step);
        step.nll = nll;
        step.asked = every;
        step.asked_count = step.rows;
        run_and_wait(&world, &step);
    }
    close_world(&world);
}

static void run_at_once(struct flight *flight) {
    struct world world = {0};
    open_world(&world, true);
    for (int i = 0; i < COUNT; i++) {
        make_flight(i, world.slot, &flight[i]);
        assert_int_equal(model_run(world.model, &flight[i].step), STATUS_OK);
        forget(&flight[i]);
    }
    assert_int_equal(world.backend->table->wait(world.backend), STATUS_OK);
    close_world(&world);
}

static void steps_under_way_change_nothing(void **state) {
    (void)state;
    static struct flight alone[COUNT], late[COUNT];
    run_alone(alone);
    run_at_once(late);
    for (int i = 0; i < COUNT; i++) {
        const int64_t rows = alone[i].step.rows, asked = late[i].step.asked_count;
        for (int64_t row = 0; row < rows; row++) {
            if (memcmp(&late[i].nll[row], &alone[i].nll[row], sizeof(float)) == 0) continue;
            fail_msg("step %d, row %d: NLL %.9g, alone %.9g", i, (int)row, (double)late[i].nll[row],
                     (double)alone[i].nll[row]);
        }
        for (int64_t at = 0; at < asked; at++) {
            const struct best_token *got = &late[i].best[at];
            const struct best_token *expected = &alone[i].best[alone[i].asked[at]];
            if (memcmp(got, expected, sizeof *got) == 0) continue;
            fail_msg("step %d, answer %d: %d %.9g, alone %d %.9g", i, (int)at, got->token,
                     (double)got->margin, expected->token, (double)expected->margin);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_the_steps_own),
        cmocka_unit_test(steps_under_way_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
