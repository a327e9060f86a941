// The leader's documents without ranks: records in any cut, plans and answers in any size, and the
// results that leave. What a token's NLL is, is decided by its position and document alone.

#include "tests/documents_case.h"

static void any_cut_gives_the_same_result(void **state) {
    static const int64_t lengths[] = {0, 1, 2, 1023, 1024, 1025, 2048, 10000};
    (void)state;
    srand(1);
    for (size_t n = 0; n < sizeof lengths / sizeof lengths[0]; n++) {
        for (int turn = 0; turn < 20; turn++) {
            struct documents d;
            struct test_sink *sink = sink_open();
            const struct documents_settings settings = plain(turn % 2 == 0);
            assert_int_equal(documents_open(&d, &settings), STATUS_OK);
            int64_t at = 0;
            while (at < lengths[n]) {
                int64_t tokens = 1 + rand() % 3000;
                if (tokens > lengths[n] - at) tokens = lengths[n] - at;
                accept(&d, "a", at, tokens, false);
                at += tokens;
                if (rand() % 2) run_ready(&d, &sink->base, 1024 * (1 + rand() % 3));
            }
            accept(&d, "a", at, 0, true);
            run_ready(&d, &sink->base, 4096);
            assert_int_equal(sink->count, 1);
            assert_int_equal(sink->kept[0].tokens, lengths[n]);
            assert_int_equal(sink->kept[0].scored, lengths[n] > 0 ? lengths[n] - 1 : 0);
            assert_true(sink->kept[0].nll == nll_sum(lengths[n]));
            assert_int_equal(d.entries, 0);
            documents_close(&d);
            free(sink);
        }
    }
}

static void an_open_chunk_waits_for_the_token_after_it(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    const struct documents_settings settings = plain(false);
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    accept(&d, "a", 0, 1024, false);
    assert_int_equal(d.ready_tokens, 0);
    accept(&d, "a", 1024, 1, false);
    assert_int_equal(d.ready_tokens, 1024);
    run_ready(&d, &sink->base, 1024);
    accept(&d, "a", 1025, 0, true);
    assert_int_equal(d.ready_tokens, 1);
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->kept[0].scored, 1024);
    documents_close(&d);
    free(sink);
}

static void duplicates_are_dropped_and_gaps_are_bad(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    const struct documents_settings settings = plain(false);
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    accept(&d, "twice", 0, 100, false);
    accept(&d, "twice", 0, 100, false);
    accept(&d, "twice", 50, 100, false); // half known
    accept(&d, "twice", 150, 10, true);
    accept(&d, "gap", 0, 100, false);
    accept(&d, "gap", 101, 100, false);
    accept(&d, "gap", 201, 100, true); // swallowed
    accept(&d, "late", 5, 10, true);   // its start is missing
    run_ready(&d, &sink->base, 4096);
    assert_int_equal(sink->count, 1);
    assert_string_equal(sink->kept[0].id, "twice");
    assert_int_equal(sink->kept[0].tokens, 160);
    assert_true(sink->kept[0].nll == nll_sum(160));
    assert_int_equal(d.counts.duplicates, 1);
    assert_int_equal(d.counts.bad[BAD_GAP], 2);
    assert_int_equal(d.entries, 0);
    documents_close(&d);
    free(sink);
}

// A document that has left is remembered: its records may come again, whole or cut otherwise.
static void finished_documents_that_come_again_are_dropped(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    struct documents_settings settings = plain(false);
    (void)state;
    settings.bos = 0;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    accept(&d, "empty", 0, 0, true);
    accept(&d, "bad", 5, 5, true);
    assert_int_equal(documents_emit(&d, &sink->base), STATUS_OK);
    assert_int_equal(sink->count, 1);
    accept(&d, "empty", 0, 0, true);
    assert_int_equal(d.counts.duplicates, 1);
    accept(&d, "empty", 0, 1, false); // longer than the one remembered: no duplicate, and no good
    accept(&d, "empty", 1, 1, true);
    assert_int_equal(d.counts.duplicates, 1);
    assert_int_equal(d.counts.bad[BAD_RECORD], 1);
    assert_int_equal(d.counts.swallowed, 1);
    assert_int_equal(d.entries, 0);
    accept(&d, "bad", 0, 0, true); // a bad one may come again as a good one
    assert_int_equal(documents_emit(&d, &sink->base), STATUS_OK);
    assert_int_equal(sink->count, 2);
    struct record *record = record_of("bad", 0, 0, true);
    record->version = 1; // a higher version is new
    assert_int_equal(documents_accept(&d, record), STATUS_OK);
    record->version = 0;
    assert_int_equal(documents_accept(&d, record), STATUS_OK);
    record_free(record);
    assert_int_equal(documents_emit(&d, &sink->base), STATUS_OK);
    assert_int_equal(sink->count, 3);
    accept(&d, "bad", 0, 0, true); // of the version before
    assert_int_equal(d.counts.duplicates, 3);
    documents_close(&d);
    free(sink);
}

// One token among others that are the vocabulary's first and last.
static void a_vocabulary_ends_where_it_ends(void **state) {
    const int32_t sizes[] = {1, 256, 50288, INT32_MAX};
    (void)state;
    for (int i = 0; i < 4; i++) {
        const struct documents_settings settings = {.vocab_size = sizes[i], .bos = -1};
        const int32_t tokens[] = {0, sizes[i] - 1, sizes[i], -1, INT32_MIN, INT32_MAX};
        for (int t = 0; t < 6; t++) {
            struct documents d;
            assert_int_equal(documents_open(&d, &settings), STATUS_OK);
            struct record *record = record_of("a", 0, 40, true);
            for (int64_t at = 0; at < 40; at++) {
                record_tokens(record)[at] = at % 2 == 0 ? 0 : sizes[i] - 1;
            }
            record_tokens(record)[7 + 5 * t] = tokens[t];
            assert_int_equal(documents_accept(&d, record), STATUS_OK);
            assert_int_equal(d.counts.bad[BAD_TOKEN], tokens[t] < 0 || tokens[t] >= sizes[i]);
            record_free(record);
            documents_close(&d);
        }
    }
}

static void foreign_tokens_and_numbers_that_are_none_are_bad(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    struct documents_settings settings = plain(true);
    int32_t token[16];
    int32_t lookahead = 0;
    const float nll[16] = {1.0f, NAN};
    (void)state;
    settings.vocab_size = 200;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    accept(&d, "foreign", 0, 210, true);
    assert_int_equal(d.counts.bad[BAD_TOKEN], 1);
    accept(&d, "nan", 0, 16, true);
    struct document *doc = documents_ready_at(&d, 0);
    documents_take(&d, doc, 16, token, &lookahead);
    documents_requeue(&d, &doc, 1);
    assert_int_equal(documents_answer(&d, doc, 0, nll, 16), STATUS_OK);
    assert_int_equal(d.counts.bad[BAD_NLL], 1);
    assert_int_equal(documents_emit(&d, &sink->base), STATUS_OK);
    assert_int_equal(sink->count, 0);
    assert_int_equal(d.entries, 0);
    documents_close(&d);
    free(sink);
}

static void a_fault_in_an_open_document_ends_it(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    const struct documents_settings settings = plain(true);
    struct record *fault = NULL;
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    accept(&d, "broken", 0, 500, false);
    accept(&d, "whole", 0, 500, true);
    run_ready(&d, &sink->base, 4096);
    assert_int_equal(sink->count, 0); // waits for the first
    assert_int_equal(record_make_fault("broken", 6, "a file ends in mid token", &fault), STATUS_OK);
    assert_int_equal(documents_accept(&d, fault), STATUS_OK);
    run_ready(&d, &sink->base, 4096);
    assert_int_equal(sink->count, 1);
    assert_string_equal(sink->kept[0].id, "whole");
    assert_int_equal(d.counts.bad[BAD_RECORD], 1);
    assert_int_equal(d.entries, 0);
    record_free(fault);
    documents_close(&d);
    free(sink);
}

static void a_higher_version_replaces_and_a_lower_one_is_dropped(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    const struct documents_settings settings = plain(false);
    int32_t token[2048];
    int32_t lookahead = 0;
    static const float nll[2048];
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    accept(&d, "a", 0, 1025, false);
    struct document *old = documents_ready_at(&d, 0);
    documents_take(&d, old, 1024, token, &lookahead); // on its way while it is replaced
    documents_requeue(&d, &old, 1);
    old->holder = 3;
    struct record *newer = record_of("a", 0, 200, false);
    newer->version = 7;
    assert_int_equal(documents_accept(&d, newer), STATUS_OK);
    record_free(newer);
    newer = record_of("a", 200, 100, true);
    newer->version = 6; // fits, but is of another text
    assert_int_equal(documents_accept(&d, newer), STATUS_OK);
    newer->version = 7;
    assert_int_equal(documents_accept(&d, newer), STATUS_OK);
    newer->version = 6; // so is what comes behind the end
    assert_int_equal(documents_accept(&d, newer), STATUS_OK);
    record_free(newer);
    assert_int_equal(d.work.drop_count, 1);
    assert_int_equal(d.work.drops[0].rank, 3);
    assert_int_equal(documents_answer(&d, old, 0, nll, 1024), STATUS_OK);
    run_ready(&d, &sink->base, 4096);
    assert_int_equal(sink->count, 1);
    assert_int_equal(sink->kept[0].tokens, 300);
    assert_int_equal(d.counts.replaced, 1);
    assert_int_equal(d.counts.duplicates, 2);
    assert_int_equal(d.entries, 0);
    documents_close(&d);
    free(sink);
}

static void ordered_results_leave_in_the_order_of_the_input(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    const struct documents_settings settings = plain(true);
    char id[16];
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    accept(&d, "first", 0, 5000, false); // still open while all others are done
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof id, "%d", i);
        accept(&d, id, 0, 1 + i * 7, true);
    }
    run_ready(&d, &sink->base, 4096);
    assert_int_equal(sink->count, 0);
    accept(&d, "first", 5000, 1, true);
    run_ready(&d, &sink->base, 4096);
    assert_int_equal(sink->count, 101);
    assert_string_equal(sink->kept[0].id, "first");
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof id, "%d", i);
        assert_string_equal(sink->kept[i + 1].id, id);
    }
    struct record *end = NULL;
    assert_int_equal(record_make(RECORD_PARTITION_END, "", 0, "", 0, 0, &end), STATUS_OK);
    assert_int_equal(documents_accept(&d, end), STATUS_OK);
    record_free(end);
    assert_int_equal(documents_emit(&d, &sink->base), STATUS_OK);
    assert_int_equal(sink->finished, 1);
    documents_close(&d);
    free(sink);
}

static void bos_adds_a_prediction_and_shifts_no_position(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    struct documents_settings settings = plain(true);
    int32_t token[512];
    int32_t lookahead = 0;
    float nll[512];
    (void)state;
    settings.bos = 255;
    settings.tally.token_nll = true;
    settings.tally.score_every = 100;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    accept(&d, "a", 0, 250, true);
    struct document *doc = documents_ready_at(&d, 0);
    assert_int_equal(doc->known, 251);
    documents_take(&d, doc, 251, token, &lookahead);
    assert_int_equal(token[0], 255);
    assert_int_equal(lookahead, -1);
    documents_requeue(&d, &doc, 1);
    for (int i = 0; i < 251; i++) {
        nll[i] = nll_at(i);
    }
    assert_int_equal(documents_answer(&d, doc, 0, nll, 251), STATUS_OK);
    assert_int_equal(doc->tally.nll_first, 0);
    assert_int_equal(doc->tally.windows[0].scored, 100);
    assert_int_equal(doc->tally.windows[2].scored, 50);
    assert_int_equal(documents_emit(&d, &sink->base), STATUS_OK);
    assert_int_equal(sink->kept[0].scored, 250);
    assert_int_equal(sink->kept[0].tokens, 250);
    documents_close(&d);
    free(sink);
}

static void long_arrays_leave_in_pieces_at_fixed_places(void **state) {
    const int64_t tokens = 3 * ARRAY_INLINE_MOST + 777;
    int64_t pieces = -1;
    (void)state;
    for (int turn = 0; turn < 4; turn++) {
        struct documents d;
        struct test_sink *sink = sink_open();
        struct documents_settings settings = plain(turn % 2 == 0);
        settings.tally = (struct tally_settings){.score_every = 2, .token_nll = true};
        assert_int_equal(documents_open(&d, &settings), STATUS_OK);
        const int64_t step = 1000 + turn * 40000;
        for (int64_t at = 0; at < tokens; at += step) {
            const int64_t count = at + step < tokens ? step : tokens - at;
            accept(&d, "a", at, count, at + count == tokens);
            run_ready(&d, &sink->base, 1 << 20);
        }
        assert_int_equal(sink->count, 1);
        assert_int_equal(sink->kept[0].token_nlls, 0);
        assert_int_equal(sink->piece_nlls, tokens - 1);
        assert_int_equal(sink->piece_windows, (tokens + 1) / 2);
        if (pieces < 0) pieces = sink->pieces;
        assert_int_equal(sink->pieces, pieces);
        assert_true(sink->kept[0].nll == nll_sum(tokens));
        documents_close(&d);
        free(sink);
    }
}

static void a_cut_holds_at_the_oldest_open_document(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    const struct documents_settings settings = plain(false);
    static const char *const ids[] = {"a", "b", "a", "b", "c"};
    static const int64_t firsts[] = {0, 0, 10, 10, 0};
    static const bool lasts[] = {false, false, false, true, true};
    static const int64_t safe[] = {0, 0, 0, 0, 0};
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    for (int i = 0; i < 5; i++) {
        struct record *record = record_of(ids[i], firsts[i], 10, lasts[i]);
        record->offset = i;
        assert_int_equal(documents_accept(&d, record), STATUS_OK);
        record_free(record);
        run_ready(&d, &sink->base, 4096);
        assert_int_equal(partition_safe_offset(&d.partitions[0]), safe[i]);
    }
    struct record *record = record_of("a", 20, 10, true);
    record->offset = 5;
    assert_int_equal(documents_accept(&d, record), STATUS_OK);
    record_free(record);
    assert_int_equal(partition_safe_offset(&d.partitions[0]), 0); // known, not yet scored
    run_ready(&d, &sink->base, 4096);
    assert_int_equal(partition_safe_offset(&d.partitions[0]), 6);
    documents_close(&d);
    free(sink);
}

// Nothing came of it in this run: what an earlier one has committed must not be taken back.
static void a_partition_that_only_ends_is_safe_to_its_end(void **state) {
    struct documents d;
    const struct documents_settings settings = plain(false);
    struct record *record = NULL;
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    assert_int_equal(record_make(RECORD_PARTITION_END, "", 0, "", 0, 0, &record), STATUS_OK);
    record->partition = 3;
    record->offset = 100;
    assert_int_equal(documents_accept(&d, record), STATUS_OK);
    assert_int_equal(partition_safe_offset(&d.partitions[0]), 100);
    record_free(record);
    record = record_of("open", 0, 10, false);
    record->offset = 70;
    assert_int_equal(documents_accept(&d, record), STATUS_OK);
    record_free(record);
    assert_int_equal(record_make(RECORD_PARTITION_END, "", 0, "", 0, 0, &record), STATUS_OK);
    record->offset = 90; // markers of transactions lie behind the last record
    assert_int_equal(documents_accept(&d, record), STATUS_OK);
    assert_int_equal(partition_safe_offset(&d.partitions[1]), 70);
    record_free(record);
    accept(&d, "open", 10, 0, true);
    documents_close(&d);
}

// A document that is dead and closed only waits for its answers: it is nobody's any more, however
// long they take and whatever happens to the table.
static void the_dead_do_not_get_the_records_of_the_living(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    const struct documents_settings settings = plain(false);
    int32_t token[2048], lookahead = 0;
    static const float nll[2048];
    char id[16];
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    accept(&d, "a", 0, 1025, false);
    struct document *old = documents_ready_at(&d, 0);
    documents_take(&d, old, 1024, token, &lookahead);
    documents_requeue(&d, &old, 1);
    struct record *newer = record_of("a", 0, 300, false);
    newer->version = 7;
    assert_int_equal(documents_accept(&d, newer), STATUS_OK);
    record_free(newer);
    for (int i = 0; i < 5000; i++) { // the table grows, and grows again
        snprintf(id, sizeof id, "%d", i);
        accept(&d, id, 0, 10, false);
        if (i % 700 != 0) continue;
        newer = record_of("a", 300 + i / 700, 1, false);
        newer->version = 7;
        assert_int_equal(documents_accept(&d, newer), STATUS_OK);
        record_free(newer);
    }
    assert_int_equal(d.counts.replaced, 1);
    accept(&d, "gap", 5, 1020, true); // dead, closed and gone
    accept(&d, "gap2", 0, 1025, false);
    struct document *gap = documents_ready_at(&d, 0);
    documents_take(&d, gap, 1024, token, &lookahead);
    documents_requeue(&d, &gap, 1);
    accept(&d, "gap2", 2000, 10, true); // dead and closed, and a chunk on its way
    accept(&d, "gap", 0, 10, true);
    accept(&d, "gap2", 0, 10, true); // written again
    assert_int_equal(documents_answer(&d, old, 0, nll, 1024), STATUS_OK);
    assert_int_equal(documents_answer(&d, gap, 0, nll, 1024), STATUS_OK);
    run_ready(&d, &sink->base, 4096);
    assert_int_equal(sink->count, 2);
    assert_int_equal(d.counts.bad[BAD_GAP], 2);
    documents_close(&d);
    free(sink);
}

// Ids are the same in two partitions, and the documents are not.
static void partitions_share_nothing_but_names(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    const struct documents_settings settings = plain(false);
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    for (int32_t partition = 0; partition < 2; partition++) {
        struct record *record = record_of("a", 0, 700 + 10 * partition, false);
        record->partition = partition;
        record->offset = 5 * partition;
        assert_int_equal(documents_accept(&d, record), STATUS_OK);
        record_free(record);
    }
    assert_int_equal(d.entries, 2);
    struct record *record = record_of("a", 700, 50, true);
    assert_int_equal(documents_accept(&d, record), STATUS_OK);
    record_free(record);
    run_ready(&d, &sink->base, 4096);
    assert_int_equal(sink->count, 1);
    assert_int_equal(sink->kept[0].tokens, 750);
    assert_int_equal(partition_safe_offset(&d.partitions[1]), 5);
    record = record_of("a", 710, 1, true); // known in the other partition as one that comes again
    record->partition = 1;
    record->offset = 6;
    assert_int_equal(documents_accept(&d, record), STATUS_OK);
    record_free(record);
    run_ready(&d, &sink->base, 4096);
    assert_int_equal(sink->count, 2);
    assert_int_equal(sink->kept[1].tokens, 711);
    assert_int_equal(partition_safe_offset(&d.partitions[1]), 7);
    assert_int_equal(d.counts.duplicates, 0);
    documents_close(&d);
    free(sink);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cut_gives_the_same_result),
        cmocka_unit_test(an_open_chunk_waits_for_the_token_after_it),
        cmocka_unit_test(duplicates_are_dropped_and_gaps_are_bad),
        cmocka_unit_test(finished_documents_that_come_again_are_dropped),
        cmocka_unit_test(a_vocabulary_ends_where_it_ends),
        cmocka_unit_test(foreign_tokens_and_numbers_that_are_none_are_bad),
        cmocka_unit_test(a_fault_in_an_open_document_ends_it),
        cmocka_unit_test(a_higher_version_replaces_and_a_lower_one_is_dropped),
        cmocka_unit_test(ordered_results_leave_in_the_order_of_the_input),
        cmocka_unit_test(bos_adds_a_prediction_and_shifts_no_position),
        cmocka_unit_test(long_arrays_leave_in_pieces_at_fixed_places),
        cmocka_unit_test(a_cut_holds_at_the_oldest_open_document),
        cmocka_unit_test(a_partition_that_only_ends_is_safe_to_its_end),
        cmocka_unit_test(the_dead_do_not_get_the_records_of_the_living),
        cmocka_unit_test(partitions_share_nothing_but_names),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
