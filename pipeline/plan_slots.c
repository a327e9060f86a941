// Plans that fit the ranks' slots. A rank pins a slot for each state that a step takes up and for
// each that it leaves behind; documents that only end can be as many as a step has tokens. What does
// not fit waits for the next step.

#include "ops/base/check.h"
#include "ops/base/room.h"
#include "pipeline/plan.h"

#include <string.h>

static void count_pins(const struct plan *plan, int32_t ranks, struct plan_pins *pins) {
    memset(pins->now, 0, (size_t)ranks * sizeof *pins->now);
    memset(pins->leaving, 0, (size_t)ranks * sizeof *pins->leaving);
    for (int64_t i = 0; i < plan->span_count; i++) {
        const struct plan_span *span = &plan->spans[i];
        pins->now[span->rank] += (span->from != FROM_ZERO) + (span->to != TO_NOWHERE);
        pins->leaving[span->rank] += span->to == TO_RIGHT;
    }
    for (int64_t i = 0; i < plan->move_count; i++) {
        pins->now[plan->moves[i].from]++;
        pins->leaving[plan->moves[i].from]++;
    }
}

// By how much the plan is too large for the worst rank, as a share; 1 or less: not at all.
static double excess(const struct plan_pins *pins, int32_t ranks, int64_t slots) {
    double worst = 0;
    for (int32_t r = 0; r < ranks; r++) {
        // What leaves stays pinned over the next step, where a document must find room at least.
        const double now = (double)pins->now[r] / (double)(slots - pins->left[r]);
        const double next = (double)pins->leaving[r] / (double)(slots - PLAN_SLOTS_LEAST);
        if (now > worst) worst = now;
        if (next > worst) worst = next;
    }
    return worst;
}

static int64_t documents_looked_at(const struct plan *plan) {
    int64_t end = 0;
    for (int64_t i = 0; i < plan->span_count; i++) {
        if (plan->spans[i].document >= end) end = plan->spans[i].document + 1;
    }
    return end;
}

enum status plan_pins_open(int32_t ranks, struct plan_pins *pins) {
    pins->now = calloc(3 * (size_t)ranks, sizeof *pins->now);
    if (pins->now == NULL) return FAIL(NO_MEMORY, "slots of %d ranks", ranks);
    pins->leaving = pins->now + ranks;
    pins->left = pins->leaving + ranks;
    return STATUS_OK;
}

enum status plan_build_in_slots(const struct plan_document *documents, int64_t count,
                                const struct plan_settings *settings, int64_t slots,
                                struct plan_pins *pins, struct plan *plan) {
    CHECK(slots >= 2 * PLAN_SLOTS_LEAST);
    for (;;) {
        TRY(plan_build(documents, count, settings, plan));
        count_pins(plan, settings->ranks, pins);
        const double over = excess(pins, settings->ranks, slots);
        if (over <= 1.0) break;
        const int64_t end = documents_looked_at(plan);
        CHECK(end > 1); // one document alone always fits
        count = (int64_t)((double)end / over);
        if (count >= end) count = end - 1;
        if (count < 1) count = 1;
    }
    memcpy(pins->left, pins->leaving, (size_t)settings->ranks * sizeof *pins->left);
    return STATUS_OK;
}

void plan_pins_close(struct plan_pins *pins) {
    free(pins->now);
    *pins = (struct plan_pins){0};
}
