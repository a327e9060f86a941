// The queue between source and leader: in order, bounded, and quick to stop.

#include "pipeline/reader.h"

#include "ops/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

struct spring { // records of `tokens` tokens, `most` of them, and then `end`
    struct source base;
    int64_t tokens, most;
    size_t message_bytes; // that come with each
    enum status end;
    enum status tended; // what tending says from the third time on
    atomic_long given, tends;
};

static enum status spring_next(struct source *base, int32_t timeout_ms, struct record **record) {
    struct spring *spring = (struct spring *)base;
    (void)timeout_ms;
    if (atomic_load(&spring->given) == spring->most) return spring->end;
    TRY(record_make(RECORD_TOKENS, "a", 1, "", 0, spring->tokens, record));
    (*record)->offset = atomic_fetch_add(&spring->given, 1);
    if (spring->message_bytes == 0) return STATUS_OK;
    char *message = calloc(1, spring->message_bytes);
    assert_non_null(message);
    const enum status status = record_keep(*record, message, spring->message_bytes);
    free(message);
    return status;
}

static const struct source_table spring_table = {.name = "spring", .next = spring_next};

static enum status spring_tend(struct source *base) {
    struct spring *spring = (struct spring *)base;
    return atomic_fetch_add(&spring->tends, 1) < 2 ? STATUS_OK : spring->tended;
}

static const struct source_table tended_table = {
    .name = "tended spring", .next = spring_next, .tend = spring_tend};

static struct reader *open_reader(struct spring *spring, int64_t tokens_most,
                                  int64_t records_most) {
    const struct reader_settings settings = {tokens_most, records_most};
    struct reader *reader = NULL;
    if (spring->base.table == NULL) spring->base.table = &spring_table;
    assert_int_equal(reader_open(&spring->base, &settings, &reader), STATUS_OK);
    return reader;
}

static void pause_ms(long ms) {
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

// What is given while nobody takes anything.
static int64_t given_unasked(struct spring *spring) {
    int64_t given = -1;
    for (int i = 0; i < 100 && given != atomic_load(&spring->given); i++) {
        given = atomic_load(&spring->given);
        pause_ms(20);
    }
    return given;
}

static void take(struct reader *reader, int64_t offset) {
    struct record *record = NULL;
    assert_int_equal(reader_next(reader, 5000, &record), STATUS_OK);
    assert_int_equal(record->offset, offset);
    record_free(record);
}

static void expect_bound(int64_t tokens, int64_t tokens_most, int64_t records_most,
                         int64_t expected) {
    struct spring spring = {.tokens = tokens, .most = 1 << 20, .end = STATUS_END};
    struct reader *reader = open_reader(&spring, tokens_most, records_most);
    assert_int_equal(given_unasked(&spring), expected);
    for (int64_t i = 0; i < 3 * expected; i++) {
        take(reader, i);
    }
    assert_int_equal(given_unasked(&spring), 4 * expected); // as many as were taken, no more
    reader_close(reader);
}

static void what_waits_is_bounded(void **state) {
    (void)state;
    expect_bound(100, 1000, 4096, 10);
    expect_bound(0, 1000, 25, 25);   // records without tokens are bounded too
    expect_bound(5000, 1000, 25, 1); // a single larger one still passes
}

// Messages kept for dead letters take room, with or without tokens in them.
static void kept_messages_are_bounded(void **state) {
    struct spring spring = {.most = 1 << 20, .message_bytes = 1 << 20, .end = STATUS_END};
    struct reader *reader = open_reader(&spring, 1000, 4096);
    (void)state;
    assert_int_equal(given_unasked(&spring), 16);
    take(reader, 0);
    take(reader, 1);
    assert_int_equal(given_unasked(&spring), 18);
    reader_close(reader);
}

static void the_end_comes_after_the_last(void **state) {
    static const enum status ends[] = {STATUS_END, STATUS_IO, STATUS_BROKER};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct spring spring = {.tokens = 1, .most = 100, .end = ends[i]};
        struct reader *reader = open_reader(&spring, 10, 4096);
        struct record *record = NULL;
        for (int64_t at = 0; at < 100; at++) {
            take(reader, at);
        }
        assert_int_equal(reader_next(reader, 5000, &record), ends[i]);
        assert_int_equal(reader_next(reader, 0, &record), ends[i]);
        reader_close(reader);
    }
}

static void a_stop_leaves_what_is_queued(void **state) {
    struct spring spring = {.tokens = 1, .most = 1 << 20, .end = STATUS_END};
    struct reader *reader = open_reader(&spring, 10, 4096);
    struct record *record = NULL;
    (void)state;
    assert_int_equal(given_unasked(&spring), 10);
    reader_stop(reader);
    for (int64_t i = 0; i < 10; i++) {
        take(reader, i);
    }
    assert_int_equal(reader_next(reader, 5000, &record), STATUS_END);
    reader_close(reader);
}

// A source behind a full queue is looked after, and what it fails with is not kept waiting.
static void a_full_queue_is_tended(void **state) {
    struct spring spring = {.base.table = &tended_table, .tokens = 1, .most = 1 << 20};
    struct reader *reader = open_reader(&spring, 10, 4096);
    struct record *record = NULL;
    (void)state;
    for (int i = 0; i < 500 && atomic_load(&spring.tends) < 5; i++) {
        pause_ms(20);
    }
    assert_true(atomic_load(&spring.tends) >= 5);
    assert_int_equal(atomic_load(&spring.given), 10);
    take(reader, 0);
    take(reader, 1);
    reader_close(reader);

    struct spring failing = {
        .base.table = &tended_table, .tokens = 1, .most = 1 << 20, .tended = STATUS_BROKER};
    reader = open_reader(&failing, 10, 4096);
    for (int i = 0; i < 500 && atomic_load(&failing.tends) < 3; i++) {
        pause_ms(20);
    }
    const int64_t begin_ms = clock_ms();
    enum status status = STATUS_OK;
    while (status == STATUS_OK && clock_ms() - begin_ms < 5000) { // the failure may be on its way
        status = reader_next(reader, 100, &record);
        if (status == STATUS_OK) record_free(record);
    }
    assert_int_equal(status, STATUS_BROKER);
    assert_int_equal(reader_next(reader, 0, &record), STATUS_BROKER);
    assert_in_range(atomic_load(&failing.given), 10, 20); // most of what was queued is not taken
    reader_close(reader);
}

static void nothing_there_is_said_in_time(void **state) {
    struct spring spring = {.most = 0, .end = STATUS_AGAIN};
    struct reader *reader = open_reader(&spring, 10, 10);
    struct record *record = NULL;
    (void)state;
    const int64_t begin_ms = clock_ms();
    assert_int_equal(reader_next(reader, 0, &record), STATUS_AGAIN);
    assert_int_equal(reader_next(reader, 50, &record), STATUS_AGAIN);
    assert_in_range(clock_ms() - begin_ms, 49, 5000);
    reader_close(reader); // with records in it, or a thread at work, too
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_waits_is_bounded),
        cmocka_unit_test(kept_messages_are_bounded),
        cmocka_unit_test(the_end_comes_after_the_last),
        cmocka_unit_test(a_stop_leaves_what_is_queued),
        cmocka_unit_test(a_full_queue_is_tended),
        cmocka_unit_test(nothing_there_is_said_in_time),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
