#pragma once
// Which rank scans which tokens in the next step: a pure function of what waits and of where the
// states lie. Invariants, each tested over random draws (tests/plan_test.c):
//
//   1. Every token taken is in exactly one span; a document's spans follow each other in position
//      and lie on ranks r, r + 1, ... without holes, in one step never back to a lower rank.
//   2. At most one span of a rank takes its state from the left, and it is the rank's first; at
//      most one gives it to the right, and it is the rank's last.
//   3. Every cut inside a document is at a chunk border, and what begins inside a chunk is not cut.
//   4. A continued document starts on the rank that holds its slot, or the plan has a move for it.
//   5. A document is split over ranks only if it is longer than its first rank's remaining share.
//   6. With enough work waiting the fullest rank has at most max(1.1 x mean, one chunk) tokens.
//   7. A move is priced in tokens and made only if it saves more than it costs.
//   8. Round robin over open documents: nobody waits for a long document to end.

#include "ops/backend.h"

// What waits of one document. In queue order: who stands first is served first.
struct plan_document {
    int64_t first;  // the position to go on from. Inside a chunk: it closes with a chunk at most
    int64_t ready;  // tokens that can run now: whole chunks, or all that is left if it closes
    bool closes;    // after `ready` tokens the document ends: its state is not needed again
    int32_t holder; // the rank whose slot holds its state, or -1 while first == 0
    bool keeps;     // its state is needed though it closes: others begin at its end
    int32_t shared; // in [1, documents]: others with this number start from the same state, which
                    // stays; 0: from its own
};

enum span_from { FROM_ZERO, FROM_SLOT, FROM_LEFT, FROM_MOVE };
enum span_to { TO_NOWHERE, TO_SLOT, TO_RIGHT };

struct plan_span {
    int32_t document; // index into the documents given
    int32_t rank;
    int64_t first, count;
    enum span_from from;
    enum span_to to;
};

struct plan_move { // the document's state goes from one rank's slot to another's before the step
    int32_t document, from, to;
};

struct plan_settings {
    int32_t ranks;
    int64_t step_tokens; // most tokens of one rank, a multiple of CHUNK_TOKENS
    int64_t move_tokens; // the price of a move, in tokens of one rank's time
    int64_t spans_most;  // most spans of one rank (bounds the step message)
};

struct plan_desk; // what the planner works on, kept from step to step (pipeline/plan_place.h)

// All zero is an empty one.
struct plan {
    struct plan_span *spans; // by rank, then in the order of the rank's rows
    int64_t span_count;
    struct plan_move *moves;
    int64_t move_count;
    int64_t tokens;
    size_t spans_room, moves_room; // the arrays grow and are kept from step to step
    struct plan_desk *desk;
};

// Errors: NO_MEMORY. An empty plan (span_count 0) is what nothing ready gives.
enum status plan_build(const struct plan_document *documents, int64_t count,
                       const struct plan_settings *settings, struct plan *plan);
void plan_free(struct plan *plan);

struct plan_place { // of a document in a plan
    int32_t rank;   // where it begins; -1: it has no part in it
    int32_t from;   // where its state is moved away; -1: it is not
    int64_t pins;   // slots of its rank, if it lies on one only; without a shared state's
    bool shares;    // starts from a shared state of its rank's
};

// Slots that the ranks pin, from step to step (pipeline/plan_slots.c). All zero is a closed one.
struct plan_pins {
    int64_t *now;                // [ranks] by the plan
    int64_t *leaving;            // [ranks] of those, by states on their way to other ranks
    int64_t *left;               // [ranks] still, by those of the step before
    struct plan_document *asked; // without those that have to wait, while a plan is cut down
    struct plan_place *place;    // [as asked]
    unsigned char *seen;         // [documents + 1] of shared states: what of them is counted
    size_t asked_room, place_room, seen_room;
};

// Of one rank: a document alone in a step comes, goes on and leaves, and may be moved away.
#define PLAN_SLOTS_LEAST 4

enum status plan_pins_open(int32_t ranks, struct plan_pins *pins);
// As plan_build, with fewer documents if a rank would pin more than `slots`, those of the step before
// included: the last in the queue of those on that rank wait. Each document has something ready.
// slots: at least twice PLAN_SLOTS_LEAST.
enum status plan_build_in_slots(const struct plan_document *documents, int64_t count,
                                const struct plan_settings *settings, int64_t slots,
                                struct plan_pins *pins, struct plan *plan);
void plan_pins_close(struct plan_pins *pins);
