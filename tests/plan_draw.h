#pragma once
// What the tests of the planner share: random numbers, and the check of a plan.

#include "tests/plan_check.h"

#include <math.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

struct random {
    uint64_t state;
};

static inline uint64_t next(struct random *random) {
    uint64_t mixed = (random->state += 0x9e3779b97f4a7c15u);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

static inline int64_t below(struct random *random, int64_t end) {
    return (int64_t)(next(random) % (uint64_t)end);
}

// From 1 to most, log-uniform.
static inline int64_t length(struct random *random, double most) {
    const double unit = (double)(next(random) >> 11) / 9007199254740992.0;
    return (int64_t)exp(unit * log(most));
}

static inline void expect_right(const struct plan_document *documents, int64_t count,
                                const struct plan_settings *settings, const struct plan *plan,
                                const char *where, int64_t number) {
    char wrong[200];
    if (plan_check(documents, count, settings, plan, wrong) == NULL) return;
    fail_msg("%s %ld: ranks=%d step=%ld move=%ld spans=%ld documents=%ld: invariant %s", where,
             (long)number, settings->ranks, (long)settings->step_tokens,
             (long)settings->move_tokens, (long)settings->spans_most, (long)count, wrong);
}
