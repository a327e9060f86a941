#pragma once
// Prompts as branches of one tree (pipeline/branches.h):
//
//   trunk  the filler, read once; it grows to where the next key stands
//   stem   from there a key and more filler, to where the prompts of one key and place part
//   ask    from there to the prompt's end and through its answer: how likely is that, token by token?
//   greedy where the model would say something else: the prompt and what it would say so far
//   decode and on from there, a token at a time
//
// All but the decoding begins at chunk borders and has the bits of a prompt read from its first token.

#include "pipeline/branches.h"
#include "src/passkey_result.h"
#include "src/passkey_stems.h"

struct passkey_tree_counts {
    int64_t samples; // answered
    int64_t correct;
    int64_t tokens_run;      // given to the model
    int64_t tokens_expected; // to be run, as far as batches are known; roughly
    int64_t tokens_plain;    // that a prompt at a time, with its decoding, would have been
    int64_t astray;          // stems that the trunk had passed: read from their first token
};

// Samples to be answered; a later batch comes when all of the one before have begun.
struct passkey_batch {
    const int64_t *index; // of the listing; the giver's until the next is asked for
    int64_t count;
    bool ended; // there will be no more
};

struct passkey_tree_settings {
    struct passkey_task *task;             // borrowed
    struct tokenizer *tokenizer;           // borrowed, for the text of tokens
    const struct passkey_listing *listing; // borrowed
    bool unbranched;
    int32_t group, groups; // whose share of a batch is answered here
    // Never waits. Errors: end the run.
    enum status (*batch)(void *listener, struct passkey_batch *batch);
    enum status (*result)(void *listener, int64_t index, const struct passkey_result *result);
    // About once a second. Errors: end the run.
    enum status (*progress)(void *listener, const struct passkey_tree_counts *counts);
    void *listener;
};

struct passkey_tree;

// Errors: NO_MEMORY.
enum status passkey_tree_open(const struct passkey_tree_settings *settings,
                              struct passkey_tree **opened);
struct branch_driver *passkey_tree_driver(struct passkey_tree *tree);
struct passkey_tree_counts passkey_tree_counts(const struct passkey_tree *tree);
void passkey_tree_close(struct passkey_tree *tree); // accepts NULL
