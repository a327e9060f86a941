// Which transport a group takes, from what its ranks say of their devices.

#include "pipeline/transports.h"

#include "tests/host_backend.h"
#include "tests/rank_threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { RANKS = 3 };

struct question {
    enum transport_wish wish;
    const char *device[RANKS];
    const char *why_not[RANKS];
    bool none; // the backend has no transport of its own
    enum status status;
    bool direct; // what all ranks must choose
};

static const struct question *asked;

static enum status identify(struct backend *backend, int32_t rank, int32_t ranks,
                            struct transport_id *id) {
    (void)backend;
    if (ranks != RANKS) return STATUS_UNEXPECTED;
    snprintf(id->device, sizeof id->device, "%s", asked->device[rank]);
    if (asked->why_not[rank] != NULL) {
        snprintf(id->why_not, sizeof id->why_not, "%s", asked->why_not[rank]);
    }
    id->key[0][0] = (unsigned char)(rank + 1);
    return STATUS_OK;
}

static void choose(struct rank_thread *self) {
    struct backend_table table = host_backend_table;
    struct backend backend = {.table = &table};
    struct transport_choice choice;
    table.transport_identify = asked->none ? NULL : identify;
    EXPECT(self,
           transport_choose(self->link, &backend, asked->wish, 10000, &choice) == asked->status);
    EXPECT(self, (choice.ids != NULL) == asked->direct);
    for (int32_t r = 0; choice.ids != NULL && r < RANKS; r++) {
        EXPECT(self, choice.ids[r].key[0][0] == r + 1);
        EXPECT(self, strcmp(choice.ids[r].device, asked->device[r]) == 0);
    }
    transport_choice_free(&choice);
}

static void all_ranks_choose_the_same(void **state) {
    // clang-format off
    static const struct question questions[] = {
        {.device = {"a/1", "a/2", "b/1"}, .direct = true},
        {.wish = TRANSPORT_DIRECT, .device = {"a/1", "a/2", "b/1"}, .direct = true},
        {.wish = TRANSPORT_HOST, .device = {"a/1", "a/2", "b/1"}},
        {.device = {"a/1", "a/2", "a/1"}},
        {.wish = TRANSPORT_DIRECT, .device = {"a/1", "a/2", "a/1"}, .status = STATUS_USAGE},
        {.device = {"a/1", "a/2", "b/1"}, .why_not = {NULL, "no library", NULL}},
        {.wish = TRANSPORT_DIRECT, .device = {"a/1", "a/2", "b/1"},
         .why_not = {NULL, NULL, "no library"}, .status = STATUS_USAGE},
        {.none = true},
        {.wish = TRANSPORT_DIRECT, .none = true, .status = STATUS_USAGE},
    };
    // clang-format on
    (void)state;
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++) {
        asked = &questions[i];
        assert_int_equal(run_ranks(RANKS, (struct loopback_settings){0}, 30, choose, NULL), 0);
    }
}

int main(void) {
    log_setup(LOG_WARN, LOG_TEXT);
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_ranks_choose_the_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
