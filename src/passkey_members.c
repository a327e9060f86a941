// The prompts that a stem holds, and where they part: from the trunk, and from each other.

#include "ops/base/check.h"
#include "src/passkey_tree_inner.h"

#include <stdlib.h>
#include <string.h>

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t chunks_of(int64_t tokens) {
    return tokens / CHUNK_TOKENS * CHUNK_TOKENS;
}

// Tokens that two prompts begin with alike, answers not counted.
static int64_t shared(const struct passkey_prompt *a, const struct passkey_prompt *b) {
    const int64_t most = least(a->tokens, b->tokens);
    int64_t at = 0;
    while (most - at >= CHUNK_TOKENS &&
           memcmp(a->token + at, b->token + at, CHUNK_TOKENS * sizeof *a->token) == 0) {
        at += CHUNK_TOKENS;
    }
    while (at < most && a->token[at] == b->token[at]) {
        at++;
    }
    return at;
}

// The sample's prompt into tree->scratch, and what the member keeps of it.
static enum status read_member(struct passkey_tree *tree, int64_t index, struct member *member) {
    struct passkey_prompt *prompt = &tree->scratch;
    struct passkey_result *result = &member->result;
    member->index = index;
    tree->settings.listing->sample(tree->settings.listing, index, &result->sample);
    TRY(passkey_task_prompt(tree->settings.task, &result->sample, prompt));
    CHECK(prompt->tokens > 0 && prompt->answers > 0);
    member->predicted =
        calloc((size_t)passkey_task_new_tokens(tree->settings.task), sizeof *member->predicted);
    if (member->predicted == NULL) return FAIL(NO_MEMORY, "a sample");
    result->tokens = prompt->tokens;
    result->answer_tokens = prompt->answers;
    // the last of the new tokens is not read again
    tree->counts.tokens_plain += prompt->tokens + passkey_task_new_tokens(tree->settings.task) - 1;
    return STATUS_OK;
}

static enum status keep_tail(const struct passkey_prompt *prompt, int64_t fork,
                             struct member *member) {
    const size_t count = (size_t)(prompt->tokens + prompt->answers - fork);
    member->fork = fork;
    member->tail = malloc(count * sizeof *member->tail);
    if (member->tail == NULL) return FAIL(NO_MEMORY, "%zu tokens", count);
    memcpy(member->tail, prompt->token + fork, count * sizeof *member->tail);
    return STATUS_OK;
}

// A chunk border at which the ask can begin: the prompt's last row, which says the answer's first token,
// lies behind it.
static int64_t fork_of(const struct passkey_prompt *prompt, int64_t with) {
    return chunks_of(least(with, prompt->tokens - 1));
}

// Members with where each leaves the others, and *begin, where all leave the trunk: chunk borders.
static enum status read_members(struct passkey_tree *tree, const struct passkey_stem *stem,
                                struct stem_run *run, int64_t *begin) {
    const int64_t *index = tree->stems.index + stem->first;
    struct passkey_prompt *prompt = &tree->scratch, *longest = &run->longest;
    for (int64_t i = stem->count - 1; i >= 0; i--) { // the longest first
        struct member *member = &run->member[i];
        TRY(read_member(tree, index[i], member));
        if (i == stem->count - 1) {
            const struct passkey_prompt room = *longest;
            *longest = *prompt;
            *prompt = room;
            TRY(keep_tail(longest, fork_of(longest, longest->tokens), member));
            *begin = tree->settings.unbranched ? 0 : chunks_of(shared(&tree->trunk, longest));
        } else {
            TRY(keep_tail(prompt, fork_of(prompt, shared(prompt, longest)), member));
        }
        *begin = least(*begin, member->fork);
    }
    return STATUS_OK;
}

static int by_fork(const void *left, const void *right) {
    const struct member *a = left;
    const struct member *b = right;
    return (a->fork > b->fork) - (a->fork < b->fork);
}

enum status stem_run_open(struct passkey_tree *tree, const struct passkey_stem *stem,
                          struct stem_run **opened, int64_t *begin) {
    struct stem_run *run = calloc(1, sizeof *run);
    if (run == NULL) return FAIL(NO_MEMORY, "samples of one key");
    run->next = tree->runs;
    run->link = &tree->runs;
    if (run->next != NULL) run->next->link = &run->next;
    tree->runs = run;
    run->order = ++tree->order;
    run->members = stem->count;
    run->member = calloc((size_t)stem->count, sizeof *run->member);
    if (run->member == NULL) return FAIL(NO_MEMORY, "samples of one key");
    TRY(read_members(tree, stem, run, begin));
    qsort(run->member, (size_t)run->members, sizeof *run->member, by_fork);
    *opened = run;
    return STATUS_OK;
}

void stem_run_trim(struct stem_run *run, int64_t begin) {
    struct passkey_prompt *longest = &run->longest;
    const size_t bytes = (size_t)(longest->tokens - begin) * sizeof *longest->token;
    memmove(longest->token, longest->token + begin, bytes);
    void *less = realloc(longest->token, bytes);
    if (less != NULL) longest->token = less;
    run->begin = begin;
}

void stem_run_free(struct stem_run *run) {
    *run->link = run->next;
    if (run->next != NULL) run->next->link = run->link;
    for (int64_t i = 0; run->member != NULL && i < run->members; i++) {
        free(run->member[i].tail);
        free(run->member[i].predicted);
    }
    free(run->member);
    passkey_prompt_free(&run->longest);
    free(run);
}
