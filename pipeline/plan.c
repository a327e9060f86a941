// Plans a step in three moves: how much each document gets, where it runs, and the list of it.
//
// Shares. The documents are taken in queue order as long as everyone's first chunk fits into the
// step. What is left is shared out so that the least served get as much as can be (max-min, in
// whole chunks): there is a level such that whoever has less ready than the level gets all of it
// and the others get the level, the first in the queue one chunk more. So nobody waits for a long
// document to end, and a long document alone gets everything.
//
// Places (plan_place.c). The ranks are filled one after the other from left to right, up to the
// mean of what is left, as one fills lines with words: where a document does not fit, it is cut at
// a chunk border and goes on at the beginning of the next rank. So a border is crossed by one
// document at most, and no line of waits can close to a ring. The order of the words is free, which
// is used to let a document begin on the rank that holds its state.
//
// If somebody got no place although others have more than a chunk (what is left of each rank may
// be too small to be of use), the shares are cut down and laid again; likewise, if the ranks are
// far from even although work waits, for a lower level that makes better use of them.

#include "pipeline/plan.h"

#include "ops/base/check.h"
#include "ops/base/room.h"
#include "pipeline/plan_place.h"

#include <stdlib.h>

#define ATTEMPTS_MOST 6

static enum status desk_lay(struct plan *plan, const struct plan_settings *settings) {
    if (plan->desk == NULL) {
        plan->desk = calloc(1, sizeof *plan->desk);
        if (plan->desk == NULL) return FAIL(NO_MEMORY, "planner");
    }
    struct plan_desk *desk = plan->desk;
    TRY(room_for((void **)&desk->rank, &desk->rank_room, (size_t)settings->ranks,
                 sizeof *desk->rank));
    desk->ranks = settings->ranks;
    desk->step_tokens = desk->most = settings->step_tokens;
    desk->price = least(settings->move_tokens, settings->ranks * settings->step_tokens);
    desk->spans_most = settings->spans_most;
    desk->considered = 0;
    desk->more = false;
    return STATUS_OK;
}

static void check_document(const struct plan_document *document, int32_t ranks) {
    CHECK(document->first >= 0);
    CHECK(document->first % CHUNK_TOKENS == 0 ||
          (document->closes && document->ready <= CHUNK_TOKENS));
    CHECK(document->ready > 0 && (document->closes || document->ready % CHUNK_TOKENS == 0));
    CHECK(document->holder >= -1 && document->holder < ranks);
    CHECK((document->holder == -1) == (document->first == 0));
}

// The documents whose first chunks fit into the step, in queue order.
static enum status consider(struct plan_desk *desk, const struct plan_document *documents,
                            int64_t count) {
    const int64_t room = desk->ranks * desk->most;
    // Each border may need a span more.
    const int64_t items_most = desk->ranks * (desk->spans_most - 1) + 1;
    int64_t sum = 0;
    for (int64_t i = 0; i < count && desk->considered < items_most; i++) {
        const struct plan_document *document = &documents[i];
        if (document->ready == 0) continue;
        check_document(document, desk->ranks);
        sum += least(document->ready, CHUNK_TOKENS);
        if (sum > room) {
            desk->more = true;
            break;
        }
        TRY(room_for((void **)&desk->item, &desk->item_room, (size_t)desk->considered + 1,
                     sizeof *desk->item));
        desk->item[desk->considered++] = (struct plan_item){.document = (int32_t)i,
                                                            .holder = document->holder,
                                                            .ready = least(document->ready, room)};
    }
    TRY(room_for((void **)&desk->held, &desk->held_room, (size_t)desk->considered,
                 sizeof *desk->held));
    for (int kind = 0; kind < LINES; kind++) {
        struct plan_line *line = &desk->line[kind];
        TRY(room_for((void **)&line->item, &line->room, (size_t)desk->considered,
                     sizeof *line->item));
    }
    return STATUS_OK;
}

static int64_t shared(const struct plan_desk *desk, int64_t level) {
    int64_t sum = 0;
    for (int64_t i = 0; i < desk->items; i++)
        sum += least(desk->item[i].ready, level);
    return sum;
}

// Max-min shares of `room` tokens. Documents from the first on whose first chunk does not fit are
// left out of the step.
static void share(struct plan_desk *desk, int64_t room, int64_t items_most) {
    int64_t sum = 0;
    for (desk->items = 0; desk->items < items_most; desk->items++) {
        sum += least(desk->item[desk->items].ready, CHUNK_TOKENS);
        if (sum > room) break;
    }
    // Nobody gets a second chunk while others get no first one.
    const bool all = !desk->more && desk->items == desk->considered;
    int64_t low = 1, high = all ? desk->ranks * desk->most / CHUNK_TOKENS : 1; // chunks; low fits
    while (low < high) {
        const int64_t middle = high - (high - low) / 2;
        if (shared(desk, middle * CHUNK_TOKENS) <= room) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    const int64_t level = low * CHUNK_TOKENS;
    room = all ? room - shared(desk, level) : 0;
    for (int64_t i = 0; i < desk->items; i++) {
        struct plan_item *item = &desk->item[i];
        item->take = least(item->ready, level);
        const int64_t more = least(item->ready - item->take, CHUNK_TOKENS);
        if (more > room) continue;
        item->take += more;
        room -= more;
    }
}

// Counts documents that found no place although others have more than a chunk, or although they
// stand in the first half of the queue. Returns the tokens of their first chunks.
static int64_t left_out(const struct plan_desk *desk, int64_t *documents) {
    int64_t tokens = 0, greatest = 0;
    for (int64_t i = 0; i < desk->items; i++)
        greatest = greater(greatest, desk->item[i].done);
    *documents = 0;
    for (int64_t i = 0; i < desk->items; i++) {
        const struct plan_item *item = &desk->item[i];
        if (item->done > 0 || item->state == ITEM_WAITS) continue;
        if (greatest <= CHUNK_TOKENS && 2 * i >= desk->items) break;
        tokens += least(item->take, CHUNK_TOKENS);
        *documents += 1;
    }
    return tokens;
}

static bool spans_scarce(const struct plan_desk *desk) {
    for (int32_t r = 0; r < desk->ranks; r++) {
        if (desk->rank[r].spans >= desk->spans_most) return true;
    }
    return false;
}

static int64_t placed(const struct plan_desk *desk, int64_t *fullest) {
    int64_t tokens = 0;
    *fullest = 0;
    for (int32_t r = 0; r < desk->ranks; r++) {
        tokens += desk->rank[r].load;
        if (desk->rank[r].load > *fullest) *fullest = desk->rank[r].load;
    }
    return tokens;
}

// One level: at most `most` tokens a rank. Returns the tokens placed.
static int64_t lay_level(struct plan_desk *desk, int64_t most, int64_t *fullest) {
    int64_t room = desk->ranks * most, items_most = desk->considered;
    desk->most = most;
    for (int attempt = 0; attempt < ATTEMPTS_MOST; attempt++) {
        int64_t out = 0;
        share(desk, room, items_most);
        plan_place(desk);
        const int64_t tokens = left_out(desk, &out);
        if (tokens == 0) break;
        // Whatever room there seems to be, the first one's chunk is in it.
        const int64_t first = least(desk->item[0].ready, CHUNK_TOKENS);
        room = greater(room - tokens * (attempt + 1), first);
        if (spans_scarce(desk)) items_most = greater(desk->items - out * (attempt + 1), 1);
        // Whatever else fails, the first one does not wait.
        if (attempt + 2 == ATTEMPTS_MOST && desk->item[0].done == 0) items_most = 1;
    }
    return placed(desk, fullest);
}

// A step lasts as long as its fullest rank, so a level is worth its tokens over that; but small
// steps cost too, so none is taken for less than three quarters of the tokens.
static void lay(struct plan_desk *desk) {
    const int64_t ranks = desk->ranks;
    int64_t most = desk->most, fullest = 0;
    int64_t tokens = lay_level(desk, most, &fullest);
    for (int attempt = 0; attempt < ATTEMPTS_MOST; attempt++) {
        if (fullest <= most - CHUNK_TOKENS) return; // all that waits is in the step
        if (fullest <= CHUNK_TOKENS || 10 * ranks * fullest <= 11 * tokens) return;
        int64_t lower_fullest = 0;
        const int64_t lower = greater(11 * tokens / (10 * ranks), CHUNK_TOKENS);
        const int64_t lower_tokens = lay_level(desk, lower, &lower_fullest);
        if (lower_tokens * fullest <= tokens * lower_fullest || 4 * lower_tokens < 3 * tokens) {
            (void)lay_level(desk, most, &fullest);
            return;
        }
        most = lower;
        fullest = lower_fullest;
        tokens = lower_tokens;
    }
}

static void tell_span(struct plan *plan, const struct plan_document *documents, int32_t rank,
                      int32_t index, int64_t count, int64_t at) {
    struct plan_item *item = &plan->desk->item[index];
    const struct plan_document *document = &documents[item->document];
    struct plan_span *span = &plan->spans[at];
    *span = (struct plan_span){.document = item->document,
                               .rank = rank,
                               .first = document->first + item->told,
                               .count = count,
                               .to = TO_SLOT};
    if (item->told > 0) {
        span->from = FROM_LEFT;
    } else if (document->first == 0) {
        span->from = FROM_ZERO;
    } else {
        span->from = item->holder == rank ? FROM_SLOT : FROM_MOVE;
    }
    item->told += count;
    if (item->told < item->done) {
        span->to = TO_RIGHT;
    } else if (document->closes && item->done == document->ready) {
        span->to = document->keeps ? TO_SLOT : TO_NOWHERE;
    }
}

// A rank's list: what comes over its left border, what is its own, what goes over the right one.
static enum status tell_spans(struct plan *plan, const struct plan_document *documents) {
    struct plan_desk *desk = plan->desk;
    int64_t end = 0;
    for (int32_t r = 0; r < desk->ranks; r++)
        end += desk->rank[r].spans;
    TRY(room_for((void **)&plan->spans, &plan->spans_room, (size_t)end, sizeof *plan->spans));
    plan->span_count = end;
    end = 0;
    for (int32_t r = 0; r < desk->ranks; r++) {
        struct plan_rank *rank = &desk->rank[r];
        rank->next = end;
        end += rank->spans;
        if (rank->left >= 0) {
            tell_span(plan, documents, r, rank->left, rank->left_count, rank->next++);
        }
        if (rank->right >= 0 && !rank_crossed(rank)) {
            tell_span(plan, documents, r, rank->right, rank->right_count, end - 1);
        }
        plan->tokens += rank->load;
    }
    for (int32_t i = 0; i < (int32_t)desk->items; i++) {
        const struct plan_item *item = &desk->item[i];
        if (item->done == 0 || item->cut) continue;
        tell_span(plan, documents, item->rank, i, item->done, desk->rank[item->rank].next++);
    }
    return STATUS_OK;
}

static enum status tell_moves(struct plan *plan) {
    const struct plan_desk *desk = plan->desk;
    for (int64_t i = 0; i < desk->items; i++) {
        const struct plan_item *item = &desk->item[i];
        if (item->done == 0 || item->holder < 0 || item->holder == item->rank) continue;
        TRY(room_for((void **)&plan->moves, &plan->moves_room, (size_t)plan->move_count + 1,
                     sizeof *plan->moves));
        plan->moves[plan->move_count++] =
            (struct plan_move){item->document, item->holder, item->rank};
    }
    return STATUS_OK;
}

enum status plan_build(const struct plan_document *documents, int64_t count,
                       const struct plan_settings *settings, struct plan *plan) {
    CHECK(settings->ranks >= 1 && settings->spans_most >= 1 && settings->move_tokens >= 0);
    CHECK(settings->step_tokens >= CHUNK_TOKENS && settings->step_tokens % CHUNK_TOKENS == 0);
    CHECK(count >= 0 && count <= INT32_MAX);
    plan->span_count = 0;
    plan->move_count = 0;
    plan->tokens = 0;
    TRY(desk_lay(plan, settings));
    TRY(consider(plan->desk, documents, count));
    if (plan->desk->considered == 0) return STATUS_OK;
    lay(plan->desk);
    TRY(tell_spans(plan, documents));
    return tell_moves(plan);
}

void plan_free(struct plan *plan) {
    struct plan_desk *desk = plan->desk;
    if (desk != NULL) {
        for (int kind = 0; kind < LINES; kind++)
            free(desk->line[kind].item);
        free(desk->item);
        free(desk->rank);
        free(desk->held);
        free(desk);
    }
    free(plan->spans);
    free(plan->moves);
    *plan = (struct plan){0};
}
