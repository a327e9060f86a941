#pragma once
// The inside of the planner: documents with their shares, laid on ranks. Only pipeline/plan*.c
// include it.

#include "pipeline/plan.h"

enum item_state {
    ITEM_FREE,   // may start on any rank
    ITEM_HELD,   // is to start on the rank that holds its state
    ITEM_WAITS,  // its rank is full and a move is dearer than a step of waiting
    ITEM_PLACED, // has its rank
};

// A document considered for this step.
struct plan_item {
    int32_t document, holder;
    int32_t rank; // of its first span
    enum item_state state;
    bool cut;      // lies on more than one rank
    int64_t ready; // no more than all ranks could do
    int64_t take;  // its share of this step
    int64_t done;  // what it was given: in the end at most `take`
    int64_t told;  // of that, what is in spans already
};

struct plan_rank {
    int64_t load, spans;
    int64_t left_count, right_count; // tokens; of one that crosses the rank all are in the former
    int64_t next;                    // where its next own span goes into the plan
    int32_t left, right; // items that come over the border and that begin or go on over it; -1
    int64_t held_first, held_end; // its share of desk->held
};

// Items in the order in which they want a place.
struct plan_line {
    int32_t *item;
    int64_t head, end;
    size_t room;
};

enum line_kind { LATE_SHORT, SHORT, LATE_LONG, LONG, LINES };

struct plan_desk {
    int32_t ranks;
    int64_t step_tokens; // most tokens of one rank
    int64_t most;        // that it is to get, at times less
    int64_t price;       // of a move, in tokens
    int64_t spans_most;

    struct plan_item *item; // in queue order
    int64_t considered;     // could be in the step
    bool more;              // others could not, for want of room
    int64_t items;          // of those, the first ones that have a share
    struct plan_rank *rank;
    int32_t *held; // items by the rank that holds them, in queue order
    struct plan_line line[LINES];
    size_t item_room, rank_room, held_room;

    int64_t remaining; // tokens that want a place yet
    int32_t carry;     // item that goes on over the border to the next rank, or -1
};

// Lays the items' shares on ranks: fills in rank, state, done and the ranks.
void plan_place(struct plan_desk *desk);

// Its parts: the ranks' own documents (plan_held.c), and the last look (plan_settle.c).
void held_sort(struct plan_desk *desk);
void held_thin_out(struct plan_desk *desk, int64_t mean);
int64_t held_reserved(const struct plan_desk *desk, const struct plan_rank *rank, bool dear);
bool held_make_way(struct plan_desk *desk, const struct plan_rank *rank, int64_t lost);
void held_admit(struct plan_desk *desk, const struct plan_rank *rank);
void held_place_shorts(struct plan_desk *desk, int32_t r, int64_t limit);
int32_t held_place_longs(struct plan_desk *desk, int32_t r, int64_t level, int64_t limit);
void plan_settle(struct plan_desk *desk);

// What the parts share.
void plan_join_late(struct plan_desk *desk, int32_t index);
void plan_give(struct plan_desk *desk, int32_t index, int32_t rank, int64_t tokens);
int64_t plan_chunks_to(const struct plan_desk *desk, int64_t load, int64_t level);

// A document of at most one chunk in this step lies on one rank or nowhere.
static inline bool item_short(const struct plan_item *item) {
    return item->take <= CHUNK_TOKENS;
}

// The document goes from the rank's left border to its right one, and is alone there.
static inline bool rank_crossed(const struct plan_rank *rank) {
    return rank->left >= 0 && rank->left == rank->right;
}

static inline int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t greater(int64_t a, int64_t b) {
    return a > b ? a : b;
}

// Whole, or as many chunks as there is room for.
static inline int64_t part_of(int64_t tokens, int64_t room) {
    return tokens <= room ? tokens : room / CHUNK_TOKENS * CHUNK_TOKENS;
}
