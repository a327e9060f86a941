// Positions, counts and offsets beyond 2^32 in everything between records and results, without as
// many tokens: a document is made to leap.

#include "pipeline/documents.h"
#include "pipeline/result_json.h"
#include "pipeline/step.h"
#include "tests/plan_check.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

// Chunks, and rounds of the tokens 0 to 250; more than 2^34.
#define FAR (INT64_C(251) << 27)

struct far_sink {
    struct sink base;
    struct bytes text; // of the score, as JSON
    int64_t first_window, windows;
};

static enum status far_score(struct sink *base, const struct document_score *score) {
    struct far_sink *sink = (struct far_sink *)base;
    sink->windows = score->window_count;
    sink->first_window = score->windows[0].first;
    return result_json_score(score, &(struct result_ids){1, 2, 3}, &sink->text);
}

static enum status far_finish(struct sink *base, int32_t partition) {
    (void)base;
    (void)partition;
    return STATUS_OK;
}

static enum status give(struct documents *d, const char *id, int64_t offset, int64_t first,
                        int64_t tokens, bool last) {
    struct record *record = NULL;
    TRY(record_make(RECORD_TOKENS, id, 1, "", 0, tokens, &record));
    for (int64_t i = 0; i < tokens; i++) {
        record_tokens(record)[i] = (int32_t)((first + i) % 251);
    }
    record->offset = offset;
    record->first = first;
    record->last = last;
    const enum status status = documents_accept(d, record);
    record_free(record);
    return status;
}

// As if the document's next FAR tokens had come, run and been scored.
static void leap(struct document *doc) {
    doc->known += FAR;
    doc->planned += FAR;
    doc->answered += FAR;
    doc->token_base += FAR;
    doc->tally.scored += FAR;
    doc->tally.window_count = 0;
    doc->tally.nll_first += FAR + (int64_t)doc->tally.nll_count;
    doc->tally.nll_count = 0;
}

// What waits of the document goes through a plan and step messages on two ranks.
static void run_step(struct documents *d, struct document *doc) {
    static float nll[CHUNK_TOKENS];
    const struct plan_settings settings = {
        .ranks = 2, .step_tokens = CHUNK_TOKENS, .spans_most = 16};
    struct plan plan = {0};
    char wrong[200];
    bool closes = false;
    struct plan_document waiting = {.first = doc->planned, .ready = document_ready(doc, &closes)};
    waiting.closes = closes;
    waiting.holder = doc->planned == 0 ? -1 : 0;
    assert_int_equal(plan_build(&waiting, 1, &settings, &plan), STATUS_OK);
    assert_null(plan_check(&waiting, 1, &settings, &plan, wrong));
    for (int64_t i = 0; i < plan.span_count; i++) {
        const struct plan_span *from = &plan.spans[i];
        struct step step = {.number = (uint64_t)FAR, .span_count = 1, .rows = from->count}, got;
        struct step_arrays arrays;
        struct message message;
        assert_int_equal(step_make(&step, &message, &arrays), STATUS_OK);
        *arrays.spans = (struct step_span){.key = doc->key, .first = from->first};
        arrays.spans->count = from->count;
        documents_take(d, doc, from->count, arrays.token, &arrays.spans->lookahead);
        assert_int_equal(step_read(&message, &got), STATUS_OK);
        assert_true(got.number == (uint64_t)FAR && got.spans->first == from->first);
        assert_int_equal(got.token[0], from->first % 251);
        for (int64_t r = 0; r < from->count; r++) {
            nll[r] = 0.5f;
        }
        assert_int_equal(documents_answer(d, doc, from->first, nll, from->count), STATUS_OK);
        free(message.data);
    }
    documents_requeue(d, &doc, 1);
    plan_free(&plan);
}

static void positions_are_far(void **state) {
    static const struct sink_table table = {
        .name = "far", .score = far_score, .finish = far_finish};
    struct far_sink sink = {.base = {&table}};
    const struct documents_settings settings = {
        .vocab_size = 256, .bos = -1, .tally = {.score_every = CHUNK_TOKENS, .token_nll = true}
    };
    const int64_t end = FAR + CHUNK_TOKENS + 1;
    struct documents d;
    char expected[200];
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    assert_int_equal(give(&d, "a", FAR, 0, CHUNK_TOKENS + 1, false), STATUS_OK);
    struct document *doc = documents_ready_at(&d, 0);
    run_step(&d, doc);
    leap(doc);
    // What ends 2^32 before the known end is a duplicate, what begins as far behind it a gap.
    assert_int_equal(give(&d, "a", FAR + 1, end - (INT64_C(1) << 32), 10, false), STATUS_OK);
    assert_int_equal(d.counts.duplicates, 1);
    assert_int_equal(give(&d, "a", FAR + 2, end - 10, 3000, false), STATUS_OK);
    run_step(&d, doc);
    assert_int_equal(give(&d, "a", FAR + 3, end + 2990, 1000, true), STATUS_OK);
    assert_int_equal(partition_safe_offset(&d.partitions[0]), FAR);
    while (documents_ready_at(&d, 0) != NULL) {
        run_step(&d, doc);
    }
    assert_int_equal(documents_emit(&d, &sink.base), STATUS_OK);
    assert_int_equal(partition_safe_offset(&d.partitions[0]), FAR + 4);
    assert_int_equal(d.counts.tokens, end + 3990);
    assert_int_equal(sink.windows, 4);
    assert_int_equal(sink.first_window, FAR + CHUNK_TOKENS);
    snprintf(expected, sizeof expected, "{\"id\":\"a\",\"tokens\":%" PRId64 ",\"scored\":%" PRId64,
             end + 3990, end + 3989);
    assert_memory_equal(sink.text.data, expected, strlen(expected));
    assert_int_equal(bytes_put(&sink.text, "", 1), STATUS_OK);
    snprintf(expected, sizeof expected, "\"token_nll_first\":%" PRId64 ",", FAR + CHUNK_TOKENS + 1);
    assert_non_null(strstr(sink.text.data, expected));

    assert_int_equal(give(&d, "b", FAR + 5, 0, CHUNK_TOKENS + 1, false), STATUS_OK);
    run_step(&d, documents_ready_at(&d, 0));
    assert_int_equal(d.partitions[0].first->answered, CHUNK_TOKENS);
    assert_int_equal(give(&d, "b", FAR + 6, CHUNK_TOKENS + 1 + (INT64_C(1) << 32), 10, true),
                     STATUS_OK);
    assert_int_equal(d.counts.bad[BAD_GAP], 1);
    bytes_free(&sink.text);
    documents_close(&d);
}

// One step of a plan over tokens and positions of which none has 32 bits.
static void plans_reach_far(void **state) {
    const struct plan_document documents[] = {
        {.first = FAR, .ready = 2 * FAR,  .closes = true, .holder = 1 },
        {.first = 0,   .ready = FAR + 17, .closes = true, .holder = -1}
    };
    const struct plan_settings settings = {.ranks = 3, .step_tokens = FAR, .spans_most = FAR};
    struct plan plan = {0};
    char wrong[200];
    (void)state;
    assert_int_equal(plan_build(documents, 2, &settings, &plan), STATUS_OK);
    const char *broken = plan_check(documents, 2, &settings, &plan, wrong);
    if (broken != NULL) fail_msg("invariant %s", broken);
    assert_true(plan.tokens > 3 * FAR - 2 * CHUNK_TOKENS);
    plan_free(&plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(positions_are_far),
        cmocka_unit_test(plans_reach_far),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
