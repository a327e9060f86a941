// Lays shares on ranks, from left to right.
//
// Before: every document that is held stays in the line of its rank, unless the ranks from there
// on cannot take it (they are the only ones it could go on to); then it stands in the common lines,
// with those that may start anywhere. Then, rank by rank:
//
//   level = mean of what is left over the ranks that are left, at most what a rank takes
//   1. the document that comes over the left border, whole; or, if it is more than the level,
//      across the rank and on: a rank that is crossed has nothing else, so those that it holds
//      must move, which is weighed against cutting the comer short
//   2. those that the rank holds, short ones first. Staying is worth the price of a move: so far
//      they may go over the level. The first longer one that does not fit is to go on to the right;
//      others that do not fit join the lines (late, so in front)
//   3. from the lines: short ones, then longer ones, until one is to go on to the right
//   4. that one gets what is left up to the level, in whole chunks
//
// The last rank has no right border: everybody left gets a first chunk, then in turn more.
// At last whoever was moved for less than the price goes back to where it came from.
//
// Level and cuts are rounded to nearest, so that the ranks differ by a chunk at most.

#include "pipeline/plan_place.h"

#define LOOK_AHEAD 16 // short documents tried for a gap that the first does not fit in

static void join(struct plan_desk *desk, enum line_kind kind, int32_t index) {
    struct plan_line *line = &desk->line[kind];
    line->item[line->end++] = index;
    desk->item[index].state = ITEM_FREE;
}

void plan_join_late(struct plan_desk *desk, int32_t index) {
    join(desk, item_short(&desk->item[index]) ? LATE_SHORT : LATE_LONG, index);
}

void plan_give(struct plan_desk *desk, int32_t index, int32_t rank, int64_t tokens) {
    struct plan_item *item = &desk->item[index];
    if (item->state != ITEM_PLACED) item->rank = rank;
    item->state = ITEM_PLACED;
    item->done += tokens;
    desk->rank[rank].load += tokens;
    desk->rank[rank].spans++;
    desk->remaining -= tokens;
}

// Chunks, in tokens, that bring the load nearest to the level; at least one on an empty rank.
int64_t plan_chunks_to(const struct plan_desk *desk, int64_t load, int64_t level) {
    int64_t chunks = (greater(level - load, 0) + CHUNK_TOKENS / 2) / CHUNK_TOKENS;
    if (load == 0) chunks = greater(chunks, 1);
    return least(chunks, (desk->most - load) / CHUNK_TOKENS) * CHUNK_TOKENS;
}

// Is the load of a rank that has something nearer to the level with these tokens than without?
static bool fits(const struct plan_desk *desk, const struct plan_rank *rank, int64_t level,
                 int64_t tokens) {
    if (rank->spans >= desk->spans_most || rank->load + tokens > desk->most) return false;
    return rank->load == 0 || 2 * (rank->load - level) + tokens <= 0;
}

// Returns true if the rank is crossed.
static bool carry_on(struct plan_desk *desk, int32_t r, int64_t level) {
    struct plan_rank *rank = &desk->rank[r];
    const int32_t index = desk->carry;
    const int64_t left = desk->item[index].take - desk->item[index].done;
    const int64_t full = plan_chunks_to(desk, 0, level);
    const bool ends = left <= full;
    const int64_t room = greater((ends ? desk->most : level) - held_reserved(desk, rank, ends), 0);
    const bool crosses = !ends && held_make_way(desk, rank, left - least(room, left));
    const int64_t part = crosses ? full : part_of(left, room);
    if (part > 0) {
        rank->left = index;
        rank->left_count = part;
        plan_give(desk, index, r, part);
    }
    if (crosses) {
        rank->right = index;
        return true;
    }
    desk->remaining -= left - part;
    desk->carry = -1;
    return false;
}

// What fits from a line of short ones, looking past a few that do not.
static void place_shorts(struct plan_desk *desk, enum line_kind kind, int32_t r, int64_t level) {
    struct plan_line *line = &desk->line[kind];
    int tried = 0;
    for (int64_t at = line->head; at < line->end && tried < LOOK_AHEAD; at++) {
        const int32_t index = line->item[at];
        const bool gone = desk->item[index].state == ITEM_PLACED;
        if (!gone && fits(desk, &desk->rank[r], level, desk->item[index].take)) {
            plan_give(desk, index, r, desk->item[index].take);
        } else if (!gone) {
            tried++;
            continue;
        }
        if (at == line->head) line->head++;
    }
}

// Whole ones from a line of longer ones; returns the one that is to go on to the right, or -1.
static int32_t place_longs(struct plan_desk *desk, enum line_kind kind, int32_t r, int64_t level) {
    struct plan_line *line = &desk->line[kind];
    const struct plan_rank *rank = &desk->rank[r];
    while (line->head < line->end && rank->spans < desk->spans_most) {
        const int32_t index = line->item[line->head];
        const int64_t take = desk->item[index].take;
        const int64_t space = plan_chunks_to(desk, rank->load, level);
        if (space == 0) return -1;
        line->head++;
        const bool near = rank->load + take <= least(level + CHUNK_TOKENS / 2, desk->most);
        if (take > space && !near) return index;
        plan_give(desk, index, r, take);
    }
    return -1;
}

// What there is room for up to the level, and the rest over the border.
static void cut(struct plan_desk *desk, int32_t r, int32_t index, int64_t level) {
    struct plan_rank *rank = &desk->rank[r];
    const int64_t part = plan_chunks_to(desk, rank->load, level);
    if (part == 0 || rank->spans >= desk->spans_most) {
        plan_join_late(desk, index);
    } else if (part >= desk->item[index].take) {
        plan_give(desk, index, r, desk->item[index].take);
    } else {
        rank->right = index;
        rank->right_count = part;
        plan_give(desk, index, r, part);
        desk->carry = index;
    }
}

static void fill(struct plan_desk *desk, int32_t r) {
    const int64_t ranks = desk->ranks - r;
    const int64_t level = least((desk->remaining + ranks - 1) / ranks, desk->most);
    if (desk->carry >= 0 && carry_on(desk, r, level)) return;
    const int64_t limit = least(desk->most, level + desk->price);
    held_admit(desk, &desk->rank[r]);
    held_place_shorts(desk, r, limit);
    int32_t over = held_place_longs(desk, r, level, limit);
    if (over >= 0) cut(desk, r, over, level);
    place_shorts(desk, LATE_SHORT, r, level);
    place_shorts(desk, SHORT, r, level);
    if (over >= 0) return;
    over = place_longs(desk, LATE_LONG, r, level);
    if (over < 0) over = place_longs(desk, LONG, r, level);
    if (over >= 0) cut(desk, r, over, level);
}

static int64_t first_chunks(const struct plan_desk *desk, const struct plan_line *line) {
    int64_t tokens = 0;
    for (int64_t i = line->head; i < line->end; i++) {
        const struct plan_item *item = &desk->item[line->item[i]];
        if (item->state == ITEM_FREE) tokens += least(item->take, CHUNK_TOKENS);
    }
    return tokens;
}

// A first chunk, and as much as `extra` allows.
static void serve(struct plan_desk *desk, int32_t index, int64_t *extra) {
    const int32_t r = desk->ranks - 1;
    const struct plan_rank *rank = &desk->rank[r];
    struct plan_item *item = &desk->item[index];
    const int64_t first = least(item->take, CHUNK_TOKENS);
    const int64_t more = part_of(item->take - first, *extra);
    if (rank->load + first <= desk->most && rank->spans < desk->spans_most) {
        plan_give(desk, index, r, first + more);
        *extra -= more;
    } else if (item->holder == r && item->take <= desk->price) {
        item->state = ITEM_WAITS;
    }
}

// The one that comes over the border has something already: it gets what the others leave.
static void fill_last(struct plan_desk *desk) {
    struct plan_rank *rank = &desk->rank[desk->ranks - 1];
    int64_t extra = desk->most - held_reserved(desk, rank, false);
    for (int kind = 0; kind < LINES; kind++)
        extra -= first_chunks(desk, &desk->line[kind]);
    extra = greater(extra, 0);
    for (int64_t i = rank->held_first; i < rank->held_end; i++) {
        if (desk->item[desk->held[i]].state == ITEM_HELD) serve(desk, desk->held[i], &extra);
    }
    for (int kind = 0; kind < LINES; kind++) {
        const struct plan_line *line = &desk->line[kind];
        for (int64_t i = line->head; i < line->end; i++) {
            if (desk->item[line->item[i]].state == ITEM_FREE) serve(desk, line->item[i], &extra);
        }
    }
    if (desk->carry < 0 || rank->spans >= desk->spans_most) return;
    const struct plan_item *item = &desk->item[desk->carry];
    const int64_t part = part_of(item->take - item->done, desk->most - rank->load);
    if (part == 0) return;
    rank->left = desk->carry;
    rank->left_count = part;
    plan_give(desk, desk->carry, desk->ranks - 1, part);
}

void plan_place(struct plan_desk *desk) {
    desk->carry = -1;
    desk->remaining = 0;
    for (int64_t i = 0; i < desk->items; i++) {
        struct plan_item *item = &desk->item[i];
        item->state = item->holder < 0 ? ITEM_FREE : ITEM_HELD;
        item->rank = -1;
        item->cut = false;
        item->done = 0;
        item->told = 0;
        desk->remaining += item->take;
    }
    for (int kind = 0; kind < LINES; kind++)
        desk->line[kind].head = desk->line[kind].end = 0;
    held_sort(desk);
    held_thin_out(desk, least((desk->remaining + desk->ranks - 1) / desk->ranks, desk->most));
    for (int64_t i = 0; i < desk->items; i++) {
        if (desk->item[i].state != ITEM_FREE) continue;
        join(desk, item_short(&desk->item[i]) ? SHORT : LONG, (int32_t)i);
    }
    for (int32_t r = 0; r < desk->ranks - 1; r++)
        fill(desk, r);
    fill_last(desk);
    plan_settle(desk);
}
