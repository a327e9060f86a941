// What may be committed, with answers in any order: cases by hand, and long random runs against a table
// of all offsets.

#include "pipeline/outstanding.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <string.h>

static void add(struct outstanding *outstanding, int64_t offset, enum outstanding_added expected) {
    enum outstanding_added added;
    assert_int_equal(outstanding_add(outstanding, offset, &added), STATUS_OK);
    assert_int_equal(added, expected);
}

static void answers_in_any_order(void **state) {
    struct outstanding outstanding = {0};
    (void)state;
    outstanding_begin(&outstanding, 10);
    assert_int_equal(outstanding_done(&outstanding), 10);
    add(&outstanding, 12, OUTSTANDING_NEW); // 10 and 11 are a transaction's marks, say
    add(&outstanding, 13, OUTSTANDING_NEW);
    add(&outstanding, 20, OUTSTANDING_NEW);
    assert_int_equal(outstanding_done(&outstanding), 12);
    assert_true(outstanding_answer(&outstanding, 20));
    assert_true(outstanding_answer(&outstanding, 13));
    assert_int_equal(outstanding_done(&outstanding), 12);
    assert_false(outstanding_answer(&outstanding, 13)); // answered already
    assert_false(outstanding_answer(&outstanding, 14)); // never there
    assert_true(outstanding_answer(&outstanding, 12));
    assert_int_equal(outstanding_done(&outstanding), 21);
    assert_false(outstanding_any(&outstanding));
    outstanding_reach(&outstanding, 25);
    assert_int_equal(outstanding_done(&outstanding), 25);
    outstanding_reach(&outstanding, 3);
    assert_int_equal(outstanding_done(&outstanding), 25);
    outstanding_free(&outstanding);
}

// Nothing that lies before what was read can slip in unseen, nor be handed out twice.
static void offsets_that_come_again(void **state) {
    struct outstanding outstanding = {0};
    (void)state;
    outstanding_begin(&outstanding, 0);
    add(&outstanding, 5, OUTSTANDING_NEW);
    add(&outstanding, 9, OUTSTANDING_NEW);
    add(&outstanding, 5, OUTSTANDING_KNOWN);
    add(&outstanding, 7, OUTSTANDING_LATE);
    assert_true(outstanding_answer(&outstanding, 5));
    add(&outstanding, 5, OUTSTANDING_KNOWN);
    add(&outstanding, 3, OUTSTANDING_KNOWN);
    assert_int_equal(outstanding_done(&outstanding), 9);
    outstanding_free(&outstanding);
}

// A partition went and came back: what waited unseen is read again, what others answered is done.
static void comes_back(void **state) {
    struct outstanding outstanding = {0};
    (void)state;
    outstanding_begin(&outstanding, 0);
    for (int64_t i = 0; i < 10; i++) {
        add(&outstanding, i, OUTSTANDING_NEW);
    }
    assert_true(outstanding_answer(&outstanding, 4));
    outstanding_forget(&outstanding, 7);
    assert_int_equal(outstanding.reached, 7);
    assert_false(outstanding_answer(&outstanding, 8));
    add(&outstanding, 7, OUTSTANDING_NEW);
    outstanding_skip(&outstanding, 4); // 4 is answered, so 5 is next
    assert_int_equal(outstanding_done(&outstanding), 5);
    outstanding_skip(&outstanding, 30);
    assert_int_equal(outstanding_done(&outstanding), 30);
    assert_false(outstanding_any(&outstanding));
    add(&outstanding, 30, OUTSTANDING_NEW);
    outstanding_free(&outstanding);
}

enum { OFFSETS = 4000 };

static uint64_t draw(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

// The least offset that was added and not answered; else where reading stands.
static int64_t plain_done(const char *table, int64_t reached) {
    for (int64_t i = 0; i < reached; i++) {
        if (table[i] == 'w') return i;
    }
    return reached;
}

static void agrees_with_a_table(void **state) {
    static char table[OFFSETS]; // '.': never added; w: waits; a: answered
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct outstanding outstanding = {0};
        uint64_t at = seed;
        int64_t reached = 0;
        memset(table, '.', sizeof table);
        outstanding_begin(&outstanding, 0);
        while (reached < OFFSETS - 5) {
            if (draw(&at) % 2 == 0) {
                const int64_t next = reached + (int64_t)(draw(&at) % 3);
                add(&outstanding, next, OUTSTANDING_NEW);
                table[next] = 'w';
                reached = next + 1;
            } else if (reached > 0) {
                const int64_t back = (int64_t)(draw(&at) % 60);
                const int64_t which = reached - 1 - (back < reached ? back : 0);
                assert_int_equal(outstanding_answer(&outstanding, which), table[which] == 'w');
                if (table[which] == 'w') table[which] = 'a';
            }
            assert_int_equal(outstanding_done(&outstanding), plain_done(table, reached));
        }
        assert_true(outstanding.room <= 8192);
        outstanding_free(&outstanding);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_in_any_order),
        cmocka_unit_test(offsets_that_come_again),
        cmocka_unit_test(comes_back),
        cmocka_unit_test(agrees_with_a_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
