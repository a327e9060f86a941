#pragma once
// What passkey_job.c, which answers a rank's samples, and passkey_end.c, which sums them up, share.

#include "src/passkey_queue.h"
#include "src/passkey_store.h"
#include "src/passkey_tree.h"
#include "src/rank_model.h"
#include "src/report.h"

#include <string.h>

// A message's sample on its way.
struct passkey_described {
    struct passkey_sample sample;
    struct passkey_place place;
    int64_t next_free; // while it is not used
};

struct passkey_job {
    struct passkey_listing listing; // first, so that a listing is a job
    const struct settings *settings;
    const struct score_place *place;
    struct rank_model rank;
    struct tokenizer *tokenizer;
    struct passkey_task *task;
    struct bytes named; // what `run` has the hash and the task of
    struct passkey_run run;
    struct passkey_store *store; // NULL: results go to standard output
    struct passkey_tree *tree;   // on leaders
    struct report *report;       // on the rank that speaks
    struct pipeline_counts counts;
    // of a grid
    int64_t *index; // [samples] to be answered, by all groups; of a topic: a batch
    int64_t samples;
    bool given; // to the tree
    // of a topic
    struct passkey_queue *queue; // NULL: none is read or written
    struct passkey_queue_counts queued;
    struct passkey_description *taken;   // a batch
    struct passkey_described *described; // [described_count] under way or free
    size_t described_count, described_room;
    int64_t described_free;         // the first, or -1
    struct passkey_result *results; // without a store
    size_t count, room;
    struct bytes line;
};

// What each group brings to the end.
struct passkey_share {
    struct passkey_tree_counts tree;
    int64_t run_ns;
    int32_t exit_code, unused;
};

static inline bool passkey_to_folder(const struct settings *settings) {
    return strcmp(settings->output, "-") != 0 && !passkey_queue_output(settings);
}

// Results on standard output as they come.
bool passkey_prints_lines(const struct passkey_job *job);
// Collective: all shares as one. Errors: PEER, NO_MEMORY.
enum status passkey_gather(const struct passkey_job *job, int exit_code, struct passkey_share *sum);
// On the rank that speaks: the results in order, the report, the verdict. Errors: IO, NO_MEMORY.
enum status passkey_tell(struct passkey_job *job, const struct passkey_share *sum, int *exit_code);
