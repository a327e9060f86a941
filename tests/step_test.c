// Step messages and answers: what goes in comes out, and nothing a peer sends is believed unseen.

#include "pipeline/step.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SPANS = 3, MOVES = 2, DROPS = 2, STEP_ROWS = CHUNK_TOKENS + 100 + CHUNK_TOKENS };

static const struct step counts = {
    .number = 77, .span_count = SPANS, .move_count = MOVES, .drop_count = DROPS, .rows = STEP_ROWS};

// From the left, a whole short document whose state is kept, and to the right.
static struct step_arrays make_step(struct message *message) {
    struct step_arrays arrays;
    assert_int_equal(step_make(&counts, message, &arrays), STATUS_OK);
    arrays.spans[0] = (struct step_span){.key = 1,
                                         .count = CHUNK_TOKENS,
                                         .asked = 1,
                                         .lookahead = 5,
                                         .from = FROM_LEFT,
                                         .to = TO_SLOT};
    arrays.spans[1] = (struct step_span){
        .key = 2, .count = 100, .asked = 3, .lookahead = -1, .from = FROM_ZERO, .to = TO_SLOT};
    arrays.spans[2] = (struct step_span){
        .key = 3, .count = CHUNK_TOKENS, .lookahead = 6, .from = FROM_MOVE, .to = TO_RIGHT};
    arrays.moves[0] = (struct step_move){.key = 3, .peer = 1, .out = 0};
    arrays.moves[1] = (struct step_move){.key = 4, .source = 5, .peer = 2, .out = 1, .stays = 1};
    arrays.drops[0] = 8;
    arrays.drops[1] = 9;
    for (int32_t i = 0; i < STEP_ROWS; i++) {
        arrays.token[i] = i;
    }
    return arrays;
}

static void a_step_is_read_as_it_was_made(void **state) {
    struct message message;
    struct step step;
    const struct step_arrays arrays = make_step(&message);
    (void)state;
    assert_int_equal(step_read(&message, &step), STATUS_OK);
    assert_int_equal(step.number, 77);
    assert_false(step.stop);
    assert_int_equal(step.span_count, SPANS);
    assert_int_equal(step.rows, STEP_ROWS);
    assert_int_equal(step.asked, 4);
    assert_memory_equal(step.spans, arrays.spans, SPANS * sizeof *step.spans);
    assert_memory_equal(step.moves, arrays.moves, MOVES * sizeof *step.moves);
    assert_memory_equal(step.drops, arrays.drops, DROPS * sizeof *step.drops);
    assert_int_equal(step.token[STEP_ROWS - 1], STEP_ROWS - 1);
    free(message.data);

    const struct step stop = {.number = 78, .stop = true, .drop_count = 1};
    struct step_arrays last;
    assert_int_equal(step_make(&stop, &message, &last), STATUS_OK);
    last.drops[0] = 12;
    assert_int_equal(step_read(&message, &step), STATUS_OK);
    assert_true(step.stop && step.number == 78 && step.rows == 0 && step.drops[0] == 12);
    free(message.data);
}

static void expect_refused(void (*spoil)(struct step_arrays *arrays)) {
    struct message message;
    struct step step;
    struct step_arrays arrays = make_step(&message);
    spoil(&arrays);
    assert_int_equal(step_read(&message, &step), STATUS_PEER);
    free(message.data);
}

static void count_of_none(struct step_arrays *arrays) {
    arrays->spans[1].count = 0;
}
static void count_below_none(struct step_arrays *arrays) {
    arrays->spans[0].count += 200;
    arrays->spans[1].count = -100;
}
static void count_too_large(struct step_arrays *arrays) {
    arrays->spans[1].count = INT64_MAX;
}
static void rows_left_over(struct step_arrays *arrays) {
    arrays->spans[1].count = 99;
}
static void first_below_none(struct step_arrays *arrays) {
    arrays->spans[0].first = -1;
}
static void from_nowhere_known(struct step_arrays *arrays) {
    arrays->spans[1].from = FROM_MOVE + 1;
}
static void to_nowhere_known(struct step_arrays *arrays) {
    arrays->spans[1].to = -1;
}
static void from_the_left_in_the_middle(struct step_arrays *arrays) {
    arrays->spans[1].from = FROM_LEFT;
}
static void to_the_right_in_the_middle(struct step_arrays *arrays) {
    arrays->spans[0].to = TO_RIGHT;
}
static void cut_inside_a_chunk(struct step_arrays *arrays) {
    arrays->spans[2].first = 100;
}
static void begun_inside_a_chunk_from_the_left(struct step_arrays *arrays) {
    arrays->spans[0].first = 100;
}
static void end_over_all_numbers(struct step_arrays *arrays) {
    arrays->spans[1].first = INT64_MAX - 99;
}
static void asked_below_none(struct step_arrays *arrays) {
    arrays->spans[1].asked = -1;
}
static void asked_more_than_there_are(struct step_arrays *arrays) {
    arrays->spans[1].asked = 101;
}
static void stays_neither_way(struct step_arrays *arrays) {
    arrays->spans[1].stays = 2;
}
static void moved_neither_way(struct step_arrays *arrays) {
    arrays->moves[0].out = -1;
}
static void moved_and_stays_neither_way(struct step_arrays *arrays) {
    arrays->moves[1].stays = 2;
}

static void spans_that_do_not_fit_are_refused(void **state) {
    (void)state;
    expect_refused(count_of_none);
    expect_refused(count_below_none);
    expect_refused(count_too_large);
    expect_refused(rows_left_over);
    expect_refused(first_below_none);
    expect_refused(from_nowhere_known);
    expect_refused(to_nowhere_known);
    expect_refused(from_the_left_in_the_middle);
    expect_refused(to_the_right_in_the_middle);
    expect_refused(cut_inside_a_chunk);
    expect_refused(begun_inside_a_chunk_from_the_left);
    expect_refused(end_over_all_numbers);
    expect_refused(asked_below_none);
    expect_refused(asked_more_than_there_are);
    expect_refused(stays_neither_way);
    expect_refused(moved_neither_way);
    expect_refused(moved_and_stays_neither_way);
}

// The header: magic, number, then five counts of 8 bytes.
static void sizes_that_do_not_fit_are_refused(void **state) {
    static const int64_t wrong[] = {-1, 0, 1, 1000, INT64_C(1) << 28, INT64_C(1) << 62, INT64_MAX};
    struct message message;
    struct step step;
    (void)state;
    make_step(&message);
    const size_t whole = message.bytes;
    for (message.bytes = 0; message.bytes < whole; message.bytes += 1 + message.bytes / 7) {
        assert_int_equal(step_read(&message, &step), STATUS_PEER);
    }
    message.bytes = whole;
    for (int field = 2; field < 6; field++) {
        int64_t *count = (int64_t *)message.data + field, right = *count;
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
            *count = wrong[i];
            assert_int_equal(step_read(&message, &step), STATUS_PEER);
        }
        *count = right;
    }
    ((char *)message.data)[0] ^= 1; // another build's
    assert_int_equal(step_read(&message, &step), STATUS_PEER);
    free(message.data);

    const struct step large = {.rows = INT64_C(1) << 40};
    struct step_arrays arrays;
    assert_int_equal(step_make(&large, &message, &arrays), STATUS_UNEXPECTED);
}

static void answers_are_checked_too(void **state) {
    struct message message;
    struct step_result result;
    const struct step_result sizes = {.number = 5, .rows = 101, .asked = 7};
    struct step_result_arrays arrays;
    (void)state;
    assert_int_equal(step_result_make(&sizes, &message, &arrays), STATUS_OK);
    for (int i = 0; i < 101; i++) {
        arrays.nll[i] = (float)i;
    }
    for (int i = 0; i < 7; i++) {
        arrays.best[i] = (struct best_token){.token = i, .margin = (float)-i};
    }
    assert_int_equal(step_result_read(&message, &result), STATUS_OK);
    assert_true(result.number == 5 && result.rows == 101 && result.nll[100] == 100.0f);
    assert_true(result.asked == 7 && result.best[6].token == 6 && result.best[6].margin == -6.0f);
    const size_t whole = message.bytes;
    for (message.bytes = 0; message.bytes < whole; message.bytes++) {
        assert_int_equal(step_result_read(&message, &result), STATUS_PEER);
    }
    static const int64_t wrong[] = {-1, 0, 100, 102, 6, 8, INT64_C(1) << 62, INT64_MAX};
    for (int field = 2; field < 4; field++) { // rows, and those asked
        int64_t *count = (int64_t *)message.data + field, right = *count;
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
            *count = wrong[i];
            assert_int_equal(step_result_read(&message, &result), STATUS_PEER);
        }
        *count = right;
    }
    const struct step_result too_many = {.rows = 3, .asked = 4};
    struct message none;
    assert_int_equal(step_result_make(&too_many, &none, &arrays), STATUS_UNEXPECTED);
    ((char *)message.data)[0] ^= 1;
    assert_int_equal(step_result_read(&message, &result), STATUS_PEER);
    free(message.data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_read_as_it_was_made),
        cmocka_unit_test(spans_that_do_not_fit_are_refused),
        cmocka_unit_test(sizes_that_do_not_fit_are_refused),
        cmocka_unit_test(answers_are_checked_too),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
