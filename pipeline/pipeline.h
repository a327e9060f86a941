#pragma once
// One rank of a group from start to end: its communication thread, its compute thread (the caller)
// and, on rank 0, the leader with its reader. Read this first, then leader.c and worker.c.
//
//      source -> reader -> leader -> [step messages] -> worker -> model
//                  sink <- leader <- [NLLs]          <-   |  states, to and from the neighbours

#include "pipeline/branches.h"
#include "pipeline/leader.h"
#include "pipeline/slots.h"
#include "pipeline/transports.h"
#include "pipeline/worker.h"

struct pipeline_settings {
    int64_t step_tokens;
    int64_t move_tokens; // price of a move, see pipeline/plan.h
    int64_t queue_tokens;
    int64_t commit_interval_ms;
    int32_t peer_timeout_ms;
    enum transport_wish transport;
    int64_t device_slots; // 0: what a step can need
    size_t host_slots_bytes;
    const char *spill_folder;
    int64_t idle_ms;    // states unused for so long go to files there; 0: none does
    int64_t asked_most; // of branches: as the model was opened with
    const char *mark;   // see pipeline/leader.h
    bool close_open;    // score what is open when the input ends
    struct documents_settings documents; // vocab_size, letters and source are set by the run
    bool (*stop)(void);
    void (*progress)(void *listener, const struct documents_counts *counts,
                     const struct source_progress *source);
    void *listener;
};

// What a rank brings. All borrowed; source and sinks, or the driver, on rank 0 only. The sinks are closed
// by the run.
struct pipeline_rank {
    struct link *group;
    struct backend *backend;
    struct model *model;
    struct source *source;
    struct sink *sink;
    struct sink *letters;         // of dead letters; NULL: they are only counted
    struct branch_driver *driver; // of branches; NULL: the source's documents are run
};

struct pipeline_counts {
    struct leader_counts leader;     // on rank 0, of documents
    struct branches_counts branches; // on rank 0, of branches
    struct worker_counts worker;
    struct slots_counts slots;
};

// What can be found out before anything runs. Errors: USAGE.
enum status pipeline_check(const struct pipeline_settings *settings);

// Collective over the group. On failure every rank of the group returns an error within the peer
// time-out, and *exit_code is the one the rank that failed first has to give; on success it is 0,
// or 143 after a stop.
enum status pipeline_run(const struct pipeline_settings *settings, const struct pipeline_rank *rank,
                         struct pipeline_counts *counts, int *exit_code);

// What must be equal on all ranks before a number is believed.
struct pipeline_identity {
    uint64_t program; // hash of the program's version
    uint64_t model, settings;
    uint64_t layer_bytes;
    int64_t step_tokens;
    char numerics[128];
};
// Collective. Errors: MISMATCH naming the rank and what differs; PEER.
enum status pipeline_agree(struct link *link, const struct pipeline_identity *mine,
                           int32_t timeout_ms);
