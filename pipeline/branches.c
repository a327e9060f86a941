// Which branches there are, which are ready, and whose states nobody needs any more.
#include "ops/base/check.h"
#include "ops/base/room.h"
#include "pipeline/branches_inner.h"

#include <stdlib.h>

static bool comes_before(const struct node *a, const struct node *b) {
    return a->order != b->order ? a->order < b->order : a->key < b->key;
}

void branches_push(struct branches *b, struct node *node) {
    size_t at = b->ready_count++;
    CHECK(b->ready_count <= b->ready_room);
    for (; at > 0 && comes_before(node, b->ready[(at - 1) / 2]); at = (at - 1) / 2) {
        b->ready[at] = b->ready[(at - 1) / 2];
    }
    b->ready[at] = node;
}

struct node *branches_pop(struct branches *b) {
    struct node *first = b->ready[0];
    struct node *last = b->ready[--b->ready_count];
    size_t at = 0;
    for (;;) {
        size_t next = 2 * at + 1;
        if (next >= b->ready_count) break;
        if (next + 1 < b->ready_count && comes_before(b->ready[next + 1], b->ready[next])) next++;
        if (!comes_before(b->ready[next], last)) break;
        b->ready[at] = b->ready[next];
        at = next;
    }
    b->ready[at] = last;
    return first;
}

static void make_ready(struct branches *b, struct node *node) {
    b->ready_tokens += node->branch.count;
    branches_push(b, node);
}

void branches_placed(struct branches *b, struct node *node) {
    node->placed = true;
    b->unplaced--;
    while (node->children != NULL) {
        struct node *child = node->children;
        node->children = child->next_child;
        make_ready(b, child);
    }
}

// A state that is not made yet is not kept in the end either, see branches_work.c.
void branches_list_drop(struct branches *b, struct node *node) {
    if (!node->placed || node->holder < 0 || node->listed) return;
    if (!node->sealed || node->unbegun > 0) return;
    node->listed = true;
    node->next_drop = b->drops;
    b->drops = node;
}

static void free_node(struct branches *b, struct node *node) {
    if (node->before != NULL) node->before->after = node->after;
    if (node->after != NULL) node->after->before = node->before;
    if (b->all == node) b->all = node->after;
    free(node->nll);
    free(node->best);
    free(node);
}

static void free_if_over(struct branches *b, struct node *node) {
    if (node->sealed && node->done && node->holder < 0 && node->undone == 0) free_node(b, node);
}

enum status branches_tell_drops(struct branches *b) {
    while (b->drops != NULL) {
        struct node *node = b->drops;
        TRY(work_drop(&b->work, node->key, node->holder));
        b->drops = node->next_drop;
        node->holder = -1;
        free_if_over(b, node);
    }
    return STATUS_OK;
}

void branches_note_done(struct branches *b, struct node *node) {
    struct node *parent = parent_of(node);
    node->done = true;
    b->counts.branches++;
    free_if_over(b, node);
    if (parent == NULL) return;
    parent->undone--;
    free_if_over(b, parent);
}

// What is wrong with a wish; NULL: nothing.
static const char *wrong_with(const struct branches *b, const struct branch_wish *wish,
                              int64_t first) {
    const struct node *parent = (const struct node *)wish->parent;
    int64_t end = 0, waiting = 0;
    if (parent != NULL && parent->sealed) return "its parent is sealed";
    if (wish->count <= 0 || __builtin_add_overflow(first, wish->count, &end) ||
        __builtin_add_overflow(b->waiting_tokens, wish->count, &waiting)) {
        return "it has no such number of tokens";
    }
    if (first % CHUNK_TOKENS != 0 && wish->count > CHUNK_TOKENS) {
        return "it begins inside a chunk and is longer than one";
    }
    if (wish->asked < 0 || wish->asked > wish->count) return "more rows are asked than it has";
    if (wish->asked > b->asked_most) return "more rows are asked than the model was opened for";
    return NULL;
}

static void add_node(struct branches *b, struct node *node) {
    struct node *parent = parent_of(node);
    node->after = b->all;
    if (b->all != NULL) b->all->before = node;
    b->all = node;
    b->unplaced++;
    b->waiting_tokens += node->branch.count;
    if (parent != NULL) {
        parent->unbegun++;
        parent->undone++;
    }
    if (parent == NULL || parent->placed) {
        make_ready(b, node);
    } else {
        node->next_child = parent->children;
        parent->children = node;
    }
}

enum status branches_add(struct branches *b, const struct branch_wish *wish,
                         struct branch **added) {
    const struct branch *parent = wish->parent;
    const int64_t first = parent == NULL ? 0 : parent->first + parent->count;
    const char *wrong = wrong_with(b, wish, first);
    if (wrong != NULL) {
        return FAIL(UNEXPECTED, "a branch of %lld tokens at %lld: %s", (long long)wish->count,
                    (long long)first, wrong);
    }
    TRY(room_for((void **)&b->ready, &b->ready_room, (size_t)b->unplaced + 1, sizeof *b->ready));
    struct node *node = calloc(1, sizeof *node);
    if (node == NULL) return FAIL(NO_MEMORY, "a branch");
    node->branch = (struct branch){.parent = wish->parent,
                                   .first = first,
                                   .count = wish->count,
                                   .asked = wish->asked,
                                   .context = wish->context};
    node->key = ++b->last_key;
    node->order = wish->order;
    node->holder = -1;
    node->sealed = !wish->goes_on;
    add_node(b, node);
    *added = &node->branch;
    return STATUS_OK;
}

void branches_seal(struct branches *b, struct branch *branch) {
    struct node *node = (struct node *)branch;
    node->sealed = true;
    branches_list_drop(b, node);
    free_if_over(b, node);
}

int64_t branches_waiting_tokens(const struct branches *b) {
    return b->waiting_tokens;
}

void branches_free(struct branches *b) {
    while (b->all != NULL) {
        free_node(b, b->all);
    }
    steps_close(&b->steps);
    free(b->ready);
    free(b->work.drops);
}
