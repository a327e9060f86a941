// Plans that fit the ranks' slots. A rank pins a slot for each state that a step takes up and for
// each that it leaves behind; documents that only end can be as many as a step has tokens. A state that
// several start from has one slot, on the one rank that holds it. What does not fit waits for the next
// step: on each rank that has too few slots the last ones in the queue.

#include "ops/base/check.h"
#include "ops/base/room.h"
#include "pipeline/plan.h"

#include <string.h>

enum { SEEN_PINNED = 1, SEEN_LEAVING = 2 };

// Counts a document's source: once, if it is shared.
static bool is_new(const struct plan_document *document, unsigned char what,
                   struct plan_pins *pins) {
    if (document->shared == 0) return true;
    const bool seen = (pins->seen[document->shared] & what) != 0;
    pins->seen[document->shared] |= what;
    return !seen;
}

static void count_pins(const struct plan *plan, const struct plan_document *documents,
                       int64_t count, int32_t ranks, struct plan_pins *pins) {
    memset(pins->now, 0, (size_t)ranks * sizeof *pins->now);
    memset(pins->leaving, 0, (size_t)ranks * sizeof *pins->leaving);
    memset(pins->seen, 0, (size_t)count + 1);
    for (int64_t i = 0; i < plan->span_count; i++) {
        const struct plan_span *span = &plan->spans[i];
        const struct plan_document *document = &documents[span->document];
        const bool again = span->from == FROM_SLOT && !is_new(document, SEEN_PINNED, pins);
        pins->now[span->rank] += (span->from != FROM_ZERO && !again) + (span->to != TO_NOWHERE);
        pins->leaving[span->rank] += span->to == TO_RIGHT;
    }
    for (int64_t i = 0; i < plan->move_count; i++) {
        const struct plan_move *move = &plan->moves[i];
        const struct plan_document *document = &documents[move->document];
        pins->now[move->from] += is_new(document, SEEN_PINNED, pins);
        pins->leaving[move->from] += is_new(document, SEEN_LEAVING, pins);
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
        place->shares = span->from == FROM_SLOT && pins->asked[span->document].shared > 0;
        place->pins = (span->from != FROM_ZERO && !place->shares) + (span->to != TO_NOWHERE);
    }
    for (int64_t i = 0; i < plan->move_count; i++) {
        pins->place[plan->moves[i].document].from = plan->moves[i].from;
    }
}

static bool take_slots(const struct plan_document *document, const struct plan_place *place,
                       struct plan_pins *pins) {
    const unsigned char seen = pins->seen[document->shared]; // 0 of those that share nothing
    const int32_t holder = place->shares ? place->rank : place->from; // who is read from, or -1
    const bool moves = place->from >= 0;
    const int64_t source = holder >= 0 && (seen & SEEN_PINNED) == 0;
    const int64_t leaves = moves && (seen & SEEN_LEAVING) == 0;
    if (pins->now[place->rank] < place->pins + (place->shares ? source : 0)) return false;
    if (moves && (pins->now[place->from] < source || pins->leaving[place->from] < leaves)) {
        return false;
    }
    pins->now[place->rank] -= place->pins;
    if (holder >= 0) pins->now[holder] -= source;
    if (moves) pins->leaving[place->from] -= leaves;
    if (document->shared == 0) return true;
    if (holder >= 0) pins->seen[document->shared] |= SEEN_PINNED;
    if (moves) pins->seen[document->shared] |= SEEN_LEAVING;
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
        if (!take_slots(&pins->asked[i], &pins->place[i], pins) && !first) {
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
    const int64_t given = count;
    CHECK(slots >= 2 * PLAN_SLOTS_LEAST);
    TRY(room_for((void **)&pins->seen, &pins->seen_room, (size_t)given + 1, sizeof *pins->seen));
    for (;;) {
        TRY(plan_build(asked, count, settings, plan));
        count_pins(plan, asked, given, ranks, pins);
        if (fits(pins, ranks, slots)) break;
        count = documents_looked_at(plan);
        if (asked == documents) TRY(copy_documents(documents, count, pins));
        asked = pins->asked;
        memset(pins->seen, 0, (size_t)given + 1);
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
    free(pins->seen);
    *pins = (struct plan_pins){0};
}
