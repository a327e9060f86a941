#pragma once
// A rank's share of the steps: states in, the model's scan, states out, NLLs back to the leader.
// Runs on the rank's compute thread and is the same on every rank.

#include "ops/model/model.h"
#include "pipeline/comm.h"
#include "pipeline/slots.h"

struct worker_settings {
    int32_t rank, ranks; // in the group
    int32_t leader;      // who sends the steps
    int64_t step_tokens; // most rows of a step, as the model was opened for
    int64_t idle_ms;     // states unused for so long go to files; 0: none does
    int64_t asked_most;  // rows of a step that the model may be asked about
};

struct worker_counts {
    int64_t steps, rows;
    int64_t ahead;      // steps that were queued while another was under way
    int64_t compute_ns; // with states and work there
    int64_t wait_ns;    // from one step to the next
};

// Takes steps until the leader says stop. Borrows everything. Errors: PEER (a rank was lost, its
// message or state did not come), and what slots and model give.
enum status worker_run(const struct worker_settings *settings, struct comm *comm,
                       struct transport *transport, struct backend *backend, struct model *model,
                       struct slots *slots, struct worker_counts *counts);
