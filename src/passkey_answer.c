// From what the model says at a prompt's end to a sample's result.
//
// The ask tells what the model would say after the prompt and after each token of the right answer. As
// long as that is the answer's next token, greedy decoding says the same; where it is another, decoding
// goes on from there: the prompt and what was said are read from the last chunk border, and then a token
// at a time.

#include "src/passkey_tree_inner.h"

#include <math.h>
#include <string.h>

// The text of what was said so far; a result keeps the beginning of it.
static enum status read_predictions(struct passkey_tree *tree, struct member *member) {
    struct passkey_result *result = &member->result;
    struct tokenizer *tokenizer = tree->settings.tokenizer;
    struct bytes *said = &tree->said;
    said->count = 0;
    for (int64_t i = 0; i < member->predictions; i++) {
        size_t bytes = 0;
        const char *text = tokenizer->bytes_of(tokenizer, member->predicted[i], &bytes);
        if (text == NULL) continue; // an id of the model's that the tokenizer has no text for
        TRY(bytes_put(said, text, bytes));
        if (said->count <= sizeof result->prediction) result->prediction_bytes = said->count;
    }
    if (result->prediction_bytes > 0) {
        memcpy(result->prediction, said->data, result->prediction_bytes);
    }
    return STATUS_OK;
}

// *settled: it is known whether the answer was said.
static enum status judge(struct passkey_tree *tree, struct member *member, bool *settled) {
    const struct passkey_task *task = tree->settings.task;
    struct passkey_result *result = &member->result;
    TRY(read_predictions(tree, member));
    result->correct =
        passkey_task_correct(task, &result->sample, tree->said.data, tree->said.count);
    *settled = member->predictions >= passkey_task_new_tokens(task) ||
               (result->correct && passkey_task_stops(task));
    return STATUS_OK;
}

static enum status finish(struct passkey_tree *tree, struct branches *branches, struct knot *knot) {
    struct stem_run *run = knot->run;
    struct member *member = knot->member;
    tree->counts.samples++;
    tree->counts.correct += member->result.correct;
    TRY(tree->settings.result(tree->settings.listener, member->index, &member->result));
    if (member->under != NULL) {
        member->under->asks--;
        knot_release(branches, member->under);
    }
    if (++run->settled == run->members) stem_run_free(run);
    return STATUS_OK;
}

// A branch that says one token more.
static enum status say_more(struct passkey_tree *tree, struct branches *branches,
                            const struct knot *knot, enum branch_kind kind, struct branch *parent,
                            int64_t count) {
    struct member *member = knot->member;
    const struct knot next = {.kind = kind, .run = knot->run, .member = member};
    const struct branch_wish wish = {.parent = parent,
                                     .count = count,
                                     .asked = 1,
                                     .goes_on = member->predictions + 1 <
                                                passkey_task_new_tokens(tree->settings.task),
                                     .order = knot->run->order};
    struct knot *added = NULL;
    return knot_add(tree, branches, &next, &wish, &added);
}

// How likely the answer was, and what greedy decoding says of it.
static void read_ask(const struct passkey_tree *tree, struct member *member,
                     const struct branch_answer *answer) {
    struct passkey_result *result = &member->result;
    const int32_t *right = member->tail + (result->tokens - member->fork);
    const int64_t most = passkey_task_new_tokens(tree->settings.task);
    result->exact = true;
    result->margin = INFINITY;
    for (int64_t i = 0; i < result->answer_tokens; i++) {
        const struct best_token *best = &answer->best[i];
        result->answer_nll += (double)answer->nll[i];
        result->margin = fmin(result->margin, (double)best->margin);
        // while the model says what is right, what it reads is what it said
        if (result->exact && member->predictions < most) {
            member->predicted[member->predictions++] = best->token;
        }
        if (best->token != right[i]) result->exact = false;
    }
}

enum status passkey_answered(struct passkey_tree *tree, struct branches *branches,
                             struct knot *knot, const struct branch_answer *answer) {
    struct member *member = knot->member;
    const bool ask = knot->kind == BRANCH_ASK;
    bool settled = false;
    if (ask) {
        read_ask(tree, member, answer);
    } else {
        member->predicted[member->predictions++] = answer->best[0].token;
    }
    TRY(judge(tree, member, &settled));
    if (settled) {
        TRY(finish(tree, branches, knot));
    } else if (ask) {
        struct branch *parent = member->under != NULL ? member->under->branch : NULL;
        TRY(say_more(tree, branches, knot, BRANCH_GREEDY, parent,
                     member->result.tokens - member->fork + member->predictions));
    } else {
        TRY(say_more(tree, branches, knot, BRANCH_DECODE, knot->branch, 1));
    }
    knot->complete = true;
    knot_release(branches, knot);
    return STATUS_OK;
}
