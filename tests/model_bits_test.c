// The model's scores are the same bits however a document is cut, packed, windowed, queued or
// handed over from rank to rank.

#include "tests/model_bench.h"

#include <math.h>

static void windows_and_threads_change_nothing(void **state) {
    (void)state;
    static const struct {
        int64_t window, threads;
    } cases[] = {
        {64,   1},
        {128,  2},
        {1024, 3},
        {4096, 1}
    };
    struct golden golden;
    float whole[TEXT_MOST], nll[TEXT_MOST];
    read_golden("golden/passkey-1.8m/text.json", &golden);
    struct bench bench = open_bench("models/passkey-1.8m", 0, 0);
    score_whole(&bench, &golden, whole);
    close_bench(&bench);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bench = open_bench("models/passkey-1.8m", cases[i].window, cases[i].threads);
        memset(nll, 0xFF, sizeof nll);
        score_whole(&bench, &golden, nll);
        assert_same_bits("other windows", nll, whole, golden.tokens);
        close_bench(&bench);
    }
}

static void steps_change_nothing(void **state) {
    (void)state;
    struct golden golden;
    float whole[TEXT_MOST], nll[TEXT_MOST];
    int32_t target[TEXT_MOST];
    read_golden("golden/passkey-1.8m/text.json", &golden);
    make_targets(&golden, target);
    struct bench bench = open_bench("models/passkey-1.8m", 192, 0);
    char *slot[2] = {make_slot(&bench), make_slot(&bench)};
    score_whole(&bench, &golden, whole);
    for (int64_t cut = 1; cut <= 3; cut++) {
        // 1024 tokens a step; 2048 and the rest; 1024 and the rest
        const int64_t first = cut == 2 ? 2 * CHUNK_TOKENS : CHUNK_TOKENS;
        const int64_t later = cut == 1 ? CHUNK_TOKENS : STEP_TOKENS;
        int turn = 0;
        memset(nll, 0xFF, sizeof nll);
        for (int64_t at = 0; at < golden.tokens;) {
            int64_t rows = at == 0 ? first : later;
            if (rows > golden.tokens - at) rows = golden.tokens - at;
            const struct model_span span = {
                .rows = rows,
                .state_in = at == 0 ? NULL : slot[1 - turn],
                .state_out = at + rows < golden.tokens ? slot[turn] : NULL,
            };
            run(&bench, golden.token + at, target + at, &span, 1, NULL, nll + at);
            at += rows;
            turn = 1 - turn;
        }
        assert_same_bits("cut into steps", nll, whole, golden.tokens);
    }
    drop_slot(&bench, slot[0]);
    drop_slot(&bench, slot[1]);
    close_bench(&bench);
}

// The document between others of all lengths, cut over two steps, each time at other rows.
static void neighbours_change_nothing(void **state) {
    (void)state;
    static const int64_t before[][4] = {
        {1,    1,   1,  1  },
        {63,   64,  65, 1  },
        {2,    500, 3,  129},
        {1000, 1,   1,  7  }
    };
    struct golden golden;
    float whole[TEXT_MOST], nll[TEXT_MOST];
    int32_t token[TEXT_MOST], target[TEXT_MOST], own_target[TEXT_MOST];
    read_golden("golden/passkey-1.8m/text.json", &golden);
    make_targets(&golden, own_target);
    struct bench bench = open_bench("models/passkey-1.8m", 256, 0);
    char *slot = make_slot(&bench), *spare = make_slot(&bench);
    score_whole(&bench, &golden, whole);
    for (size_t i = 0; i < sizeof before / sizeof before[0]; i++) {
        for (int64_t part = 0; part < 2; part++) {
            const int64_t from = part == 0 ? 0 : 2 * CHUNK_TOKENS;
            const int64_t rows = part == 0 ? 2 * CHUNK_TOKENS : golden.tokens - from;
            struct model_span spans[6] = {{0}};
            int64_t at = 0, own_at = 0;
            for (int s = 0; s < 6; s++) {
                const bool own = s == (part == 0 ? 2 : 4);
                spans[s].rows = own ? rows : before[(i + (size_t)part) % 4][s % 4];
                if (own) {
                    own_at = at;
                    spans[s].state_in = part == 0 ? NULL : slot;
                    spans[s].state_out = part == 0 ? slot : NULL;
                } else if (s == 3) {
                    spans[s].state_out = spare;
                }
                for (int64_t row = 0; row < spans[s].rows; row++, at++) {
                    token[at] = own ? golden.token[from + row] : (int32_t)((at * 31 + s) % 256);
                    target[at] = own ? own_target[from + row] : (int32_t)((at * 7 + s) % 256);
                }
            }
            run(&bench, token, target, spans, 6, NULL, nll);
            assert_same_bits("packed", nll + own_at, whole + from, rows);
        }
    }
    drop_slot(&bench, slot);
    drop_slot(&bench, spare);
    close_bench(&bench);
}

// Stands for both neighbours: keeps the state that comes from the left until it is asked for, and
// takes what goes to the right at the moment it is said to be ready.
struct line {
    struct boundary boundary;
    const struct model_info *info;
    const char *left;    // what arrives; NULL: nothing
    char *arriving;      // where it is to be seen from then on
    const char *leaving; // what is ready to leave; NULL: nothing
    char *right;         // where it is taken to
    int arrived, left_count;
    int next_layer[2][STATE_PARTS]; // arrive, leave
};

static void copy_part(const struct line *line, char *to, const char *from, int32_t layer,
                      enum state_part part) {
    const size_t at = (size_t)layer * line->info->layer_bytes, ssm = line->info->ssm_bytes;
    if (to == NULL || from == NULL) return;
    if (part == STATE_SSM) {
        memcpy(to + at, from + at, ssm);
    } else {
        memcpy(to + at + ssm, from + at + ssm, line->info->layer_bytes - ssm);
    }
}

static enum status line_arrive(struct boundary *boundary, int32_t layer, enum state_part part) {
    struct line *line = (struct line *)(void *)boundary;
    assert_int_equal(line->next_layer[0][part]++, layer);
    copy_part(line, line->arriving, line->left, layer, part);
    line->arrived++;
    return STATUS_OK;
}

static enum status line_leave(struct boundary *boundary, int32_t layer, enum state_part part) {
    struct line *line = (struct line *)(void *)boundary;
    assert_int_equal(line->next_layer[1][part]++, layer);
    copy_part(line, line->right, line->leaving, layer, part);
    line->left_count++;
    return STATUS_OK;
}

// Two ranks, one after the other, `first` tokens on the left one. The left rank packs another
// document before it, the right one some behind it, one of `neighbour` tokens: fewer than three
// make it ask for the convolution's part early. Window sizes differ.
static void hand_over(const struct golden *golden, const float *whole, int64_t first,
                      const int64_t windows[2], int64_t neighbour) {
    struct line line[2] = {{.boundary = {line_arrive, line_leave}},
                           {.boundary = {line_arrive, line_leave}}};
    struct bench bench = open_bench("models/passkey-1.8m", windows[0], 0);
    const size_t bytes =
        (size_t)model_info(bench.model)->layers * model_info(bench.model)->layer_bytes;
    char *sent = malloc(bytes), *slot = make_slot(&bench);
    float nll[TEXT_MOST];
    int32_t token[TEXT_MOST], target[TEXT_MOST], own_target[TEXT_MOST];
    assert_non_null(sent);
    memset(sent, 0xFF, bytes);
    make_targets(golden, own_target);

    const int64_t rows = golden->tokens - first;
    const struct model_span left[2] = {
        {.rows = 100       },
        { .rows = first, .state_out = slot}
    };
    memcpy(token, golden->token, 100 * sizeof *token);
    memcpy(target, own_target, 100 * sizeof *target);
    memcpy(token + 100, golden->token, (size_t)first * sizeof *token);
    memcpy(target + 100, own_target, (size_t)first * sizeof *target);
    line[0].info = model_info(bench.model);
    line[0].leaving = slot;
    line[0].right = sent;
    run(&bench, token, target, left, 2, &line[0].boundary, nll);
    assert_same_bits("left of the cut", nll + 100, whole, first);
    assert_int_equal(line[0].left_count, 2 * line[0].info->layers);
    drop_slot(&bench, slot);
    close_bench(&bench);

    bench = open_bench("models/passkey-1.8m", windows[1], 0);
    slot = make_slot(&bench);
    char *next = make_slot(&bench);
    struct model_span right[3] = {{.rows = rows}, {.rows = neighbour}, {.rows = 70}};
    right[0].state_in = slot;
    right[1].state_out = next;
    for (int64_t i = 0; i < rows + neighbour + 70; i++) {
        const int64_t at = i < rows ? first + i : i - rows;
        token[i] = golden->token[at];
        target[i] = own_target[at];
    }
    line[1].info = model_info(bench.model);
    line[1].left = sent;
    line[1].arriving = slot;
    run(&bench, token, target, right, 3, &line[1].boundary, nll);
    assert_same_bits("right of the cut", nll, whole + first, rows);
    assert_int_equal(line[1].arrived, 2 * line[1].info->layers);
    drop_slot(&bench, slot);
    drop_slot(&bench, next);
    close_bench(&bench);
    free(sent);
}

static void hand_over_changes_nothing(void **state) {
    (void)state;
    struct golden golden;
    float whole[TEXT_MOST];
    read_golden("golden/passkey-1.8m/text.json", &golden);
    struct bench bench = open_bench("models/passkey-1.8m", 0, 0);
    score_whole(&bench, &golden, whole);
    close_bench(&bench);
    hand_over(&golden, whole, CHUNK_TOKENS, (const int64_t[]){128, 256}, 2);
    hand_over(&golden, whole, 2 * CHUNK_TOKENS, (const int64_t[]){4096, 64}, 3);
}

// A span of one or two tokens with a state on both sides: its convolution tail holds inputs that
// came from the left, so they must be there before it is made.
static void the_shortest_spans_carry_on(void **state) {
    (void)state;
    struct golden golden;
    float whole[TEXT_MOST], nll[TEXT_MOST];
    int32_t target[TEXT_MOST];
    read_golden("golden/tiny-groups/golden.json", &golden);
    golden.tokens = 40;
    make_targets(&golden, target);
    struct bench bench = open_bench("golden/tiny-groups", 64, 0);
    const size_t bytes =
        (size_t)model_info(bench.model)->layers * model_info(bench.model)->layer_bytes;
    score_whole(&bench, &golden, whole);
    char *slot[2] = {make_slot(&bench), make_slot(&bench)};
    char *sent = malloc(bytes);
    assert_non_null(sent);
    for (int64_t at = 0, turn = 0; at < golden.tokens; turn = 1 - turn) {
        const int64_t rows = at < 10 ? 10 : 1 + at % 2;
        struct line line = {
            .boundary = {line_arrive, line_leave},
              .info = model_info(bench.model)
        };
        line.left = at == 0 ? NULL : sent;
        line.arriving = slot[turn];
        line.leaving = slot[1 - turn];
        line.right = sent;
        memset(slot[turn], 0xFF, bytes);
        memset(slot[1 - turn], 0xFF, bytes);
        const struct model_span span = {.rows =
                                            rows < golden.tokens - at ? rows : golden.tokens - at,
                                        .state_in = at == 0 ? NULL : slot[turn],
                                        .state_out = slot[1 - turn]};
        run(&bench, golden.token + at, target + at, &span, 1, &line.boundary, nll + at);
        at += span.rows;
    }
    // The scan's sums are grouped by tile, and these cuts are off the tiles' borders: near, not equal.
    for (int64_t i = 0; i < golden.tokens; i++) {
        if (!(fabsf(nll[i] - whole[i]) <= 1e-4F)) {
            fail_msg("position %d: %.9g, expected %.9g", (int)i, (double)nll[i], (double)whole[i]);
        }
    }
    free(sent);
    drop_slot(&bench, slot[0]);
    drop_slot(&bench, slot[1]);
    close_bench(&bench);
}

// Three steps queued at once on a backend that is late: each reads its own tables, and the
// caller's arrays may go as soon as model_run returns.
static void a_late_queue_changes_nothing(void **state) {
    (void)state;
    struct golden golden;
    float whole[TEXT_MOST], nll[TEXT_MOST];
    int32_t token[CHUNK_TOKENS], target[CHUNK_TOKENS], own_target[TEXT_MOST];
    read_golden("golden/passkey-1.8m/text.json", &golden);
    make_targets(&golden, own_target);
    struct bench bench = open_queued_bench("models/passkey-1.8m", 256, 0, true);
    char *slot[2] = {make_slot(&bench), make_slot(&bench)};
    score_whole(&bench, &golden, whole);
    for (int64_t at = 0, turn = 0; at < golden.tokens; at += CHUNK_TOKENS, turn = 1 - turn) {
        const int64_t left = golden.tokens - at, rows = left < CHUNK_TOKENS ? left : CHUNK_TOKENS;
        struct model_span span = {
            .rows = rows, .state_in = at == 0 ? NULL : slot[1 - turn], .state_out = slot[turn]};
        struct model_step step = {.rows = rows,
                                  .token = token,
                                  .target = target,
                                  .spans = &span,
                                  .span_count = 1,
                                  .nll = nll + at};
        memcpy(token, golden.token + at, (size_t)rows * sizeof *token);
        memcpy(target, own_target + at, (size_t)rows * sizeof *target);
        assert_int_equal(model_run(bench.model, &step), STATUS_OK);
        memset(token, 0xFF, sizeof token);
        memset(target, 0xFF, sizeof target);
        memset(&span, 0xFF, sizeof span);
    }
    assert_int_equal(bench.backend->table->wait(bench.backend), STATUS_OK);
    assert_same_bits("queued", nll, whole, golden.tokens);
    drop_slot(&bench, slot[0]);
    drop_slot(&bench, slot[1]);
    close_bench(&bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_and_threads_change_nothing),
        cmocka_unit_test(steps_change_nothing),
        cmocka_unit_test(neighbours_change_nothing),
        cmocka_unit_test(hand_over_changes_nothing),
        cmocka_unit_test(the_shortest_spans_carry_on),
        cmocka_unit_test(a_late_queue_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
