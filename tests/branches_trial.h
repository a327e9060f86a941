#pragma once
// Random trees of branches, a driver that runs them, and what must come out of each: what its tokens
// give in one piece with all that lies before them.

#include "pipeline/branches.h"
#include "tests/pipeline_trial.h"
#include "tests/toy_model.h"

#include <math.h>

enum { NODES_MOST = 4000, PATH_MOST = 1 << 17 };

enum when { WITH_PARENT, AT_PARENTS_DONE, AT_SIBLINGS_DONE, AT_ANYS_DONE, WHENS };
enum seal { SEAL_EARLY, SEAL_AT_DONE, SEAL_LATE, SEALS };

struct tree_node {
    int32_t parent, child, sibling; // -1: none; of the parent's children the first, and the next
    int64_t first, count, asked, order;
    int32_t *token;    // [count]
    int32_t lookahead; // -1: unknown
    enum when when;
    enum seal seal;
    bool goes_on;
    bool decodes;          // its only token is what its parent's last row would go on with
    struct branch *branch; // NULL: not added yet, or sealed and not to be named again
    int64_t given;
    int32_t unadded, undone; // children
    bool added, sealed, done;
    int32_t place; // in the order in which they were done, from 1 on
};

struct tree_shape {
    int32_t roots, depth, children;
    int64_t count_most;
    int32_t chain; // one-token branches after each other below each root
    bool siblings; // all children of a root are there with it, short, and end
};

struct tree {
    struct branch_driver base;
    uint64_t random;
    struct tree_node node[NODES_MOST];
    int32_t count, next_root;
    int32_t done, wrong, progress;
    int64_t asked_most;
    bool at_once; // all roots are added in one go
    bool late;    // adds nothing at first
    int32_t calls;
};

#define HOLDS(tree, condition)                                                            \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            (tree)->wrong++;                                                              \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
        }                                                                                 \
    } while (0)

static inline int32_t tree_draw(struct tree *tree, const struct tree_shape *shape, int32_t parent,
                                int32_t depth, bool chain) {
    uint64_t *random = &tree->random;
    if (tree->count == NODES_MOST) return -1;
    const int32_t index = tree->count++;
    struct tree_node *node = &tree->node[index];
    const struct tree_node *above = parent < 0 ? NULL : &tree->node[parent];
    *node = (struct tree_node){.parent = parent, .child = -1, .sibling = -1};
    node->first = above == NULL ? 0 : above->first + above->count;
    int64_t most = shape->count_most;
    while (most > 4 && below(random, 2)) {
        most /= 4;
    }
    node->count = 1 + below(random, most);
    if (below(random, 2) && !(shape->siblings && depth > 0))
        node->count += CHUNK_TOKENS - 1 - (node->first + node->count - 1) % CHUNK_TOKENS;
    if (node->first % CHUNK_TOKENS != 0 && node->count > CHUNK_TOKENS) {
        node->count = 1 + below(random, CHUNK_TOKENS);
    }
    if (chain) node->count = 1;
    node->asked = below(random, 3) ? below(random, 4) : below(random, node->count + 1);
    if (chain) node->asked = 1;
    if (node->asked > node->count) node->asked = node->count;
    if (node->asked > tree->asked_most) node->asked = tree->asked_most;
    node->order = below(random, 3);
    node->decodes = chain && depth > 0;
    node->when = node->decodes ? AT_PARENTS_DONE : (enum when)below(random, WHENS);
    if (shape->siblings) node->when = WITH_PARENT;
    node->seal = (enum seal)below(random, SEALS);
    node->goes_on = below(random, 4) == 0 && !shape->siblings;
    node->lookahead = below(random, 3) ? (int32_t)below(random, VOCABULARY) : -1;
    node->token = malloc((size_t)node->count * sizeof *node->token);
    assert_non_null(node->token);
    for (int64_t i = 0; i < node->count; i++) {
        node->token[i] = (int32_t)below(random, VOCABULARY);
    }
    if (chain ? depth >= shape->chain : depth >= shape->depth) return index;
    int32_t children = chain ? 1 : (int32_t)below(random, shape->children + 1);
    if (shape->siblings) children = shape->children;
    for (int32_t i = 0; i < children; i++) {
        const int32_t child = tree_draw(tree, shape, index, depth + 1, chain);
        if (child < 0) break;
        tree->node[child].sibling = node->child;
        node->child = child;
        node->unadded++;
        node->undone++;
        node->goes_on = true;
    }
    return index;
}

static inline void tree_seal(struct tree *tree, struct branches *branches, struct tree_node *node) {
    (void)tree;
    if (!node->goes_on || node->sealed || node->unadded > 0) return;
    if (node->seal == SEAL_AT_DONE && !node->done) return;
    if (node->seal == SEAL_LATE && !(node->done && node->undone == 0)) return;
    node->sealed = true;
    branches_seal(branches, node->branch);
    node->branch = NULL;
}

static inline enum status tree_add(struct tree *tree, struct branches *branches,
                                   struct tree_node *node, int64_t *tokens) {
    struct tree_node *parent = node->parent < 0 ? NULL : &tree->node[node->parent];
    const struct branch_wish wish = {.parent = parent == NULL ? NULL : parent->branch,
                                     .count = node->count,
                                     .asked = node->asked,
                                     .goes_on = node->goes_on,
                                     .order = node->order,
                                     .context = node};
    HOLDS(tree, !node->added && (parent == NULL || parent->branch != NULL));
    TRY(branches_add(branches, &wish, &node->branch));
    HOLDS(tree, node->branch->first == node->first && node->branch->count == node->count);
    node->added = true;
    *tokens -= node->count;
    if (parent != NULL) parent->unadded--;
    for (int32_t c = node->child; c >= 0; c = tree->node[c].sibling) {
        if (tree->node[c].when == WITH_PARENT)
            TRY(tree_add(tree, branches, &tree->node[c], tokens));
    }
    tree_seal(tree, branches, node);
    return STATUS_OK;
}

static inline enum status tree_more(struct branch_driver *base, struct branches *branches,
                                    int64_t tokens, bool *ended) {
    struct tree *tree = (struct tree *)base;
    HOLDS(tree, tokens > 0 && !*ended);
    if (tree->late && tree->calls++ < 3) return STATUS_OK;
    while (tree->next_root < tree->count && (tokens > 0 || tree->at_once)) {
        struct tree_node *node = &tree->node[tree->next_root++];
        if (node->parent < 0) TRY(tree_add(tree, branches, node, &tokens));
    }
    *ended = tree->next_root == tree->count;
    return STATUS_OK;
}

static inline void tree_tokens(struct branch_driver *base, const struct branch *branch,
                               int64_t first, int64_t count, int32_t *token, int32_t *lookahead) {
    struct tree *tree = (struct tree *)base;
    struct tree_node *node = branch->context;
    HOLDS(tree, first == node->given && count > 0 && count <= node->count - first);
    node->given += count;
    memcpy(token, node->token + first, (size_t)count * sizeof *token);
    *lookahead = node->given < node->count ? node->token[node->given] : node->lookahead;
}

// All tokens up to the node's end.
static inline void tree_path(const struct tree *tree, const struct tree_node *node, int32_t *path) {
    for (; node != NULL; node = node->parent < 0 ? NULL : &tree->node[node->parent]) {
        memcpy(path + node->first, node->token, (size_t)node->count * sizeof *path);
    }
}

static inline void tree_check(struct tree *tree, const struct tree_node *node,
                              const struct branch_answer *answer) {
    static int32_t path[PATH_MOST];
    static float nll[PATH_MOST];
    const int64_t end = node->first + node->count;
    HOLDS(tree, end < PATH_MOST);
    tree_path(tree, node, path);
    path[end] = node->lookahead < 0 ? 0 : node->lookahead;
    toy_expected_nlls(path, end + 1, nll);
    if (node->lookahead < 0) nll[end] = 0.0f;
    for (int64_t i = 0; i < node->asked; i++) {
        const int64_t seen = end - node->asked + i + 1;
        const int32_t target = seen < end ? path[seen] : node->lookahead;
        HOLDS(tree, answer->nll[i] == nll[seen]);
        if (i >= 3 && i < node->asked - 3) continue; // each is a long way for the toy
        HOLDS(tree, answer->best[i].token == toy_best(path, seen));
        const float margin = toy_margin(path, seen, target);
        HOLDS(tree,
              answer->best[i].margin == margin || (isnan(margin) && isnan(answer->best[i].margin)));
    }
}

// One whose parent waits, is on the ranks, or is done.
static inline enum status tree_add_any(struct tree *tree, struct branches *branches) {
    int64_t tokens = 0;
    for (int32_t i = 0; i < tree->count; i++) {
        struct tree_node *node = &tree->node[i];
        if (node->added || node->when != AT_ANYS_DONE || node->parent < 0) continue;
        if (!tree->node[node->parent].added) continue;
        TRY(tree_add(tree, branches, node, &tokens));
        tree_seal(tree, branches, &tree->node[node->parent]);
        return STATUS_OK;
    }
    return STATUS_OK;
}

static inline enum status tree_done(struct branch_driver *base, struct branches *branches,
                                    struct branch *branch, const struct branch_answer *answer) {
    struct tree *tree = (struct tree *)base;
    struct tree_node *node = branch->context;
    struct tree_node *parent = node->parent < 0 ? NULL : &tree->node[node->parent];
    int64_t tokens = 0;
    HOLDS(tree, !node->done && node->given == node->count && branch->asked == node->asked);
    HOLDS(tree, parent == NULL || (parent->done && branch->parent->context == parent));
    tree_check(tree, node, answer);
    node->done = true;
    node->place = ++tree->done;
    TRY(tree_add_any(tree, branches));
    for (int32_t c = node->child; c >= 0; c = tree->node[c].sibling) {
        struct tree_node *child = &tree->node[c];
        if (child->added) continue;
        if (child->when == AT_SIBLINGS_DONE && node->undone > node->unadded) continue;
        if (child->decodes) child->token[0] = answer->best[node->asked - 1].token;
        TRY(tree_add(tree, branches, child, &tokens));
    }
    tree_seal(tree, branches, node);
    if (parent == NULL) return STATUS_OK;
    parent->undone--;
    for (int32_t c = parent->child; c >= 0; c = tree->node[c].sibling) {
        if (!tree->node[c].added) {
            TRY(tree_add(tree, branches, &tree->node[c], &tokens));
            break;
        }
    }
    tree_seal(tree, branches, parent);
    return STATUS_OK;
}

static inline enum status tree_progress(struct branch_driver *base) {
    ((struct tree *)base)->progress++;
    return STATUS_OK;
}

static const struct branch_driver_table tree_table = {
    .more = tree_more, .tokens = tree_tokens, .done = tree_done, .progress = tree_progress};

static inline struct tree *tree_make(const struct tree_shape *shape, int64_t asked_most,
                                     uint64_t seed) {
    struct tree *tree = calloc(1, sizeof *tree);
    assert_non_null(tree);
    tree->base.table = &tree_table;
    tree->random = seed;
    tree->asked_most = asked_most;
    for (int32_t i = 0; i < shape->roots; i++) {
        (void)tree_draw(tree, shape, -1, 0, i < shape->chain && i % 2 == 0);
    }
    return tree;
}

static inline void tree_free(struct tree *tree) {
    for (int32_t i = 0; i < tree->count; i++) {
        free(tree->node[i].token);
    }
    free(tree);
}
