#pragma once
// Where a step's time goes, stage by stage: marks in the backend's queue, read when all are passed.
// A backend that runs at once is timed by the host's clock.

#include "ops/backend.h"

C_BEGIN

// The stages of a step, in the order of a layer. What each reads and writes: src/bench_cost.c.
enum stage {
    STAGE_EMBED,   // tables and tokens to the backend, embedding
    STAGE_PROJECT, // norm, in_proj
    STAGE_TAIL,    // the convolution's last inputs of each span
    STAGE_PREPARE, // convolution, dt, cumsum, C.B, tile states
    STAGE_PASS,    // state passing
    STAGE_SCAN,    // the scan itself
    STAGE_BACK,    // gate, norm, out_proj into the residual
    STAGE_HEAD,    // final norm, LM head, log-sum-exp; NLLs to the host
    STAGE_WAIT,    // for the left neighbour's state
    STAGES
};
const char *stage_name(enum stage stage);

struct stage_clock;

// Borrows the backend. Errors: NO_MEMORY.
enum status stage_clock_open(struct backend *backend, struct stage_clock **opened);
// What is queued from here on belongs to `stage`, until the next mark. NULL: no clock, nothing is
// done. Errors: NO_MEMORY, PEER.
enum status stage_clock_mark(struct stage_clock *clock, enum stage stage);
// Waits for the queue, adds each stage's time since the first mark, and begins anew. The last
// mark's own stage ends where it begins. Errors: PEER.
enum status stage_clock_read(struct stage_clock *clock, double seconds[STAGES]);
void stage_clock_close(struct stage_clock *clock); // accepts NULL

C_END
