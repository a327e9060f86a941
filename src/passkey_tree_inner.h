#pragma once
// What passkey_tree.c, which grows the tree, and passkey_answer.c, which reads what comes out, share.

#include "src/passkey_tree.h"

enum branch_kind { BRANCH_TRUNK, BRANCH_STEM, BRANCH_ASK, BRANCH_GREEDY, BRANCH_DECODE };

// One sample on its way.
struct member {
    struct passkey_result result;
    int64_t index;      // in the listing
    int64_t fork;       // position of its ask's first token, a chunk border
    int32_t *tail;      // [tokens + answers - fork] the prompt from there, and the answer
    struct knot *under; // the branch that its ask begins behind; NULL: it begins at 0
    int32_t *predicted; // [predictions] so far, with room for all that may be decoded
    int64_t predictions;
};

// Samples that are read together.
struct stem_run {
    struct stem_run *next, **link; // of the tree's: link points to what points here
    int64_t order;
    struct member *member; // [members]
    int64_t members, settled;
    int64_t begin;                 // position of longest.token[0], once trimmed
    struct passkey_prompt longest; // what its branches are stretches of
};

// What a branch is to us, its context.
struct knot {
    struct knot *next, **link; // of the tree's: link points to what points here
    enum branch_kind kind;
    struct branch *branch;
    struct stem_run *run;  // NULL: the trunk's
    struct member *member; // NULL: the trunk's, a stem's
    int64_t asks;          // begun behind it and not settled: their answers may call for more
    bool complete;         // no more stems or trunk will begin behind it
    bool done, sealed;
};

struct passkey_tree {
    struct branch_driver base; // first, so that &tree->base is the handle
    struct passkey_tree_settings settings;
    struct passkey_tree_counts counts;
    struct passkey_stems stems; // of the batch
    int64_t next;               // stem
    int64_t order;
    bool ended;
    struct passkey_prompt trunk, scratch;
    struct bytes said; // scratch
    struct knot *tip;  // the trunk's last; NULL: nothing of it was read
    int64_t tip_end;
    struct stem_run *runs; // under way
    struct knot *knots;
};

// A branch of the tree. Errors: NO_MEMORY.
enum status knot_add(struct passkey_tree *tree, struct branches *branches, const struct knot *kind,
                     const struct branch_wish *wish, struct knot **added);
// Sealed once nobody can need its end any more, and freed once it has run, too.
void knot_release(struct branches *branches, struct knot *knot);
// What came out of an ask, of greedy, of decode. Errors: NO_MEMORY, the listener's.
enum status passkey_answered(struct passkey_tree *tree, struct branches *branches,
                             struct knot *knot, const struct branch_answer *answer);
// One more of tree->runs. *begin: where all its members leave the trunk, a chunk border; they are sorted by
// their forks. Errors: NO_MEMORY, and then passkey_tree_close frees it.
enum status stem_run_open(struct passkey_tree *tree, const struct passkey_stem *stem,
                          struct stem_run **opened, int64_t *begin);
// Keeps of its longest prompt what its stems read: not what is before `begin`.
void stem_run_trim(struct stem_run *run, int64_t begin);
void stem_run_free(struct stem_run *run);
