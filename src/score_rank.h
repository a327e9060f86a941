#pragma once
// One rank of a `score` job, from its backend to its share of the totals.

#include "pipeline/pipeline.h"
#include "src/report.h"
#include "src/settings.h"

// Where a rank stands. Borrowed links; world and group may be the same link.
struct score_place {
    struct link *world, *group;
    int32_t group_index, groups;
    int32_t local_ranks; // ranks that share this machine's cores and devices
    int32_t local_rank;  // which of them this is
};

// What each rank brings to the end, and everybody then knows of everybody.
struct score_totals {
    struct documents_counts documents;
    int64_t steps, moves, hand_overs, spills;
    int64_t ingest_ns, plan_ns, emit_ns, commit_ns; // of leaders
    int64_t run_ns, compute_ns, wait_ns;
    int64_t peak_bytes; // of memory, of the process
    int64_t inputs_skipped;
    int32_t exit_code;
    int32_t ranks, leaders; // how many brought this
    int32_t unused;
};

// Collective. *totals: summed over ranks, the same on all; peak_bytes is the largest and exit_code
// the gravest. On failure all ranks of the job have been told to stop.
enum status score_on_rank(const struct settings *settings, const struct score_place *place,
                          struct score_totals *totals);

// What --transport asks for.
enum transport_wish score_transport(const struct settings *settings);

// What a verb does on each of its ranks.
typedef enum status rank_work(const struct settings *settings, const struct score_place *place,
                              struct score_totals *totals);
// On the ranks that the settings and the launcher say: MPI processes, or threads of this one.
// *totals: those of the rank that explains the outcome best. Errors: USAGE and what `work` returns.
enum status ranks_run(const struct settings *settings, rank_work *work,
                      struct score_totals *totals);
