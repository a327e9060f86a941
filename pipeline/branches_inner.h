#pragma once
// What the branches' files share: branches.c, which there are, branches_work.c, branches as the steps
// take them, and branches_run.c, the loop.
//
// A branch waits with its parent until that is wholly in plans that were sent, then stands in the heap
// of those that are ready until it is itself. Its state is kept while others may begin there, and is
// dropped on its rank in the step after the one in which the last of them has begun.

#include "pipeline/branches.h"
#include "pipeline/steps.h"

struct node {
    struct branch branch; // first: drivers know it as that
    uint64_t key;         // names its state on the ranks; rises with each that is added
    int64_t order;
    int64_t planned, answered; // of its tokens
    int32_t holder; // the rank that holds its state, or will after the steps already sent; -1: none
    bool sealed;    // no more children
    bool placed;    // wholly in plans that were sent
    bool done;      // the driver has heard of it
    bool listed;    // in `drops`
    int64_t unbegun, undone; // children that have not begun, that are not done
    uint64_t turn;           // of the plan that last knew its state as shared
    int32_t shared;          // by this number
    float *nll;              // [asked], once the first has come back
    struct best_token *best; // [asked]
    struct node *children;   // those that wait for it to be placed
    struct node *next_child, *next_drop;
    struct node *before, *after; // of all
};

struct branches {
    struct work work; // first: the steps give it back to us
    struct branch_driver *driver;
    struct steps steps;
    int64_t asked_most; // of the branches in a step, all of whose rows may be on one rank
    struct branches_counts counts;
    struct node *all;
    // [ready_count] a heap by order and age, with room for all that are not placed
    struct node **ready;
    size_t ready_count, ready_room;
    int64_t unplaced;
    int64_t ready_tokens; // of those in the heap or in a plan that is being made
    int64_t waiting_tokens;
    struct node *drops; // their states go with the next step
    uint64_t last_key, turn;
    bool ended, stopped;
    int64_t next_progress_ms;
};

extern const struct work_table branches_work_table;

static inline struct node *parent_of(const struct node *node) {
    return (struct node *)node->branch.parent;
}

void branches_push(struct branches *branches, struct node *node); // into the heap
struct node *branches_pop(struct branches *branches);             // the first; there is one
// Wholly in plans that were sent: those that wait for it are ready.
void branches_placed(struct branches *branches, struct node *node);
// Its state is on the list of those to drop, if nobody will begin there.
void branches_list_drop(struct branches *branches, struct node *node);
// The list becomes drops of the next step.
enum status branches_tell_drops(struct branches *branches);
// The driver has heard of it.
void branches_note_done(struct branches *branches, struct node *node);
void branches_free(struct branches *branches);
