// The last look at what was laid: ends that nobody goes on from, moves that are not worth it, and
// room that was left.

#include "pipeline/plan_place.h"

// A rank's right one that got nothing beyond the border ends there.
static void mark_cuts(struct plan_desk *desk) {
    for (int32_t r = 0; r < desk->ranks; r++) {
        struct plan_rank *rank = &desk->rank[r];
        const int32_t next = r + 1 < desk->ranks ? desk->rank[r + 1].left : -1;
        if (rank->right >= 0 && rank->right != next) rank->right = -1;
        if (rank->left >= 0) desk->item[rank->left].cut = true;
        if (rank->right >= 0) desk->item[rank->right].cut = true;
    }
}

// Load of the fullest rank that the document lies on.
static int64_t fullest(const struct plan_desk *desk, int32_t index) {
    const struct plan_item *item = &desk->item[index];
    int64_t load = desk->rank[item->rank].load;
    for (int32_t r = item->rank + 1; r < desk->ranks && desk->rank[r].left == index; r++) {
        load = greater(load, desk->rank[r].load);
    }
    return load;
}

static void take_off(struct plan_desk *desk, int32_t index) {
    struct plan_item *item = &desk->item[index];
    int64_t left = item->done;
    for (int32_t r = item->rank; left > 0; r++) {
        struct plan_rank *rank = &desk->rank[r];
        int64_t part = left;
        if (rank->left == index) {
            part = rank->left_count;
        } else if (rank->right == index) {
            part = rank->right_count;
        }
        if (rank->left == index) rank->left = -1;
        if (rank->right == index) rank->right = -1;
        rank->load -= part;
        rank->spans--;
        left -= part;
    }
    item->cut = false;
    item->done = 0;
    item->state = ITEM_FREE;
}

// Back home whoever makes its rank fuller by less than a move costs.
static void go_back(struct plan_desk *desk) {
    bool again = true;
    while (again) {
        again = false;
        for (int32_t i = 0; i < (int32_t)desk->items; i++) {
            const struct plan_item *item = &desk->item[i];
            if (item->done == 0 || item->holder < 0 || item->holder == item->rank) continue;
            const struct plan_rank *home = &desk->rank[item->holder];
            const int64_t load = home->load + item->done;
            if (home->left == i || rank_crossed(home) || home->spans >= desk->spans_most) continue;
            if (load > desk->step_tokens || load > fullest(desk, i) + desk->price) continue;
            const int64_t done = item->done;
            take_off(desk, i);
            plan_give(desk, i, item->holder, done);
            again = true;
        }
    }
}

// Those that were to wait, if others have left their rank meanwhile.
static void readmit(struct plan_desk *desk) {
    for (int32_t i = 0; i < (int32_t)desk->items; i++) {
        const struct plan_item *item = &desk->item[i];
        if (item->state != ITEM_WAITS) continue;
        const struct plan_rank *home = &desk->rank[item->holder];
        const int64_t part = part_of(item->take, desk->step_tokens - home->load);
        if (part == 0 || rank_crossed(home) || home->spans >= desk->spans_most) continue;
        plan_give(desk, i, item->holder, part);
    }
}

void plan_settle(struct plan_desk *desk) {
    mark_cuts(desk);
    go_back(desk);
    readmit(desk);
    go_back(desk); // ranks that are fuller now make fewer moves worth it
}
