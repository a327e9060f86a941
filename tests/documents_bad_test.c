// Documents that cannot be used: what a dead letter says, what is taken back, what is swallowed after
// them, and what a run that begins in the middle makes of tails.

#include "tests/documents_case.h"

struct letter_box {
    struct sink base;
    int64_t count;
    char id[32], reason[256], record[64]; // of the last one
    struct dead_letter last;
};

static enum status take_letter(struct sink *base, const struct dead_letter *letter) {
    struct letter_box *box = (struct letter_box *)base;
    box->count++;
    box->last = *letter;
    snprintf(box->id, sizeof box->id, "%.*s", (int)letter->id_bytes,
             letter->id == NULL ? "" : letter->id);
    snprintf(box->reason, sizeof box->reason, "%s", letter->reason);
    snprintf(box->record, sizeof box->record, "%.*s", (int)letter->record_bytes,
             letter->record == NULL ? "" : (const char *)letter->record);
    return STATUS_OK;
}

static const struct sink_table box_table = {.name = "box", .letter = take_letter};

static void open_with_letters(struct documents *d, struct documents_settings settings,
                              struct letter_box *box) {
    settings.letters = true;
    *box = (struct letter_box){.base = {&box_table}};
    assert_int_equal(documents_open(d, &settings), STATUS_OK);
}

static int64_t read_letters(struct documents *d, struct letter_box *box) {
    int64_t handed_over = 0;
    assert_int_equal(letters_emit(&d->letters, &box->base, &handed_over), STATUS_OK);
    assert_int_equal(d->letters.bytes, 0);
    return handed_over;
}

static void letters_say_what_where_and_why(void **state) {
    struct documents d;
    struct letter_box box;
    (void)state;
    open_with_letters(&d, plain(false), &box);
    accept(&d, "a", 0, 100, false);
    struct record *record = record_of("a", 107, 3, false);
    record->partition = 0;
    record->offset = 17;
    assert_int_equal(record_keep(record, "as it came", 10), STATUS_OK);
    assert_int_equal(documents_accept(&d, record), STATUS_OK);
    record_free(record);
    assert_int_equal(read_letters(&d, &box), 1);
    assert_string_equal(box.id, "a");
    assert_non_null(strstr(box.reason, "gap: a record starts at token 107, expected 100"));
    assert_string_equal(box.record, "as it came");
    assert_int_equal(box.last.offset, 17);
    assert_int_equal(box.last.expected_first, 100);
    assert_int_equal(box.last.found_first, 107);
    assert_int_equal(box.last.message_bytes, 10);

    assert_int_equal(record_make_fault("", 0, "noise", &record), STATUS_OK);
    assert_int_equal(documents_accept(&d, record), STATUS_OK);
    record_free(record);
    assert_int_equal(read_letters(&d, &box), 1);
    assert_null(box.last.id);
    assert_string_equal(box.reason, "record: noise");
    documents_close(&d);
}

// One letter a document: what follows is swallowed until its last record, or a higher version.
static void the_rest_of_a_dead_document_is_swallowed(void **state) {
    struct documents d;
    struct letter_box box;
    struct test_sink *sink = sink_open();
    (void)state;
    open_with_letters(&d, plain(false), &box);
    accept(&d, "a", 5, 10, false);
    accept(&d, "a", 15, 10, false);
    accept(&d, "a", 0, 10, false); // however it looks
    assert_int_equal(read_letters(&d, &box), 1);
    assert_int_equal(d.counts.swallowed, 2);
    assert_int_equal(d.entries, 0);
    accept(&d, "a", 25, 10, true); // its last record
    accept(&d, "a", 0, 10, true);  // the same id anew
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->count, 1);
    assert_int_equal(d.counts.swallowed, 3);

    accept(&d, "b", 5, 10, false);
    struct record *newer = record_of("b", 0, 20, true);
    newer->version = 1;
    assert_int_equal(documents_accept(&d, newer), STATUS_OK);
    record_free(newer);
    accept(&d, "b", 15, 10, true); // of the dead one, after its time
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->count, 2);
    assert_int_equal(sink->kept[1].tokens, 20);
    assert_int_equal(read_letters(&d, &box), 1);
    assert_int_equal(d.counts.bad[BAD_GAP], 2);
    documents_close(&d);
    free(sink);
}

// A record that can be read but not used says whose it is and whether more comes; noise does not.
static void faults_with_a_head_kill_and_noise_does_not(void **state) {
    struct documents d;
    struct letter_box box;
    struct test_sink *sink = sink_open();
    struct record *fault = NULL;
    (void)state;
    open_with_letters(&d, plain(false), &box);
    assert_int_equal(record_make_fault("a", 1, "width", &fault), STATUS_OK);
    fault->first = 0;
    assert_int_equal(documents_accept(&d, fault), STATUS_OK);
    accept(&d, "a", 10, 10, true); // swallowed: no second letter
    assert_int_equal(read_letters(&d, &box), 1);
    fault->first = -1;
    assert_int_equal(documents_accept(&d, fault), STATUS_OK);
    accept(&d, "a", 0, 10, true); // whole
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->count, 1);
    record_free(fault);

    accept(&d, "b", 0, 10, false); // open: noise under its key is a record it lost
    assert_int_equal(record_make_fault("b", 1, "noise", &fault), STATUS_OK);
    assert_int_equal(documents_accept(&d, fault), STATUS_OK);
    accept(&d, "b", 20, 10, true);
    record_free(fault);
    assert_int_equal(read_letters(&d, &box), 2); // of noise, the second and the third
    assert_int_equal(d.counts.bad[BAD_RECORD], 3);
    assert_int_equal(d.entries, 0);
    documents_close(&d);
    free(sink);
}

static void accept_fault(struct documents *d, const char *id, uint64_t version, bool last) {
    struct record *fault = NULL;
    assert_int_equal(record_make_fault(id, strlen(id), "width", &fault), STATUS_OK);
    fault->version = version;
    fault->first = 10;
    fault->last = last;
    assert_int_equal(documents_accept(d, fault), STATUS_OK);
    record_free(fault);
}

static void accept_version(struct documents *d, const char *id, uint64_t version, int64_t first,
                           int64_t tokens, bool last) {
    struct record *record = record_of(id, first, tokens, last);
    record->version = version;
    assert_int_equal(documents_accept(d, record), STATUS_OK);
    record_free(record);
}

// A record that cannot be used says which version it is of, and is judged like those that can be.
static void faults_count_for_their_own_version(void **state) {
    struct documents d;
    struct letter_box box;
    struct test_sink *sink = sink_open();
    (void)state;
    open_with_letters(&d, plain(false), &box);
    accept_version(&d, "a", 2, 0, 10, false);
    accept_fault(&d, "a", 1, false); // of a version that is replaced: no harm to the newer one
    accept_version(&d, "a", 2, 10, 10, true);
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->count, 1);
    accept_fault(&d, "a", 1, false);
    accept_version(&d, "a", 2, 0, 10, false); // still known as finished
    accept_version(&d, "a", 2, 10, 10, true);
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->count, 1);
    assert_int_equal(d.counts.duplicates, 2);
    assert_int_equal(d.entries, 0);
    assert_int_equal(read_letters(&d, &box), 2);

    accept_version(&d, "b", 1, 0, 10, false);
    accept_fault(&d, "b", 2, false); // a newer version replaces, though it is bad
    accept_version(&d, "b", 2, 20, 10, false);
    accept_version(&d, "b", 1, 10, 10, true);
    assert_int_equal(d.counts.swallowed, 2);
    assert_int_equal(d.entries, 0);
    assert_int_equal(read_letters(&d, &box), 1);

    accept_fault(&d, "b", 2, true); // the rest of the dead: swallowed, and its end
    assert_int_equal(read_letters(&d, &box), 0);
    accept_version(&d, "b", 2, 0, 10, true);
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->count, 2);
    documents_close(&d);
    free(sink);
}

// All of it is known, and its result may have left already or not: that must not decide.
static void what_comes_behind_the_end_harms_nothing(void **state) {
    struct documents d;
    struct letter_box box;
    struct test_sink *sink = sink_open();
    struct record *noise = NULL;
    (void)state;
    open_with_letters(&d, plain(false), &box);
    accept_version(&d, "a", 1, 0, 10, true);
    accept_fault(&d, "a", 1, false);
    assert_int_equal(record_make_fault("a", 1, "noise", &noise), STATUS_OK);
    assert_int_equal(documents_accept(&d, noise), STATUS_OK);
    record_free(noise);
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->count, 1);
    assert_int_equal(read_letters(&d, &box), 2);

    accept_version(&d, "b", 1, 0, 10, true);
    accept_fault(&d, "b", 2, false); // but a newer version replaces
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->count, 1);
    documents_close(&d);
    free(sink);
}

static void windows_that_are_out_are_taken_back(void **state) {
    struct documents d;
    struct letter_box box;
    struct test_sink *sink = sink_open();
    struct documents_settings settings = plain(false);
    (void)state;
    settings.tally = (struct tally_settings){.score_every = 100, .windows_apart = true};
    open_with_letters(&d, settings, &box);
    accept(&d, "a", 0, 3000, false);
    run_ready(&d, &sink->base, 1024);
    // predictions of positions 1 to 2048: windows [0, 100) to [1900, 2000) are complete
    assert_int_equal(sink->piece_windows, 20);
    accept(&d, "a", 3001, 1, false);
    assert_int_equal(documents_emit(&d, &sink->base), STATUS_OK);
    assert_int_equal(sink->retractions, 1);
    assert_int_equal(sink->retracted.windows_first, 0);
    assert_int_equal(sink->retracted.windows_end, 2000);
    assert_int_equal(sink->retracted.nll_end, sink->retracted.nll_first);
    assert_int_equal(sink->count, 0);

    accept(&d, "b", 0, 90, false); // nothing is out: nothing is taken back
    accept(&d, "b", 91, 1, false);
    assert_int_equal(documents_emit(&d, &sink->base), STATUS_OK);
    assert_int_equal(sink->retractions, 1);
    documents_close(&d);
    free(sink);
}

// A higher version: of an open document all that is out, of a finished one what the new one leaves.
static void versions_take_back_what_they_do_not_replace(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    struct documents_settings settings = plain(false);
    (void)state;
    settings.tally = (struct tally_settings){.score_every = 100, .windows_apart = true};
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    accept(&d, "a", 0, 1500, false);
    run_ready(&d, &sink->base, 1024);
    struct record *newer = record_of("a", 0, 950, true);
    newer->version = 1;
    assert_int_equal(documents_accept(&d, newer), STATUS_OK);
    record_free(newer);
    assert_int_equal(documents_emit(&d, &sink->base), STATUS_OK);
    assert_int_equal(sink->retractions, 1);
    assert_int_equal(sink->retracted.windows_end, 1000);
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->retractions, 1);
    assert_int_equal(sink->count, 1);

    newer = record_of("a", 0, 250, true);
    newer->version = 2;
    assert_int_equal(documents_accept(&d, newer), STATUS_OK);
    record_free(newer);
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->count, 2);
    assert_int_equal(sink->retractions, 2);
    assert_int_equal(sink->retracted.windows_first, 250);
    assert_int_equal(sink->retracted.windows_end, 950);
    documents_close(&d);
    free(sink);
}

static struct retraction retracted_by(struct documents *d, struct test_sink *sink, uint64_t version,
                                      int64_t tokens) {
    accept_version(d, "a", version, 0, tokens, true);
    sink->retracted = (struct retraction){0};
    sink->next_nll = 1;
    run_ready(d, &sink->base, 1024);
    return sink->retracted;
}

// What an older version left must be known however the newer ones look, and what is in one message
// overwrites no pieces.
static void nothing_of_an_older_version_stays(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    struct documents_settings settings = plain(false);
    struct retraction left;
    (void)state;
    settings.tally = (struct tally_settings){.score_every = 100, .windows_apart = true};
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    left = retracted_by(&d, sink, 1, 950);
    assert_int_equal(left.windows_end, 0);
    accept_version(&d, "a", 2, 7, 10, false); // dead
    left = retracted_by(&d, sink, 3, 250);    // what the first one left
    assert_int_equal(left.windows_first, 250);
    assert_int_equal(left.windows_end, 950);
    left = retracted_by(&d, sink, 4, 1); // has no prediction and no window
    assert_int_equal(left.windows_first, 0);
    assert_int_equal(left.windows_end, 250);
    documents_close(&d);

    settings.tally = (struct tally_settings){.score_every = 1, .token_nll = true};
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    (void)retracted_by(&d, sink, 1, 3 * ARRAY_INLINE_MOST);
    left = retracted_by(&d, sink, 2, 2 * ARRAY_INLINE_MOST); // in pieces, over those of the first
    assert_int_equal(left.windows_first, 2 * ARRAY_INLINE_MOST);
    assert_int_equal(left.nll_first, 2 * ARRAY_INLINE_MOST);
    assert_int_equal(left.nll_end, 3 * ARRAY_INLINE_MOST);
    left = retracted_by(&d, sink, 3, 1000); // in one
    assert_int_equal(left.windows_first, 0);
    assert_int_equal(left.windows_end, 2 * ARRAY_INLINE_MOST);
    assert_int_equal(left.nll_first, 1);
    assert_int_equal(left.nll_end, 2 * ARRAY_INLINE_MOST);
    assert_int_equal(sink->retractions, 4);
    documents_close(&d);
    free(sink);
}

// The run before was at offset 50 when it committed 10, the first record of what was open.
static void tails_of_what_the_run_before_finished_are_no_gaps(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    const struct documents_settings settings = plain(false);
    const struct {
        const char *id;
        int64_t offset, first;
        bool last;
    } records[] = {
        {"open",  10, 0,  false},
        {"done",  11, 20, true }, // began before 10
        {"open",  12, 10, true },
        {"after", 49, 7,  false}, // likewise dead or done
        {"after", 50, 17, true }, // from here on a gap is one
    };
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    assert_false(documents_know_partition(&d, 0));
    assert_int_equal(documents_resume(&d, 0, 50), STATUS_OK);
    assert_true(documents_know_partition(&d, 0));
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        struct record *record = record_of(records[i].id, records[i].first, 10, records[i].last);
        record->offset = records[i].offset;
        assert_int_equal(documents_accept(&d, record), STATUS_OK);
        record_free(record);
    }
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->count, 1);
    assert_string_equal(sink->kept[0].id, "open");
    assert_int_equal(d.counts.settled, 2);
    assert_int_equal(d.counts.bad[BAD_GAP], 1);
    documents_close(&d);
    free(sink);
}

static void what_is_open_at_the_end_can_be_scored_as_it_is(void **state) {
    struct documents d;
    struct test_sink *sink = sink_open();
    const struct documents_settings settings = plain(false);
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    accept(&d, "long", 0, 1500, false);
    accept(&d, "one", 0, 1, false);
    accept(&d, "whole", 0, 10, true);
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->count, 1);
    assert_false(sink->kept[0].truncated);
    documents_close_open(&d);
    run_ready(&d, &sink->base, 1024);
    assert_int_equal(sink->count, 3);
    assert_int_equal(d.counts.truncated, 2);
    assert_int_equal(documents_open_count(&d), 0);
    for (int i = 1; i < 3; i++) {
        const bool is_long = strcmp(sink->kept[i].id, "long") == 0;
        assert_true(sink->kept[i].truncated);
        assert_int_equal(sink->kept[i].scored, is_long ? 1499 : 0);
        assert_true(sink->kept[i].nll == nll_sum(is_long ? 1500 : 1));
    }
    documents_close(&d);
    free(sink);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_say_what_where_and_why),
        cmocka_unit_test(the_rest_of_a_dead_document_is_swallowed),
        cmocka_unit_test(faults_with_a_head_kill_and_noise_does_not),
        cmocka_unit_test(faults_count_for_their_own_version),
        cmocka_unit_test(what_comes_behind_the_end_harms_nothing),
        cmocka_unit_test(windows_that_are_out_are_taken_back),
        cmocka_unit_test(versions_take_back_what_they_do_not_replace),
        cmocka_unit_test(nothing_of_an_older_version_stays),
        cmocka_unit_test(tails_of_what_the_run_before_finished_are_no_gaps),
        cmocka_unit_test(what_is_open_at_the_end_can_be_scored_as_it_is),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
