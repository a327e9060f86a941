// Ranks that differ refuse to form a group, and all of them say so.

#include "pipeline/pipeline.h"
#include "tests/rank_threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct difference {
    int32_t rank; // that differs; -1: none
    int field;
};

static void agree(struct rank_thread *self) {
    const struct difference *difference = self->argument;
    struct pipeline_identity mine;
    memset(&mine, 0, sizeof mine);
    mine = (struct pipeline_identity){
        .program = 1, .model = 2, .settings = 3, .layer_bytes = 4, .step_tokens = 5};
    snprintf(mine.numerics, sizeof mine.numerics, "the same on all");
    if (self->link->rank == difference->rank) {
        uint64_t *const numbers[] = {&mine.program, &mine.model, &mine.settings, &mine.layer_bytes};
        if (difference->field < 4) ++*numbers[difference->field];
        if (difference->field == 4) mine.step_tokens++;
        if (difference->field == 5) mine.numerics[sizeof mine.numerics - 2] = 'x';
    }
    EXPECT(self, pipeline_agree(self->link, &mine, 10000) ==
                     (difference->rank < 0 ? STATUS_OK : STATUS_MISMATCH));
}

static void what_must_be_equal_is_compared(void **state) {
    const struct loopback_settings plain = {.rendezvous = false};
    struct difference difference = {.rank = -1};
    (void)state;
    assert_int_equal(run_ranks(3, plain, 30, agree, &difference), 0);
    for (difference.field = 0; difference.field < 6; difference.field++) {
        for (difference.rank = 0; difference.rank < 3; difference.rank++) {
            assert_int_equal(run_ranks(3, plain, 30, agree, &difference), 0);
        }
    }
}

static void is_late(struct rank_thread *self) {
    struct pipeline_identity mine;
    memset(&mine, 0, sizeof mine);
    if (self->link->rank == 1) return;
    EXPECT(self, pipeline_agree(self->link, &mine, 300) == STATUS_PEER);
}

static void who_does_not_come_is_lost(void **state) {
    (void)state;
    assert_int_equal(run_ranks(3, (struct loopback_settings){0}, 30, is_late, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_must_be_equal_is_compared),
        cmocka_unit_test(who_does_not_come_is_lost),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
