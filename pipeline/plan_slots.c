// Plans that fit the ranks' slots. A rank pins a slot for each state that a step takes up and for
// each that it leaves behind; documents that only end can be as many as a step has tokens. What does
// not fit waits for the next step: on each rank that has too few slots the last ones in the queue.

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

// What leaves stays pinned over the next step, where a document must find room at least.
static bool fits(const struct plan_pins *pins, int32_t ranks, int64_t slots) {
    for (int32_t r = 0; r < ranks; r++) {
        if (pins->now[r] > slots - pins->left[r]) return false;
        if (pins->leaving[r] > slots - PLAN_SLOTS_LEAST) return false;
    }
    return true;
}

// What each document of a plan pins, where it begins and where it comes from.
static void find_places(const struct plan *plan, int64_t count, struct plan_pins *pins) {
    for (int64_t i = 0; i < count; i++) {
        pins->place[i] = (struct plan_place){.rank = -1, .from = -1};
    }
    for (int64_t i = 0; i < plan->span_count; i++) {
        const struct plan_span *span = &plan->spans[i];
        struct plan_place *place = &pins->place[span->document];
        if (span->from == FROM_LEFT) continue;
        place->rank = span->rank;
        // at most two lie across a rank's borders: there is room for them beside all others
        if (span->to == TO_RIGHT) continue;
        place->pins = (span->from != FROM_ZERO) + (span->to != TO_NOWHERE);
    }
    for (int64_t i = 0; i < plan->move_count; i++) {
        pins->place[plan->moves[i].document].from = plan->moves[i].from;
    }
}

static bool take_slots(const struct plan_place *place, struct plan_pins *pins) {
    const bool moves = place->from >= 0;
    if (pins->now[place->rank] < place->pins) return false;
    if (moves && (pins->now[place->from] < 1 || pins->leaving[place->from] < 1)) return false;
    pins->now[place->rank] -= place->pins;
    if (moves) pins->now[place->from]--;
    if (moves) pins->leaving[place->from]--;
    return true;
}

// In queue order, so nobody waits for good: the first is never left out.
static bool leave_out(const struct plan *plan, int64_t count, int32_t ranks, int64_t slots,
                      struct plan_pins *pins) {
    bool first = true, any = false;
    find_places(plan, count, pins);
    for (int32_t r = 0; r < ranks; r++) {
        pins->now[r] = slots - pins->left[r] - PLAN_SLOTS_LEAST;
        pins->leaving[r] = slots - PLAN_SLOTS_LEAST - 1;
    }
    for (int64_t i = 0; i < count; i++) {
        if (pins->place[i].rank < 0) continue;
        if (!take_slots(&pins->place[i], pins) && !first) {
            pins->asked[i].ready = 0;
            any = true;
        }
        first = false;
    }
    return any;
}

static int64_t documents_looked_at(const struct plan *plan) {
    int64_t end = 0;
    for (int64_t i = 0; i < plan->span_count; i++) {
        if (plan->spans[i].document >= end) end = plan->spans[i].document + 1;
    }
    return end;
}

enum status plan_pins_open(int32_t ranks, struct plan_pins *pins) {
    *pins = (struct plan_pins){.now = calloc(3 * (size_t)ranks, sizeof *pins->now)};
    if (pins->now == NULL) return FAIL(NO_MEMORY, "slots of %d ranks", ranks);
    pins->leaving = pins->now + ranks;
    pins->left = pins->leaving + ranks;
    return STATUS_OK;
}

static enum status copy_documents(const struct plan_document *documents, int64_t count,
                                  struct plan_pins *pins) {
    const size_t need = (size_t)count;
    TRY(room_for((void **)&pins->asked, &pins->asked_room, need, sizeof *pins->asked));
    TRY(room_for((void **)&pins->place, &pins->place_room, need, sizeof *pins->place));
    memcpy(pins->asked, documents, need * sizeof *documents);
    return STATUS_OK;
}

enum status plan_build_in_slots(const struct plan_document *documents, int64_t count,
                                const struct plan_settings *settings, int64_t slots,
                                struct plan_pins *pins, struct plan *plan) {
    const int32_t ranks = settings->ranks;
    const struct plan_document *asked = documents;
    CHECK(slots >= 2 * PLAN_SLOTS_LEAST);
    for (;;) {
        TRY(plan_build(asked, count, settings, plan));
        count_pins(plan, ranks, pins);
        if (fits(pins, ranks, slots)) break;
        count = documents_looked_at(plan);
        if (asked == documents) TRY(copy_documents(documents, count, pins));
        asked = pins->asked;
        if (leave_out(plan, count, ranks, slots, pins)) continue;
        CHECK(count > 1); // one document alone always fits
        count /= 2;
    }
    memcpy(pins->left, pins->leaving, (size_t)ranks * sizeof *pins->left);
    return STATUS_OK;
}

void plan_pins_close(struct plan_pins *pins) {
    free(pins->now);
    free(pins->asked);
    free(pins->place);
    *pins = (struct plan_pins){0};
}
