// The planner: its eight invariants over random draws, and cases with a known answer.

#include "ops/base/clock.h"
#include "tests/plan_draw.h"

#define DOCUMENTS_MOST 3000
#define DRAWS          20000

// Some are branches: their states are needed though they close, they begin where others do, from one
// state, and anywhere if they are short.
static void draw_branch(struct random *random, struct plan_document *documents, int64_t i) {
    struct plan_document *document = &documents[i];
    struct plan_document *before = i > 0 ? document - 1 : NULL;
    *document = (struct plan_document){.first = document->first,
                                       .ready = document->ready,
                                       .closes = document->closes,
                                       .holder = document->holder,
                                       .keeps = below(random, 3) == 0};
    const bool is_short = document->closes && document->ready <= CHUNK_TOKENS;
    if (is_short && document->first > 0 && below(random, 2)) {
        document->first += below(random, CHUNK_TOKENS);
    }
    if (before == NULL || before->first == 0 || below(random, 3) > 0) return;
    if (before->first % CHUNK_TOKENS != 0 && !is_short) return;
    if (before->shared == 0) before->shared = (int32_t)i;
    document->first = before->first;
    document->holder = before->holder;
    document->shared = before->shared;
}

static int64_t draw_documents(struct random *random, int32_t ranks,
                              struct plan_document *documents) {
    const int64_t count = below(random, 2) ? below(random, 20) : length(random, DOCUMENTS_MOST);
    const double longest = pow(10.0, 1.0 + (double)below(random, 601) / 100.0);
    const int64_t held_by = below(random, 4); // all ranks, the first, the last, the left half
    for (int64_t i = 0; i < count; i++) {
        struct plan_document *document = &documents[i];
        document->closes = below(random, 2);
        document->ready = length(random, longest);
        if (!document->closes) document->ready -= document->ready % CHUNK_TOKENS;
        document->first = below(random, 2) ? 0 : CHUNK_TOKENS * (1 + below(random, 1000));
        document->holder = held_by == 0   ? (int32_t)below(random, ranks)
                           : held_by == 1 ? 0
                           : held_by == 2 ? ranks - 1
                                          : (int32_t)below(random, (ranks + 1) / 2);
        if (document->first == 0) document->holder = -1;
        draw_branch(random, documents, i);
    }
    return count;
}

static void random_plans_keep_all_invariants(void **state) {
    (void)state;
    static struct plan_document documents[DOCUMENTS_MOST];
    struct random random = {1};
    struct plan plan = {0};
    for (int64_t draw = 0; draw < DRAWS; draw++) {
        const int64_t dear = below(&random, 8);
        const struct plan_settings settings = {
            .ranks = (int32_t)(1 + below(&random, 16)),
            .step_tokens = CHUNK_TOKENS * (1 + below(&random, 32)),
            .move_tokens = below(&random, dear > 1    ? 256
                                          : dear == 1 ? 5000
                                                      : 10000000),
            .spans_most = below(&random, 4) ? 4096 : 1 + below(&random, 40),
        };
        const int64_t count = draw_documents(&random, settings.ranks, documents);
        assert_int_equal(plan_build(documents, count, &settings, &plan), STATUS_OK);
        expect_right(documents, count, &settings, &plan, "draw", draw);
    }
    plan_free(&plan);
}

// A state that several start from has one slot.
static bool counted(const struct plan_document *document, bool *seen) {
    if (document->shared == 0) return false;
    const bool before = seen[document->shared];
    seen[document->shared] = true;
    return before;
}

// Slots that the plan pins on a rank: what its spans start from and end in, and what is moved away.
static int64_t pinned_on(const struct plan *plan, const struct plan_document *documents,
                         int32_t rank, int64_t *leaving) {
    bool pinned[DOCUMENTS_MOST + 1] = {false}, left[DOCUMENTS_MOST + 1] = {false};
    int64_t slots = 0;
    *leaving = 0;
    for (int64_t i = 0; i < plan->span_count; i++) {
        const struct plan_span *span = &plan->spans[i];
        if (span->rank != rank) continue;
        const bool own = span->from == FROM_LEFT || span->from == FROM_MOVE;
        if (own || (span->from == FROM_SLOT && !counted(&documents[span->document], pinned))) {
            slots++;
        }
        if (span->to != TO_NOWHERE) slots++;
        if (span->to == TO_RIGHT) *leaving += 1;
    }
    for (int64_t i = 0; i < plan->move_count; i++) {
        const struct plan_document *document = &documents[plan->moves[i].document];
        if (plan->moves[i].from != rank) continue;
        if (!counted(document, left)) *leaving += 1;
        if (!counted(document, pinned)) slots++;
    }
    return slots;
}

static void no_rank_pins_more_slots_than_it_has(void **state) {
    (void)state;
    static struct plan_document documents[DOCUMENTS_MOST];
    static int64_t before[16], leaving[16];
    struct random random = {3};
    struct plan plan = {0};
    for (int64_t run = 0; run < 60; run++) {
        const struct plan_settings settings = {
            .ranks = (int32_t)(1 + below(&random, 16)),
            .step_tokens = CHUNK_TOKENS * (1 + below(&random, 8)),
            .move_tokens = below(&random, 256),
            .spans_most = 4096,
        };
        const int64_t slots = 2 * PLAN_SLOTS_LEAST + below(&random, 40);
        struct plan_pins pins;
        assert_int_equal(plan_pins_open(settings.ranks, &pins), STATUS_OK);
        memset(before, 0, sizeof before);
        for (int64_t step = 0; step < 30; step++) {
            const int64_t count = draw_documents(&random, settings.ranks, documents);
            for (int64_t i = 0; i < count; i++) { // the leader asks about no others
                if (documents[i].ready == 0) documents[i].ready = CHUNK_TOKENS;
            }
            assert_int_equal(plan_build_in_slots(documents, count, &settings, slots, &pins, &plan),
                             STATUS_OK);
            assert_true(count == 0 || plan.span_count > 0);
            for (int32_t r = 0; r < settings.ranks; r++) {
                assert_in_range(pinned_on(&plan, documents, r, &leaving[r]) + before[r], 0, slots);
            }
            memcpy(before, leaving, sizeof before);
        }
        plan_pins_close(&pins);
    }
    plan_free(&plan);
}

// Thousands of ends that lie on the ranks in the order of the queue, as the planner laid them: a rank
// whose slots do not do for all of its own leaves the others' alone.
static void slots_of_all_ranks_are_used(void **state) {
    (void)state;
    enum { RANKS = 8, EACH = 200, SLOTS = 24 };
    static struct plan_document documents[RANKS * EACH];
    const struct plan_settings settings = {RANKS, 4 * CHUNK_TOKENS, 128, 4096};
    struct plan plan = {0};
    struct plan_pins pins;
    int64_t leaving = 0;
    assert_int_equal(plan_pins_open(RANKS, &pins), STATUS_OK);
    for (int32_t i = 0; i < RANKS * EACH; i++) {
        documents[i] = (struct plan_document){
            .first = CHUNK_TOKENS, .ready = 10, .closes = true, .holder = i / EACH};
    }
    assert_int_equal(plan_build_in_slots(documents, RANKS * EACH, &settings, SLOTS, &pins, &plan),
                     STATUS_OK);
    for (int32_t r = 0; r < RANKS; r++) {
        assert_in_range(pinned_on(&plan, documents, r, &leaving), SLOTS - PLAN_SLOTS_LEAST, SLOTS);
    }
    assert_int_equal(plan.spans[0].document, 0); // the first in the queue
    plan_pins_close(&pins);
    plan_free(&plan);
}

// Thousands of ends from one state: they have one slot, so slots are not what bounds the step.
static void what_starts_from_one_state_has_one_slot(void **state) {
    (void)state;
    enum { RANKS = 2, COUNT = 400, SLOTS = 12 };
    struct plan_document documents[COUNT];
    const struct plan_settings settings = {RANKS, 2 * CHUNK_TOKENS, 1 << 20, 4096};
    struct plan plan = {0};
    struct plan_pins pins;
    int64_t leaving = 0;
    for (int32_t i = 0; i < COUNT; i++) {
        documents[i] = (struct plan_document){
            .first = 1500, .ready = 5, .closes = true, .holder = 1, .shared = 1};
    }
    assert_int_equal(plan_pins_open(RANKS, &pins), STATUS_OK);
    assert_int_equal(plan_build_in_slots(documents, COUNT, &settings, SLOTS, &pins, &plan),
                     STATUS_OK);
    assert_int_equal(plan.span_count, COUNT);
    assert_int_equal(plan.move_count, 0);
    assert_int_equal(pinned_on(&plan, documents, 1, &leaving), 1);
    plan_pins_close(&pins);
    plan_free(&plan);
}

static void the_same_again_gives_the_same(void **state) {
    (void)state;
    static struct plan_document documents[DOCUMENTS_MOST];
    struct random random = {2};
    struct plan plan = {0};
    for (int64_t draw = 0; draw < 200; draw++) {
        const struct plan_settings settings = {5, 8192, 100, 4096};
        const int64_t count = draw_documents(&random, settings.ranks, documents);
        struct plan other = {0};
        assert_int_equal(plan_build(documents, count, &settings, &plan), STATUS_OK);
        assert_int_equal(plan_build(documents, count, &settings, &other), STATUS_OK);
        assert_int_equal(plan.span_count, other.span_count);
        for (int64_t i = 0; i < plan.span_count; i++) {
            assert_memory_equal(&plan.spans[i], &other.spans[i], sizeof *plan.spans);
        }
        assert_int_equal(plan.move_count, other.move_count);
        for (int64_t i = 0; i < plan.move_count; i++) {
            assert_memory_equal(&plan.moves[i], &other.moves[i], sizeof *plan.moves);
        }
        plan_free(&other);
    }
    plan_free(&plan);
}

static void expect_span(const struct plan *plan, int64_t index, struct plan_span want) {
    assert_true(index < plan->span_count);
    const struct plan_span *span = &plan->spans[index];
    assert_int_equal(span->document, want.document);
    assert_int_equal(span->rank, want.rank);
    assert_int_equal(span->first, want.first);
    assert_int_equal(span->count, want.count);
    assert_int_equal(span->from, want.from);
    assert_int_equal(span->to, want.to);
}

// Small steps, and tails that their ranks hold: what has room for little must not end up empty.
static void the_first_is_served_however_small_the_step(void **state) {
    struct random random = {3};
    struct plan plan = {0};
    struct plan_document documents[24];
    (void)state;
    for (int64_t draw = 0; draw < 50000; draw++) {
        const struct plan_settings settings = {.ranks = 1 + (int32_t)below(&random, 8),
                                               .step_tokens =
                                                   CHUNK_TOKENS * (1 + below(&random, 3)),
                                               .move_tokens = below(&random, 2) * CHUNK_TOKENS / 8,
                                               .spans_most = 1024};
        const int64_t count = 1 + below(&random, 24);
        for (int64_t i = 0; i < count; i++) {
            const bool tail = below(&random, 2) == 0;
            documents[i] = (struct plan_document){
                .first = tail ? CHUNK_TOKENS : 0,
                .ready = 1 + below(&random, tail ? 300 : 1400),
                .closes = true,
                .holder = tail ? (int32_t)below(&random, settings.ranks) : -1};
        }
        assert_int_equal(plan_build(documents, count, &settings, &plan), STATUS_OK);
        expect_right(documents, count, &settings, &plan, "small step", draw);
        bool first = false;
        for (int64_t i = 0; i < plan.span_count; i++) {
            first = first || plan.spans[i].document == 0;
        }
        if (!first) fail_msg("draw %ld: the first of %ld waits", (long)draw, (long)count);
    }
    plan_free(&plan);
}

static void nothing_ready_gives_an_empty_plan(void **state) {
    (void)state;
    const struct plan_settings settings = {4, 4096, 100, 16};
    const struct plan_document documents[2] = {
        {.first = 0,    .holder = -1},
        {.first = 1024, .holder = 2 }
    };
    struct plan plan = {0};
    assert_int_equal(plan_build(NULL, 0, &settings, &plan), STATUS_OK);
    assert_int_equal(plan.span_count, 0);
    assert_int_equal(plan_build(documents, 2, &settings, &plan), STATUS_OK);
    assert_int_equal(plan.span_count, 0);
    assert_int_equal(plan.tokens, 0);
    plan_free(&plan);
    plan_free(&plan);
}

static void one_document_is_spread_evenly(void **state) {
    (void)state;
    const struct plan_settings settings = {4, 8192, 100, 16};
    const struct plan_document fresh = {.ready = 8 * 1024, .closes = true, .holder = -1};
    struct plan plan = {0};
    assert_int_equal(plan_build(&fresh, 1, &settings, &plan), STATUS_OK);
    assert_int_equal(plan.span_count, 4);
    expect_span(&plan, 0, (struct plan_span){0, 0, 0, 2048, FROM_ZERO, TO_RIGHT});
    expect_span(&plan, 1, (struct plan_span){0, 1, 2048, 2048, FROM_LEFT, TO_RIGHT});
    expect_span(&plan, 2, (struct plan_span){0, 2, 4096, 2048, FROM_LEFT, TO_RIGHT});
    expect_span(&plan, 3, (struct plan_span){0, 3, 6144, 2048, FROM_LEFT, TO_NOWHERE});
    assert_int_equal(plan.move_count, 0);
    plan_free(&plan);
}

static void a_giant_goes_round(void **state) {
    (void)state;
    const struct plan_settings settings = {3, 2048, 100, 16};
    const struct plan_document giant = {.first = 6144, .ready = 100 * 1024, .holder = 2};
    struct plan plan = {0};
    assert_int_equal(plan_build(&giant, 1, &settings, &plan), STATUS_OK);
    assert_int_equal(plan.span_count, 3);
    expect_span(&plan, 0, (struct plan_span){0, 0, 6144, 2048, FROM_MOVE, TO_RIGHT});
    expect_span(&plan, 2, (struct plan_span){0, 2, 10240, 2048, FROM_LEFT, TO_SLOT});
    assert_int_equal(plan.move_count, 1);
    assert_int_equal(plan.moves[0].from, 2);
    assert_int_equal(plan.moves[0].to, 0);

    const struct plan_settings dear = {3, 2048, 1000000, 16}; // not for such a price
    assert_int_equal(plan_build(&giant, 1, &dear, &plan), STATUS_OK);
    assert_int_equal(plan.span_count, 1);
    expect_span(&plan, 0, (struct plan_span){0, 2, 6144, 2048, FROM_SLOT, TO_SLOT});
    assert_int_equal(plan.move_count, 0);
    plan_free(&plan);
}

static void everybody_gets_something_before_anybody_gets_all(void **state) {
    (void)state;
    const struct plan_settings settings = {2, 4096, 100, 16};
    struct plan plan = {0};
    struct plan_document documents[9];
    for (int i = 0; i < 9; i++)
        documents[i] = (struct plan_document){.ready = 1 << 20, .holder = -1};
    assert_int_equal(plan_build(documents, 3, &settings, &plan), STATUS_OK);
    int64_t tokens[9] = {0};
    for (int64_t i = 0; i < plan.span_count; i++) {
        tokens[plan.spans[i].document] += plan.spans[i].count;
    }
    assert_int_equal(tokens[0], 3072); // eight chunks: three, three, two
    assert_int_equal(tokens[1], 3072);
    assert_int_equal(tokens[2], 2048);
    assert_int_equal(plan_build(documents, 9, &settings, &plan), STATUS_OK);
    assert_int_equal(plan.span_count, 8); // the ninth waits
    for (int64_t i = 0; i < 8; i++) {
        assert_in_range(plan.spans[i].document, 0, 7);
        assert_int_equal(plan.spans[i].count, 1024);
    }
    plan_free(&plan);
}

static void held_ones_stay_at_home(void **state) {
    (void)state;
    const struct plan_settings settings = {4, 4096, 100, 16};
    struct plan_document documents[4];
    struct plan plan = {0};
    for (int32_t i = 0; i < 4; i++)
        documents[i] = (struct plan_document){.first = 1024, .ready = 2048, .holder = 3 - i};
    assert_int_equal(plan_build(documents, 4, &settings, &plan), STATUS_OK);
    assert_int_equal(plan.span_count, 4);
    assert_int_equal(plan.move_count, 0);
    for (int32_t i = 0; i < 4; i++) {
        expect_span(&plan, i, (struct plan_span){3 - i, i, 1024, 2048, FROM_SLOT, TO_SLOT});
    }
    plan_free(&plan);
}

// Not a test of speed, but for being far off: the planner must not be seen beside a step.
static void ten_thousand_documents_on_64_ranks(void **state) {
    (void)state;
    static struct plan_document documents[10000];
    const struct plan_settings settings = {64, 32768, 100, 4096};
    struct random random = {5};
    struct plan plan = {0};
    for (int kind = 0; kind < 3; kind++) {
        for (int64_t i = 0; i < 10000; i++) {
            const bool held = kind == 2 && below(&random, 2) != 0;
            documents[i] =
                (struct plan_document){.first = held ? 1024 : 0,
                                       .ready = length(&random, kind == 0 ? 300 : 1e6),
                                       .closes = true,
                                       .holder = held ? (int32_t)below(&random, 64) : -1};
        }
        int64_t best_ns = INT64_MAX;
        for (int i = 0; i < 20; i++) {
            const int64_t start_ns = clock_ns();
            assert_int_equal(plan_build(documents, 10000, &settings, &plan), STATUS_OK);
            if (clock_ns() - start_ns < best_ns) best_ns = clock_ns() - start_ns;
        }
        expect_right(documents, 10000, &settings, &plan, "timing", kind);
        print_message("10000 documents of up to %s, %s: %ld us, %ld spans, %ld moves, full %.3f\n",
                      kind == 0 ? "300" : "1m", kind == 2 ? "half of them held" : "all new",
                      (long)(best_ns / 1000), (long)plan.span_count, (long)plan.move_count,
                      (double)plan.tokens / (64.0 * 32768.0));
        assert_true(best_ns < 50000000);
    }
    plan_free(&plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_ready_gives_an_empty_plan),
        cmocka_unit_test(the_first_is_served_however_small_the_step),
        cmocka_unit_test(one_document_is_spread_evenly),
        cmocka_unit_test(a_giant_goes_round),
        cmocka_unit_test(everybody_gets_something_before_anybody_gets_all),
        cmocka_unit_test(held_ones_stay_at_home),
        cmocka_unit_test(the_same_again_gives_the_same),
        cmocka_unit_test(random_plans_keep_all_invariants),
        cmocka_unit_test(no_rank_pins_more_slots_than_it_has),
        cmocka_unit_test(what_starts_from_one_state_has_one_slot),
        cmocka_unit_test(slots_of_all_ranks_are_used),
        cmocka_unit_test(ten_thousand_documents_on_64_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
