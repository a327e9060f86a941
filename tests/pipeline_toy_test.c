// The toy model of the pipeline's tests: right when all is right, and loud when anything is not.

#include "ops/model/model.h"
#include "tests/queue_backend.h"
#include "tests/toy_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOKENS (5 * CHUNK_TOKENS + 77)
#define STEP   (8 * CHUNK_TOKENS)
#define ASKED  6

struct toy {
    struct backend *backend;
    struct model *model;
    char *slot[4];
    int32_t token[2][TOKENS + 1]; // of two documents
    float expected[2][TOKENS], nll[2 * TOKENS];
};

static int setup(void **state) {
    struct toy *toy = calloc(1, sizeof *toy);
    assert_non_null(toy);
    assert_int_equal(queue_backend_open(NULL, 5, 100, &toy->backend), STATUS_OK);
    const struct model_settings settings = {.step_tokens = STEP, .asked_most = ASKED};
    const char *dir = "toy:layers=3,layer_bytes=256,vocab=50,delay_us=20";
    assert_int_equal(model_open(dir, toy->backend, &settings, &toy->model), STATUS_OK);
    for (int i = 0; i < 4; i++) {
        const size_t bytes = 3 * 256;
        assert_int_equal(toy->backend->table->alloc(toy->backend, bytes, (void **)&toy->slot[i]),
                         STATUS_OK);
    }
    uint32_t random = 12345;
    for (int d = 0; d < 2; d++) {
        for (int64_t i = 0; i < TOKENS; i++) {
            random = random * 1664525u + 1013904223u;
            toy->token[d][i] = (int32_t)(random >> 16) % 50;
        }
        toy->token[d][TOKENS] = -1; // the last row predicts nothing
        toy_expected_nlls(toy->token[d], TOKENS, toy->expected[d]);
    }
    *state = toy;
    return 0;
}

static int teardown(void **state) {
    struct toy *toy = *state;
    model_close(toy->model);
    for (int i = 0; i < 4; i++)
        toy->backend->table->release(toy->backend, toy->slot[i]);
    toy->backend->table->close(toy->backend);
    free(toy);
    return 0;
}

// One span of document d, run and waited for; the NLLs lie in toy->nll.
static void run(struct toy *toy, int d, int64_t first, int64_t rows, const char *in, char *out) {
    const struct model_span span = {rows, in, out};
    const struct model_step step = {.rows = rows,
                                    .token = toy->token[d] + first,
                                    .target = toy->token[d] + first + 1,
                                    .spans = &span,
                                    .span_count = 1,
                                    .nll = toy->nll};
    assert_int_equal(model_run(toy->model, &step), STATUS_OK);
    assert_int_equal(toy->backend->table->wait(toy->backend), STATUS_OK);
}

// Rows of document d from `first` on that are as expected; the row at i predicts position i + 1.
static int64_t right(const struct toy *toy, int d, int64_t first, int64_t rows) {
    int64_t count = 0;
    for (int64_t i = 0; i < rows; i++) {
        const bool end = first + i + 1 == TOKENS;
        const float expected = end ? 0.0f : toy->expected[d][first + i + 1];
        if (memcmp(&toy->nll[i], &expected, sizeof expected) == 0) count++;
    }
    return count;
}

static void whole_and_in_pieces(void **state) {
    struct toy *toy = *state;
    run(toy, 0, 0, TOKENS, NULL, NULL);
    assert_int_equal(right(toy, 0, 0, TOKENS), TOKENS);
    const int64_t two = 2 * CHUNK_TOKENS;
    run(toy, 0, 0, two, NULL, toy->slot[0]);
    run(toy, 0, two, two, toy->slot[0], toy->slot[1]);
    assert_int_equal(right(toy, 0, two, two), two);
    run(toy, 0, 2 * two, TOKENS - 2 * two, toy->slot[1], NULL);
    assert_int_equal(right(toy, 0, 2 * two, TOKENS - 2 * two), TOKENS - 2 * two);
    double sum = 0.0;
    for (int64_t i = 1; i < TOKENS; i++)
        sum += (double)toy->expected[0][i];
    assert_true(sum == toy_expected_nll(toy->token[0], TOKENS, 1));
    assert_true(toy->expected[0][9] == toy_nll(toy->token[0], 9, toy->token[0][9]));
}

static void packed(void **state) {
    struct toy *toy = *state;
    static int32_t token[2 * TOKENS], target[2 * TOKENS];
    const int64_t chunk = CHUNK_TOKENS;
    run(toy, 1, 0, chunk, NULL, toy->slot[2]);
    const struct model_span spans[2] = {
        {chunk,          NULL,         toy->slot[0]},
        {TOKENS - chunk, toy->slot[2], NULL        }
    };
    memcpy(token, toy->token[0], (size_t)chunk * sizeof *token);
    memcpy(target, toy->token[0] + 1, (size_t)chunk * sizeof *token);
    memcpy(token + chunk, toy->token[1] + chunk, (size_t)(TOKENS - chunk) * sizeof *token);
    memcpy(target + chunk, toy->token[1] + chunk + 1, (size_t)(TOKENS - chunk) * sizeof *token);
    const struct model_step step = {.rows = TOKENS,
                                    .token = token,
                                    .target = target,
                                    .spans = spans,
                                    .span_count = 2,
                                    .nll = toy->nll};
    assert_int_equal(model_run(toy->model, &step), STATUS_OK);
    assert_int_equal(toy->backend->table->wait(toy->backend), STATUS_OK);
    assert_int_equal(right(toy, 0, 0, chunk), chunk);
    memmove(toy->nll, toy->nll + chunk, (size_t)(TOKENS - chunk) * sizeof *toy->nll);
    assert_int_equal(right(toy, 1, chunk, TOKENS - chunk), TOKENS - chunk);
}

// What must not go unseen: a byte torn anywhere, a state of another document, layer or step, a chunk
// lost or twice, and a broken state handed on.
static void every_fault_is_seen(void **state) {
    struct toy *toy = *state;
    const int64_t chunk = CHUNK_TOKENS;
    run(toy, 0, 0, chunk, NULL, toy->slot[0]);
    for (size_t i = 0; i < 3 * 256; i += 5) {
        toy->slot[0][i] ^= 1;
        run(toy, 0, chunk, 16, toy->slot[0], NULL);
        assert_int_equal(right(toy, 0, chunk, 16), 0);
        toy->slot[0][i] ^= 1;
    }
    run(toy, 0, chunk, 16, toy->slot[0], NULL);
    assert_int_equal(right(toy, 0, chunk, 16), 16);

    run(toy, 0, 2 * chunk, 16, toy->slot[0], NULL); // a chunk lost
    assert_int_equal(right(toy, 0, 2 * chunk, 16), 0);
    run(toy, 0, 0, 16, toy->slot[0], NULL); // a chunk twice
    assert_int_equal(right(toy, 0, 0, 16), 0);
    run(toy, 1, 0, chunk, NULL, toy->slot[1]);
    run(toy, 0, chunk, 16, toy->slot[1], NULL); // a foreign state
    assert_int_equal(right(toy, 0, chunk, 16), 0);

    for (int part = 0; part < 6; part++) { // one part of one layer is foreign, stale, or elsewhere
        const size_t at = (size_t)(part / 2) * 256 + (part % 2 == 0 ? 0 : 192);
        const size_t bytes = part % 2 == 0 ? 192 : 64;
        memcpy(toy->slot[2], toy->slot[0], 3 * 256);
        memcpy(toy->slot[2] + at, toy->slot[1] + at, bytes);
        run(toy, 0, chunk, chunk, toy->slot[2], toy->slot[3]);
        assert_int_equal(right(toy, 0, chunk, chunk), 0);
        run(toy, 0, 2 * chunk, 16, toy->slot[3], NULL); // handed on
        assert_int_equal(right(toy, 0, 2 * chunk, 16), 0);
    }
    memcpy(toy->slot[2], toy->slot[0], 3 * 256);
    memcpy(toy->slot[2], toy->slot[0] + 256, 256); // a layer in another's place
    run(toy, 0, chunk, 16, toy->slot[2], NULL);
    assert_int_equal(right(toy, 0, chunk, 16), 0);
}

// Rows at the ends and borders of two spans, of which the second begins where no chunk does; and none.
static void asked_rows_are_answered(void **state) {
    struct toy *toy = *state;
    const int64_t first = CHUNK_TOKENS + 3, rows = 1500;
    static const int32_t asked[ASKED] = {0, 1, 1026, 1027, 1028, 1499};
    const struct model_span spans[2] = {
        {first,        NULL, toy->slot[0]},
        {rows - first, NULL, NULL        }
    };
    struct best_token best[ASKED] = {{0}};
    struct model_step step = {.rows = rows,
                              .token = toy->token[0],
                              .target = toy->token[0] + 1,
                              .spans = spans,
                              .span_count = 2,
                              .nll = toy->nll,
                              .asked = asked,
                              .asked_count = ASKED,
                              .best = best};
    assert_int_equal(model_run(toy->model, &step), STATUS_OK);
    assert_int_equal(toy->backend->table->wait(toy->backend), STATUS_OK);
    for (int i = 0; i < ASKED; i++) {
        const int64_t from = asked[i] < first ? 0 : first, tokens = asked[i] + 1 - from;
        const int32_t *token = toy->token[0] + from;
        const float margin = toy_margin(token, tokens, token[tokens]);
        assert_int_equal(best[i].token, toy_best(token, tokens));
        assert_true(best[i].token >= 0 && best[i].token < TOY_BEST_TOKENS);
        assert_memory_equal(&best[i].margin, &margin, sizeof margin);
        assert_true((margin > 0.0f) == (token[tokens] == best[i].token));
        assert_true(toy_margin(token, tokens, best[i].token) > 0.0f);
    }
    step.asked_count = 0;
    step.asked = NULL;
    step.best = NULL;
    assert_int_equal(model_run(toy->model, &step), STATUS_OK);
    assert_int_equal(toy->backend->table->wait(toy->backend), STATUS_OK);

    // A token at a time from where the first span ended, then from a broken state.
    for (int i = 0; i < 8; i++) {
        const struct model_span one = {1, toy->slot[i % 2], i == 6 ? NULL : toy->slot[(i + 1) % 2]};
        if (i == 7) toy->slot[1][8] ^= 1;
        step = (struct model_step){.rows = 1,
                                   .token = toy->token[0] + first + i,
                                   .target = toy->token[0] + first + i + 1,
                                   .spans = &one,
                                   .span_count = 1,
                                   .nll = toy->nll,
                                   .asked = asked,
                                   .asked_count = 1,
                                   .best = best};
        assert_int_equal(model_run(toy->model, &step), STATUS_OK);
        assert_int_equal(toy->backend->table->wait(toy->backend), STATUS_OK);
        const int32_t expected = toy_best(toy->token[0], first + i + 1);
        assert_int_equal(best[0].token, i == 7 ? -1 : expected);
    }
    assert_true(best[0].margin != best[0].margin);
}

struct seam {
    struct boundary boundary;
    int64_t calls;
    int seen[64];
};

static enum status arrive(struct boundary *boundary, int32_t layer, enum state_part part) {
    struct seam *seam = (struct seam *)(void *)boundary;
    seam->seen[seam->calls++] = layer * 4 + (part == STATE_CONV ? 0 : 2);
    return STATUS_OK;
}

static enum status leave(struct boundary *boundary, int32_t layer, enum state_part part) {
    struct seam *seam = (struct seam *)(void *)boundary;
    seam->seen[seam->calls++] = layer * 4 + (part == STATE_CONV ? 1 : 3);
    return STATUS_OK;
}

static void the_seam_is_called_in_order(void **state) {
    struct toy *toy = *state;
    struct seam seam = {
        .boundary = {arrive, leave}
    };
    const struct model_span span = {CHUNK_TOKENS, NULL, toy->slot[0]};
    const struct model_step step = {.rows = CHUNK_TOKENS,
                                    .token = toy->token[0],
                                    .target = toy->token[0] + 1,
                                    .spans = &span,
                                    .span_count = 1,
                                    .boundary = &seam.boundary,
                                    .nll = toy->nll};
    assert_int_equal(model_run(toy->model, &step), STATUS_OK);
    assert_int_equal(toy->backend->table->wait(toy->backend), STATUS_OK);
    assert_int_equal(seam.calls, 12);
    for (int i = 0; i < 12; i++)
        assert_int_equal(seam.seen[i], i);
}

static void settings_are_checked(void **state) {
    struct toy *toy = *state;
    const struct model_settings settings = {.step_tokens = 64};
    struct model *model = NULL;
    const char *wrong[] = {"mamba",         "toy:layers=0", "toy:layers", "toy:layer_bytes=65",
                           "toy:vocab=-1",  "toy:colour=1", "toyish",     "toy:layers=2,",
                           "toy:layers=2x", "toy:vocab="};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(model_open(wrong[i], toy->backend, &settings, &model), STATUS_MISMATCH);
        assert_null(model);
    }
    assert_int_equal(model_open("toy", toy->backend, &settings, &model), STATUS_OK);
    assert_int_equal(model_info(model)->layers, 3);
    assert_int_equal(model_info(model)->layer_bytes, 4096);
    assert_int_equal(model_info(model)->ssm_bytes, 3072);
    assert_true(model_info(model)->hash != model_info(toy->model)->hash);
    model_close(model);
}

int main(void) {
    log_setup(LOG_ERROR, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_and_in_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(packed, setup, teardown),
        cmocka_unit_test_setup_teardown(every_fault_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(asked_rows_are_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(the_seam_is_called_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(settings_are_checked, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
