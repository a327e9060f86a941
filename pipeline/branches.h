#pragma once
// Runs of a model that share their beginnings, as a tree: a branch is a stretch of tokens that begins
// where its parent ends, from the parent's state, so that what many runs have in common is read once.
// Branches are planned, spread over the ranks and handed over as documents are (pipeline/plan.h); a
// driver says which there are, what their tokens are, and hears what came out.
//
// A branch whose beginning is a multiple of CHUNK_TOKENS has the bits of the unbranched run, whatever
// was branched off before it. Elsewhere it is the same model with its sums in another order: for
// decoding, a token at a time.
//
// Thread: the leader's, all of it, and all of a driver's functions.

#include "ops/backend.h"
#include "pipeline/comm.h"
#include "pipeline/plan.h"

struct branches; // all there are, of one run

struct branch {            // read only for drivers
    struct branch *parent; // NULL: it begins at position 0; may be gone once this one is done
    int64_t first, count;  // its positions
    int64_t asked;         // of its last rows the driver hears
    void *context;         // the driver's
};

struct branch_wish {
    struct branch *parent; // not sealed
    int64_t count;         // > 0; at most CHUNK_TOKENS if it begins inside a chunk: it is not cut
    int64_t asked;         // in [0, count]; see branches_settings.asked_most
    bool goes_on;          // others begin at its end, until it is sealed; false: it is sealed
    int64_t order;         // lower ones are served first, equal ones in the order they came
    void *context;
};

// Errors: UNEXPECTED (not such a wish), NO_MEMORY.
enum status branches_add(struct branches *branches, const struct branch_wish *wish,
                         struct branch **added);
// Nothing more will begin at the branch's end: its state goes when the last of those has begun. The
// branch is gone then, if it is done. Each that goes on is to be sealed before the driver ends.
void branches_seal(struct branches *branches, struct branch *branch);
// Of branches that are not done: tokens not yet in a plan.
int64_t branches_waiting_tokens(const struct branches *branches);

// What came out of a branch's last rows: [asked] of each.
struct branch_answer {
    const float *nll;              // of the token that follows each, nats; 0 where none is known
    const struct best_token *best; // what the model would go on with
};

struct branch_driver;
struct branch_driver_table {
    // Add branches while there is room for `tokens` more; called whenever less than a few steps of all
    // ranks wait. *ended: there are no more but what `done` may add. Errors: end the run.
    enum status (*more)(struct branch_driver *driver, struct branches *branches, int64_t tokens,
                        bool *ended);
    // The tokens of the branch at [first, first + count), counted from its beginning, and the one after
    // (-1: unknown), all in the model's vocabulary. Each is asked for once, in order.
    void (*tokens)(struct branch_driver *driver, const struct branch *branch, int64_t first,
                   int64_t count, int32_t *token, int32_t *lookahead);
    // The branch has run. What is added here may begin at its end, if it goes on and is not sealed.
    enum status (*done)(struct branch_driver *driver, struct branches *branches,
                        struct branch *branch, const struct branch_answer *answer);
    // About once a second, and at the end. Errors: end the run.
    enum status (*progress)(struct branch_driver *driver);
};
struct branch_driver { // an implementation's struct begins with this
    const struct branch_driver_table *table;
};

struct branches_settings {
    struct plan_settings plan;
    int64_t slots; // of every rank, which steps must do with
    // Rows of a rank's step, as in struct model_settings: no branch is asked about more, unless it is
    // all of a step's.
    int64_t asked_most;
};

struct branches_counts {
    int64_t branches, tokens, steps, moves, hand_overs;
    int64_t plan_ns; // building plans and their messages
    int64_t run_ns;  // from the first step sent to the last answer
};

// Until the driver has ended and every branch is done; then tells all ranks to stop. A stop that comm
// hears of ends it after the steps under way. Errors: STOPPED, the driver's, PEER, NO_MEMORY.
enum status branches_run(const struct branches_settings *settings, struct comm *comm,
                         struct branch_driver *driver, struct branches_counts *counts);
