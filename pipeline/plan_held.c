// The documents that a rank holds: who stays, who goes, and in which order they are placed.

#include "pipeline/plan_place.h"

// Sort the held ones by rank, in queue order.
void held_sort(struct plan_desk *desk) {
    for (int32_t r = 0; r < desk->ranks; r++) {
        desk->rank[r] = (struct plan_rank){.left = -1, .right = -1};
    }
    for (int64_t i = 0; i < desk->items; i++) {
        if (desk->item[i].holder >= 0) desk->rank[desk->item[i].holder].held_end++;
    }
    int64_t at = 0;
    for (int32_t r = 0; r < desk->ranks; r++) {
        struct plan_rank *rank = &desk->rank[r];
        const int64_t held = rank->held_end;
        rank->held_first = rank->held_end = at;
        at += held;
    }
    for (int64_t i = 0; i < desk->items; i++) {
        if (desk->item[i].holder < 0) continue;
        desk->held[desk->rank[desk->item[i].holder].held_end++] = (int32_t)i;
    }
}

// Who is held too far to the right to go on from there is free to start elsewhere, if a move is
// worth it.
void held_thin_out(struct plan_desk *desk, int64_t mean) {
    int64_t kept = 0;
    for (int32_t r = desk->ranks - 1; r >= 0; r--) {
        const struct plan_rank *rank = &desk->rank[r];
        const int64_t ranks = desk->ranks - r;
        const int64_t level = ranks * mean + desk->price, most = ranks * desk->most;
        for (int64_t i = rank->held_first; i < rank->held_end; i++) {
            struct plan_item *item = &desk->item[desk->held[i]];
            const int64_t space = greater(least(level, most) - kept, 0);
            const int64_t over =
                item->take - least(space / CHUNK_TOKENS * CHUNK_TOKENS, item->take);
            if (item->take <= space || (level >= most && over <= desk->price)) {
                kept += least(item->take, space);
            } else {
                item->state = ITEM_FREE;
            }
        }
    }
}

// No place at home. A document that is not worth its move waits a step, and is then the first.
static void held_leave(struct plan_desk *desk, int32_t index) {
    struct plan_item *item = &desk->item[index];
    if (item->take <= desk->price) {
        item->state = ITEM_WAITS;
        desk->remaining -= item->take;
    } else {
        plan_join_late(desk, index);
    }
}

// First chunks of those that the rank holds; dear: only of those that are not worth a move.
int64_t held_reserved(const struct plan_desk *desk, const struct plan_rank *rank, bool dear) {
    int64_t tokens = 0;
    for (int64_t i = rank->held_first; i < rank->held_end; i++) {
        const struct plan_item *item = &desk->item[desk->held[i]];
        if (item->state != ITEM_HELD || (dear && item->take > desk->price)) continue;
        tokens += least(item->take, CHUNK_TOKENS);
    }
    return tokens;
}

// All that the rank holds must move if it is crossed. Is that less than what is lost else?
bool held_make_way(struct plan_desk *desk, const struct plan_rank *rank, int64_t lost) {
    int64_t moves = 0;
    for (int64_t i = rank->held_first; i < rank->held_end; i++) {
        if (desk->item[desk->held[i]].state == ITEM_HELD) moves++;
    }
    if (moves > 0 && moves * desk->price >= lost) return false;
    for (int64_t i = rank->held_first; i < rank->held_end; i++) {
        if (desk->item[desk->held[i]].state == ITEM_HELD) plan_join_late(desk, desk->held[i]);
    }
    return true;
}

// First chunks in queue order: who has no room for one leaves.
void held_admit(struct plan_desk *desk, const struct plan_rank *rank) {
    int64_t room = desk->most - rank->load, spans = desk->spans_most - rank->spans;
    for (int64_t i = rank->held_first; i < rank->held_end; i++) {
        const struct plan_item *item = &desk->item[desk->held[i]];
        if (item->state != ITEM_HELD) continue;
        const int64_t first = least(item->take, CHUNK_TOKENS);
        if (first > room || spans == 0) {
            held_leave(desk, desk->held[i]);
        } else {
            room -= first;
            spans--;
        }
    }
}

void held_place_shorts(struct plan_desk *desk, int32_t r, int64_t limit) {
    const struct plan_rank *rank = &desk->rank[r];
    for (int64_t i = rank->held_first; i < rank->held_end; i++) {
        const struct plan_item *item = &desk->item[desk->held[i]];
        if (item->state != ITEM_HELD || !item_short(item)) continue;
        if (rank->load == 0 || rank->load + item->take <= limit) {
            plan_give(desk, desk->held[i], r, item->take);
        } else {
            plan_join_late(desk, desk->held[i]);
        }
    }
}

// Returns the one that is to go on to the right, or -1.
int32_t held_place_longs(struct plan_desk *desk, int32_t r, int64_t level, int64_t limit) {
    const struct plan_rank *rank = &desk->rank[r];
    int64_t kept = held_reserved(desk, rank, true);
    int32_t over = -1;
    for (int64_t i = rank->held_first; i < rank->held_end; i++) {
        const int32_t index = desk->held[i];
        const struct plan_item *item = &desk->item[index];
        if (item->state != ITEM_HELD) continue;
        const bool dear = item->take <= desk->price;
        if (dear) kept -= CHUNK_TOKENS;
        const int64_t room = limit - kept - rank->load;
        if (item->take <= room) {
            plan_give(desk, index, r, item->take);
        } else if (dear && limit == desk->most && room >= CHUNK_TOKENS) {
            desk->remaining -= item->take - part_of(item->take, room);
            plan_give(desk, index, r, part_of(item->take, room));
        } else if (over < 0 && plan_chunks_to(desk, rank->load + kept, level) > 0) {
            over = index;
        } else {
            plan_join_late(desk, index);
        }
    }
    return over;
}
