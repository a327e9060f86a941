// The memory of finished documents: what was remembered is found, the newest of an id first, and
// only the last CLOSED_MOST are kept.

#include "pipeline/closed.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <string.h>

static void remember(struct closed *closed, int64_t number, uint64_t version) {
    char id[32];
    const int bytes = snprintf(id, sizeof id, "document %lld", (long long)number);
    assert_int_equal(closed_remember(closed, id, (size_t)bytes, version, number), STATUS_OK);
}

static const struct closed_document *find(const struct closed *closed, int64_t number) {
    char id[32];
    const int bytes = snprintf(id, sizeof id, "document %lld", (long long)number);
    return closed_find(closed, id, (size_t)bytes);
}

static void nothing_is_known_at_first(void **state) {
    struct closed closed = {0};
    (void)state;
    assert_null(find(&closed, 1));
    closed_free(&closed);
}

static void the_newest_of_an_id_is_found(void **state) {
    struct closed closed = {0};
    (void)state;
    remember(&closed, 7, 1);
    remember(&closed, 8, 1);
    remember(&closed, 7, 2);
    assert_int_equal(find(&closed, 7)->version, 2);
    assert_int_equal(find(&closed, 8)->version, 1);
    assert_null(find(&closed, 9));
    assert_null(closed_find(&closed, "document 7", 9));
    closed_free(&closed);
}

static void the_oldest_are_forgotten(void **state) {
    struct closed closed = {0};
    const int64_t all = 5 * (int64_t)CLOSED_MOST / 2;
    (void)state;
    for (int64_t i = 0; i < all; i++) {
        remember(&closed, i, 0);
        assert_non_null(find(&closed, i));
        assert_non_null(find(&closed, i < CLOSED_MOST ? 0 : i - CLOSED_MOST + 1));
        if (i >= CLOSED_MOST) assert_null(find(&closed, i - CLOSED_MOST));
    }
    for (int64_t i = 0; i < all; i++) {
        const struct closed_document *found = find(&closed, i);
        assert_int_equal(found != NULL, i >= all - CLOSED_MOST);
        if (found != NULL) assert_int_equal(found->tokens, i);
    }
    closed_free(&closed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_known_at_first),
        cmocka_unit_test(the_newest_of_an_id_is_found),
        cmocka_unit_test(the_oldest_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
