// Grows the tree: stems are begun in the order of their keys' places, so that the trunk only grows.

#include "ops/base/check.h"
#include "src/passkey_tree_inner.h"

#include <stdlib.h>
#include <string.h>

static struct passkey_tree *tree_of(struct branch_driver *driver) {
    return (struct passkey_tree *)(void *)driver;
}

enum status knot_add(struct passkey_tree *tree, struct branches *branches, const struct knot *kind,
                     const struct branch_wish *wish, struct knot **added) {
    struct knot *knot = malloc(sizeof *knot);
    struct branch_wish mine = *wish;
    if (knot == NULL) return FAIL(NO_MEMORY, "a branch");
    *knot = *kind;
    knot->sealed = !wish->goes_on;
    mine.context = knot;
    const enum status status = branches_add(branches, &mine, &knot->branch);
    if (status != STATUS_OK) {
        free(knot);
        return status;
    }
    knot->next = tree->knots;
    knot->link = &tree->knots;
    if (knot->next != NULL) knot->next->link = &knot->next;
    tree->knots = knot;
    *added = knot;
    return STATUS_OK;
}

static void knot_free(struct knot *knot) {
    *knot->link = knot->next;
    if (knot->next != NULL) knot->next->link = knot->link;
    free(knot);
}

void knot_release(struct branches *branches, struct knot *knot) {
    if (knot == NULL) return;
    if (!knot->sealed && knot->complete && knot->asks == 0) {
        knot->sealed = true;
        branches_seal(branches, knot->branch);
    }
    if (knot->sealed && knot->done && knot->asks == 0) knot_free(knot);
}

// The trunk up to `end`, a chunk border.
static enum status grow_trunk(struct passkey_tree *tree, struct branches *branches, int64_t end) {
    struct knot *old = tree->tip;
    if (end <= tree->tip_end) return STATUS_OK;
    CHECK(end <= tree->trunk.tokens);
    const struct knot kind = {.kind = BRANCH_TRUNK};
    const struct branch_wish wish = {.parent = old != NULL ? old->branch : NULL,
                                     .count = end - tree->tip_end,
                                     .goes_on = true,
                                     .order = tree->order};
    TRY(knot_add(tree, branches, &kind, &wish, &tree->tip));
    tree->tip_end = end;
    if (old != NULL) old->complete = true;
    knot_release(branches, old);
    return STATUS_OK;
}

static void cut_trunk(struct passkey_tree *tree, struct branches *branches) {
    if (tree->tip != NULL) tree->tip->complete = true;
    knot_release(branches, tree->tip);
    tree->tip = NULL;
    tree->tip_end = 0;
}

static enum status add_ask(struct passkey_tree *tree, struct branches *branches,
                           struct stem_run *run, struct member *member, struct knot *under) {
    const struct passkey_result *result = &member->result;
    const struct knot kind = {.kind = BRANCH_ASK, .run = run, .member = member};
    const struct branch_wish wish = {.parent = under != NULL ? under->branch : NULL,
                                     .count =
                                         result->tokens + result->answer_tokens - 1 - member->fork,
                                     .asked = result->answer_tokens,
                                     .order = run->order};
    struct knot *added = NULL;
    member->under = under;
    TRY(knot_add(tree, branches, &kind, &wish, &added));
    if (under != NULL) under->asks++;
    return STATUS_OK;
}

// Its branches, from the trunk to each question.
static enum status add_stem(struct passkey_tree *tree, struct branches *branches,
                            struct stem_run *run, int64_t begin) {
    struct knot *under = begin > 0 ? tree->tip : NULL;
    int64_t at = begin;
    for (int64_t i = 0; i < run->members; i++) {
        struct member *member = &run->member[i];
        if (member->fork > at) {
            const struct knot kind = {.kind = BRANCH_STEM, .run = run};
            const struct branch_wish wish = {.parent = under != NULL ? under->branch : NULL,
                                             .count = member->fork - at,
                                             .goes_on = true,
                                             .order = run->order};
            struct knot *before = at > begin ? under : NULL; // a stem of this run
            TRY(knot_add(tree, branches, &kind, &wish, &under));
            at = member->fork;
            if (before != NULL) before->complete = true;
        }
        TRY(add_ask(tree, branches, run, member, under));
    }
    if (at > begin) under->complete = true;
    return STATUS_OK;
}

static enum status begin_stem(struct passkey_tree *tree, struct branches *branches) {
    struct stem_run *run = NULL;
    int64_t begin = 0;
    TRY(stem_run_open(tree, &tree->stems.stem[tree->next], &run, &begin));
    if (begin < tree->tip_end && begin > 0) {
        tree->counts.astray++;
        begin = 0;
    }
    stem_run_trim(run, begin);
    tree->next++;
    TRY(grow_trunk(tree, branches, begin));
    return add_stem(tree, branches, run, begin);
}

// The stems of the next batch that are ours, and a trunk as long as the longest of them needs.
static enum status next_batch(struct passkey_tree *tree, struct branches *branches, bool *any) {
    const struct passkey_tree_settings *settings = &tree->settings;
    struct passkey_batch batch = {0};
    int64_t longest = 0;
    TRY(settings->batch(settings->listener, &batch));
    tree->ended = batch.ended;
    *any = batch.count > 0;
    if (!*any) return STATUS_OK;
    cut_trunk(tree, branches);
    passkey_stems_free(&tree->stems);
    tree->next = 0;
    TRY(passkey_stems_make(settings->listing, batch.index, batch.count, settings->unbranched,
                           &tree->stems));
    TRY(passkey_stems_share(&tree->stems, settings->group, settings->groups));
    for (int64_t i = 0; i < tree->stems.count; i++) {
        const struct passkey_stem *stem = &tree->stems.stem[i];
        tree->counts.tokens_expected += stem->cost + stem->count * CHUNK_TOKENS / 2;
        struct passkey_sample sample;
        settings->listing->sample(settings->listing,
                                  tree->stems.index[stem->first + stem->count - 1], &sample);
        if (sample.length > longest) longest = sample.length;
        if (settings->unbranched) tree->counts.tokens_expected += sample.length - stem->cost;
    }
    if (settings->unbranched) return STATUS_OK;
    tree->counts.tokens_expected += longest;
    if (longest <= tree->trunk.tokens) return STATUS_OK; // branches that wait still read it
    return passkey_task_trunk(settings->task, longest, &tree->trunk);
}

static enum status more(struct branch_driver *driver, struct branches *branches, int64_t tokens,
                        bool *ended) {
    struct passkey_tree *tree = tree_of(driver);
    const int64_t before = branches_waiting_tokens(branches);
    bool any = true;
    while (any && branches_waiting_tokens(branches) - before < tokens) {
        if (tree->next < tree->stems.count) {
            TRY(begin_stem(tree, branches));
        } else if (!tree->ended) {
            TRY(next_batch(tree, branches, &any));
        } else {
            any = false;
        }
    }
    *ended = tree->ended && tree->next >= tree->stems.count;
    if (*ended) cut_trunk(tree, branches);
    return STATUS_OK;
}

// A position of what the branch is a stretch of; past its prompt, what the model said itself.
static int32_t token_at(const struct passkey_tree *tree, const struct knot *knot,
                        int64_t position) {
    const struct member *member = knot->member;
    if (knot->kind == BRANCH_TRUNK) return tree->trunk.token[position];
    if (knot->kind == BRANCH_STEM) return knot->run->longest.token[position - knot->run->begin];
    if (knot->kind != BRANCH_ASK && position >= member->result.tokens) {
        return member->predicted[position - member->result.tokens];
    }
    return member->tail[position - member->fork];
}

static void tokens(struct branch_driver *driver, const struct branch *branch, int64_t first,
                   int64_t count, int32_t *token, int32_t *lookahead) {
    struct passkey_tree *tree = tree_of(driver);
    const struct knot *knot = branch->context;
    const int64_t at = branch->first + first;
    for (int64_t i = 0; i < count; i++) {
        token[i] = token_at(tree, knot, at + i);
    }
    // beyond a branch's end only an answer's last token is known, and wanted
    const bool known = first + count < branch->count || knot->kind == BRANCH_ASK;
    *lookahead = known ? token_at(tree, knot, at + count) : -1;
    tree->counts.tokens_run += count;
}

static enum status done(struct branch_driver *driver, struct branches *branches,
                        struct branch *branch, const struct branch_answer *answer) {
    struct passkey_tree *tree = tree_of(driver);
    struct knot *knot = branch->context;
    knot->done = true;
    if (knot->member != NULL) return passkey_answered(tree, branches, knot, answer);
    knot_release(branches, knot);
    return STATUS_OK;
}

static enum status progress(struct branch_driver *driver) {
    const struct passkey_tree *tree = tree_of(driver);
    return tree->settings.progress(tree->settings.listener, &tree->counts);
}

static const struct branch_driver_table tree_table = {
    .more = more, .tokens = tokens, .done = done, .progress = progress};

enum status passkey_tree_open(const struct passkey_tree_settings *settings,
                              struct passkey_tree **opened) {
    struct passkey_tree *tree = calloc(1, sizeof *tree);
    if (tree == NULL) return FAIL(NO_MEMORY, "samples");
    tree->base.table = &tree_table;
    tree->settings = *settings;
    *opened = tree;
    return STATUS_OK;
}

struct branch_driver *passkey_tree_driver(struct passkey_tree *tree) {
    return &tree->base;
}

struct passkey_tree_counts passkey_tree_counts(const struct passkey_tree *tree) {
    return tree->counts;
}

void passkey_tree_close(struct passkey_tree *tree) {
    if (tree == NULL) return;
    for (struct knot *knot = tree->knots, *next = NULL; knot != NULL; knot = next) {
        next = knot->next; // of a run that ended before it did
        free(knot);
    }
    while (tree->runs != NULL) {
        stem_run_free(tree->runs);
    }
    passkey_stems_free(&tree->stems);
    passkey_prompt_free(&tree->trunk);
    passkey_prompt_free(&tree->scratch);
    bytes_free(&tree->said);
    free(tree);
}
