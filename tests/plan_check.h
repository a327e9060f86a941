#pragma once
// The eight invariants of a plan (pipeline/plan.h), checked by somebody who has not made it.
// plan_check says what is broken, beginning with the invariant's number, or NULL.

#include "pipeline/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plan_checker {
    const struct plan_document *documents;
    int64_t count;
    const struct plan_settings *settings;
    const struct plan *plan;
    int64_t *done;       // [count] tokens taken
    int64_t *spans;      // [count]
    int32_t *rank;       // [count] of the first span
    int64_t *start;      // [count] tokens of the first span
    int64_t *fullest;    // [count] load of the fullest rank the document lies on
    int64_t *load;       // [ranks]
    int64_t *rank_spans; // [ranks]
    bool *crossed;       // [ranks]
    int64_t most;        // load of the fullest rank
    bool scarce;         // a rank has all the spans it may have
    char wrong[200];
};

#define EXPECT(condition, number, ...)                                            \
    do {                                                                          \
        if (!(condition)) {                                                       \
            int at_ = snprintf(c->wrong, sizeof c->wrong, "%d: ", number);        \
            snprintf(c->wrong + at_, sizeof c->wrong - (size_t)at_, __VA_ARGS__); \
            return false;                                                         \
        }                                                                         \
    } while (0)

// 1, 2, 3 and what goes with them: ranks and positions in order, no rank too full.
static inline bool check_spans(struct plan_checker *c) {
    int64_t tokens = 0;
    int32_t last_rank = 0;
    for (int64_t i = 0; i < c->plan->span_count; i++) {
        const struct plan_span *s = &c->plan->spans[i];
        EXPECT(s->document >= 0 && s->document < c->count && s->rank < c->settings->ranks, 1,
               "span %ld: no such document or rank", (long)i);
        const struct plan_document *d = &c->documents[s->document];
        const int64_t done = c->done[s->document];
        const bool first_of_rank = i == 0 || c->plan->spans[i - 1].rank != s->rank;
        const bool last_of_rank =
            i + 1 == c->plan->span_count || c->plan->spans[i + 1].rank != s->rank;
        EXPECT(s->rank >= last_rank, 1, "ranks out of order");
        EXPECT(s->count > 0 && s->count <= d->ready - done, 1, "more than is ready");
        EXPECT(s->first == d->first + done, 1, "a hole in document %d", s->document);
        EXPECT(c->spans[s->document] == 0 ||
                   s->rank == c->rank[s->document] + (int32_t)c->spans[s->document],
               1, "document %d leaves out a rank", s->document);
        EXPECT((s->from == FROM_LEFT) == (done > 0), 1, "span %ld: wrong from", (long)i);
        const int64_t end = done + s->count;
        const bool ends = d->closes && end == d->ready;
        EXPECT(s->from != FROM_LEFT || first_of_rank, 2, "from the left, but not first");
        EXPECT(s->to != TO_RIGHT || last_of_rank, 2, "to the right, but not last");
        EXPECT(done == 0 || s->first % CHUNK_TOKENS == 0, 3, "begins inside a chunk");
        EXPECT(ends || (s->first + s->count) % CHUNK_TOKENS == 0, 3, "ends inside a chunk");
        EXPECT((s->to == TO_NOWHERE) == (ends && !d->keeps), 1, "span %ld: wrong to", (long)i);
        if (done == 0) {
            c->rank[s->document] = s->rank;
            c->start[s->document] = s->count;
        }
        c->done[s->document] = end;
        c->spans[s->document]++;
        c->load[s->rank] += s->count;
        c->rank_spans[s->rank]++;
        if (s->from == FROM_LEFT && s->to == TO_RIGHT) c->crossed[s->rank] = true;
        EXPECT(c->load[s->rank] <= c->settings->step_tokens, 1, "rank %d too full", s->rank);
        EXPECT(c->rank_spans[s->rank] <= c->settings->spans_most, 1, "rank %d: spans", s->rank);
        tokens += s->count;
        last_rank = s->rank;
    }
    EXPECT(tokens == c->plan->tokens, 1, "tokens do not add up");
    // What goes to the right must come from the left on the next rank.
    for (int64_t i = 0; i < c->plan->span_count; i++) {
        const struct plan_span *s = &c->plan->spans[i];
        const int64_t end = s->first + s->count - c->documents[s->document].first;
        EXPECT((s->to == TO_RIGHT) == (end < c->done[s->document]), 1, "right goes nowhere");
    }
    return true;
}

// 4: where a document begins, its state is, or comes.
static inline bool check_starts(struct plan_checker *c) {
    int64_t moved = 0;
    for (int64_t i = 0; i < c->plan->span_count; i++) {
        const struct plan_span *s = &c->plan->spans[i];
        const struct plan_document *d = &c->documents[s->document];
        if (s->from == FROM_LEFT) continue;
        EXPECT((s->from == FROM_ZERO) == (d->first == 0), 4, "document %d from zero", s->document);
        if (s->from == FROM_SLOT) EXPECT(s->rank == d->holder, 4, "not where its state is");
        if (s->from == FROM_MOVE) {
            moved++;
            EXPECT(s->rank != d->holder, 4, "moved to where it is");
        }
    }
    EXPECT(moved == c->plan->move_count, 4, "%ld moves for %ld spans", (long)c->plan->move_count,
           (long)moved);
    for (int64_t i = 0; i < c->plan->move_count; i++) {
        const struct plan_move *m = &c->plan->moves[i];
        EXPECT(i == 0 || c->plan->moves[i - 1].document < m->document, 4, "a move twice");
        EXPECT(m->document >= 0 && m->document < c->count, 4, "no such document");
        EXPECT(m->from == c->documents[m->document].holder, 4, "a move from elsewhere");
        EXPECT(c->done[m->document] > 0 && m->to == c->rank[m->document], 4, "a move to elsewhere");
    }
    return true;
}

static inline void weigh(struct plan_checker *c) {
    // With a span for every border, and some for what the ranks hold already.
    c->scarce = 2 * c->count > c->settings->ranks * (c->settings->spans_most - 1);
    for (int32_t r = 0; r < c->settings->ranks; r++) {
        if (c->load[r] > c->most) c->most = c->load[r];
        if (c->rank_spans[r] >= c->settings->spans_most) c->scarce = true;
    }
    for (int64_t i = 0; i < c->plan->span_count; i++) {
        const struct plan_span *s = &c->plan->spans[i];
        if (c->load[s->rank] > c->fullest[s->document]) {
            c->fullest[s->document] = c->load[s->rank];
        }
    }
}

// 5: whole on its first rank a split document would have been over the mean of that rank and those
// behind it, or too much. A move that is taken back after the split (7) may shift loads by its
// price.
static inline bool check_splits(struct plan_checker *c) {
    for (int64_t d = 0; d < c->count; d++) {
        if (c->spans[d] < 2 || c->scarce) continue;
        const int64_t whole = c->load[c->rank[d]] - c->start[d] + c->done[d];
        int64_t share = 0;
        for (int32_t r = c->rank[d]; r < c->settings->ranks; r++)
            share += c->load[r];
        share /= c->settings->ranks - c->rank[d];
        EXPECT(whole > c->settings->step_tokens ||
                   whole + c->settings->move_tokens + CHUNK_TOKENS / 2 > share,
               5, "document %ld need not be split: %ld of %ld", (long)d, (long)whole, (long)share);
    }
    return true;
}

// 6, when there is more than twice what a step can hold, in documents that can be split, and moves
// are cheap. Ranks of less than ten chunks differ by a chunk where short documents lie among long
// ones, which is more than a tenth.
static inline bool check_balance(struct plan_checker *c) {
    const struct plan_settings *s = c->settings;
    const int64_t room = s->ranks * s->step_tokens;
    int64_t enough = 0;
    for (int64_t d = 0; d < c->count && enough < 2 * room; d++) {
        if (c->documents[d].ready >= 4 * CHUNK_TOKENS) enough += c->documents[d].ready;
    }
    if (s->spans_most < 64 || c->scarce || enough < 2 * room || s->move_tokens > CHUNK_TOKENS / 4)
        return true;
    if (s->step_tokens < 10 * CHUNK_TOKENS) {
        EXPECT(c->most <= c->plan->tokens / s->ranks + CHUNK_TOKENS, 6,
               "fullest rank %ld, mean %ld", (long)c->most, (long)(c->plan->tokens / s->ranks));
        return true;
    }
    EXPECT(c->most <= CHUNK_TOKENS || 10 * s->ranks * c->most <= 11 * c->plan->tokens, 6,
           "fullest rank %ld, mean %ld", (long)c->most, (long)(c->plan->tokens / s->ranks));
    return true;
}

// 7: a moved document could not have stayed, or its rank would have been fuller by more than the
// price of the move.
static inline bool check_moves(struct plan_checker *c) {
    for (int64_t i = 0; i < c->plan->move_count; i++) {
        const struct plan_move *m = &c->plan->moves[i];
        int64_t home = c->load[m->from] + c->done[m->document];
        if (c->crossed[m->from] || c->rank_spans[m->from] >= c->settings->spans_most) continue;
        if (m->from > m->to && m->from < m->to + c->spans[m->document]) continue; // through home
        EXPECT(home > c->settings->step_tokens ||
                   home > c->fullest[m->document] + c->settings->move_tokens,
               7, "document %d need not be moved: %ld, %ld, %ld tokens on %ld ranks", m->document,
               (long)home, (long)c->fullest[m->document], (long)c->done[m->document],
               (long)c->spans[m->document]);
    }
    return true;
}

// 8: nobody gets a second chunk before all have a first one, but for those that wait a step since
// their rank is full and a move is dearer. The first in the queue are served.
static inline bool check_turns(struct plan_checker *c) {
    int64_t greatest = 0;
    bool front = true;
    for (int64_t d = 0; d < c->count; d++) {
        if (c->done[d] > greatest) greatest = c->done[d];
    }
    for (int64_t d = 0; d < c->count; d++) {
        const struct plan_document *document = &c->documents[d];
        if (document->ready == 0) continue;
        const int64_t first =
            document->ready < CHUNK_TOKENS ? document->ready : (int64_t)CHUNK_TOKENS;
        const bool waits = document->holder >= 0 && first <= c->settings->move_tokens &&
                           (c->load[document->holder] + first > c->settings->step_tokens ||
                            c->rank_spans[document->holder] >= c->settings->spans_most);
        EXPECT(c->done[d] > 0 || waits || !front, 8, "the first in the queue is not served");
        EXPECT(c->done[d] > 0 || waits || c->scarce || greatest <= CHUNK_TOKENS, 8,
               "document %ld gets nothing, another %ld tokens", (long)d, (long)greatest);
        front = false;
    }
    return true;
}

static inline void *plan_check_room(int64_t items, size_t bytes) {
    void *room = calloc((size_t)items + 1, bytes);
    if (room == NULL) abort();
    return room;
}

// Returns what is wrong, in a buffer of the caller's, or NULL.
static inline const char *plan_check(const struct plan_document *documents, int64_t count,
                                     const struct plan_settings *settings, const struct plan *plan,
                                     char wrong[200]) {
    struct plan_checker c = {documents,
                             count,
                             settings,
                             plan,
                             plan_check_room(count, sizeof *c.done),
                             plan_check_room(count, sizeof *c.spans),
                             plan_check_room(count, sizeof *c.rank),
                             plan_check_room(count, sizeof *c.start),
                             plan_check_room(count, sizeof *c.fullest),
                             plan_check_room(settings->ranks, sizeof *c.load),
                             plan_check_room(settings->ranks, sizeof *c.rank_spans),
                             plan_check_room(settings->ranks, sizeof *c.crossed),
                             0,
                             false,
                             ""};
    bool right = check_spans(&c) && check_starts(&c);
    if (right) weigh(&c);
    right = right && check_splits(&c) && check_balance(&c) && check_moves(&c) && check_turns(&c);
    free(c.done);
    free(c.spans);
    free(c.rank);
    free(c.start);
    free(c.fullest);
    free(c.load);
    free(c.rank_spans);
    free(c.crossed);
    memcpy(wrong, c.wrong, sizeof c.wrong);
    return right ? NULL : wrong;
}
