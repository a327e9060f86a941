// Branches as the steps take them.
#include "ops/base/check.h"
#include "ops/base/room.h"
#include "pipeline/branches_inner.h"

#include <stdlib.h>
#include <string.h>

static struct branches *branches_of(struct work *work) {
    return (struct branches *)work;
}

static int64_t ready_tokens(const struct work *work) {
    return ((const struct branches *)work)->ready_tokens;
}

// Which of the plan's shared states the node's children start from.
static int32_t shared_number(struct branches *b, struct node *node, int32_t *shared) {
    if (node->turn != b->turn) node->shared = ++*shared;
    node->turn = b->turn;
    return node->shared;
}

static void show(struct branches *b, struct node *node, int32_t *shared, struct front *front) {
    struct node *parent = parent_of(node);
    const bool begins = node->planned == 0 && parent != NULL;
    front->candidate[front->count] = (struct candidate){.item = node,
                                                        .key = node->key,
                                                        .source = begins ? parent->key : node->key,
                                                        .stays = begins};
    front->waiting[front->count] =
        (struct plan_document){.first = node->branch.first + node->planned,
                               .ready = node->branch.count - node->planned,
                               .closes = true,
                               .keeps = !node->sealed || node->unbegun > 0,
                               .holder = begins ? parent->holder : node->holder,
                               .shared = begins ? shared_number(b, parent, shared) : 0};
    front->count++;
}

// As many from the front of the heap as fill the step, so that a long branch runs whole before others
// begin; but one a rank at least. All may lie on one rank, so nor are more rows asked than that takes.
static enum status gather(struct work *work, const struct plan_settings *settings,
                          struct front *front) {
    struct branches *b = branches_of(work);
    const int64_t full = settings->step_tokens * settings->ranks;
    const int64_t most = settings->spans_most * settings->ranks;
    int64_t tokens = 0, asked = 0;
    int32_t shared = 0;
    TRY(branches_tell_drops(b));
    b->turn++;
    front->count = 0;
    while (b->ready_count > 0 && front->count < most) {
        const struct branch *next = &b->ready[0]->branch;
        if (front->count >= settings->ranks && tokens >= full) break;
        if (front->count > 0 && next->asked > b->asked_most - asked) break;
        const size_t need = (size_t)front->count + 1;
        TRY(room_for((void **)&front->waiting, &front->waiting_room, need, sizeof *front->waiting));
        TRY(room_for((void **)&front->candidate, &front->candidate_room, need,
                     sizeof *front->candidate));
        asked += next->asked;
        tokens += next->count - b->ready[0]->planned;
        show(b, branches_pop(b), &shared, front);
    }
    return STATUS_OK;
}

static int64_t greater(int64_t a, int64_t b) {
    return a > b ? a : b;
}

// The first of the branch's rows, not before `at`, that the driver hears of.
static int64_t asked_from(const struct branch *branch, int64_t at) {
    return greater(at, branch->count - branch->asked);
}

static void take(struct work *work, void *item, const struct plan_span *span, struct step_span *out,
                 int32_t *token) {
    struct branches *b = branches_of(work);
    struct node *node = item;
    const int64_t at = node->planned, end = at + span->count;
    CHECK(span->first == node->branch.first + at && end <= node->branch.count);
    if (at == 0 && parent_of(node) != NULL) parent_of(node)->unbegun--;
    b->ready_tokens -= span->count;
    b->waiting_tokens -= span->count;
    node->planned = end;
    node->holder = span->to == TO_NOWHERE ? -1 : span->rank;
    out->asked = greater(end - asked_from(&node->branch, at), 0);
    b->driver->table->tokens(b->driver, &node->branch, at, span->count, token, &out->lookahead);
}

static enum status taken(struct work *work, const struct front *front, const struct plan *plan) {
    struct branches *b = branches_of(work);
    (void)plan;
    for (int64_t i = 0; i < front->count; i++) {
        struct node *node = front->candidate[i].item;
        if (node->planned < node->branch.count) {
            branches_push(b, node);
        } else {
            branches_placed(b, node);
            branches_list_drop(b, node);
        }
        if (parent_of(node) != NULL) branches_list_drop(b, parent_of(node));
    }
    return STATUS_OK;
}

// The span's rows that the driver hears of.
static enum status keep_answer(struct node *node, int64_t at, const struct plan_span *span,
                               const struct span_answer *answer) {
    const size_t asked = (size_t)node->branch.asked;
    const int64_t from = asked_from(&node->branch, at);
    const int64_t rows = at + span->count - from;
    const int64_t to = from - (node->branch.count - node->branch.asked);
    if (rows <= 0 || asked == 0) return STATUS_OK;
    CHECK(rows == answer->asked);
    if (node->nll == NULL) node->nll = calloc(asked, sizeof *node->nll);
    if (node->best == NULL) node->best = calloc(asked, sizeof *node->best);
    if (node->nll == NULL || node->best == NULL) return FAIL(NO_MEMORY, "%zu rows", asked);
    memcpy(node->nll + to, answer->nll + (from - at), (size_t)rows * sizeof *node->nll);
    memcpy(node->best + to, answer->best, (size_t)rows * sizeof *node->best);
    return STATUS_OK;
}

static enum status answer(struct work *work, void *item, const struct plan_span *span,
                          const struct span_answer *answer) {
    struct branches *b = branches_of(work);
    struct node *node = item;
    CHECK(span->first == node->branch.first + node->answered);
    TRY(keep_answer(node, node->answered, span, answer));
    node->answered += span->count;
    b->counts.tokens += span->count;
    if (node->answered < node->branch.count) return STATUS_OK;
    const struct branch_answer all = {.nll = node->nll, .best = node->best};
    TRY(b->driver->table->done(b->driver, b, &node->branch, &all));
    branches_note_done(b, node);
    return STATUS_OK;
}

const struct work_table branches_work_table = {
    .ready_tokens = ready_tokens, .gather = gather, .take = take, .taken = taken, .answer = answer};
