#pragma once
// Where a step's time goes, stage by stage: marks in the backend's queue, read when all are passed.
// A backend that runs at once is timed by the host's clock.

#include "ops/model/model.h"

C_BEGIN

// The stages of a step, in the order of a layer (ops/mixer.h).
enum stage {
    STAGE_BEGIN, // tables and tokens to the backend, embedding
    STAGE_PROJECT,
    STAGE_TAIL,
    STAGE_PREPARE,
    STAGE_PASS,
    STAGE_SCAN,
    STAGE_PROJECT_BACK,
    STAGE_HEAD, // with the NLLs' way to the host
    STAGES
};
const char *stage_name(enum stage stage);

struct stage_clock;

// Puts a clock before the model's mixer. Borrows the model, which must be closed after the clock.
// Errors: NO_MEMORY.
enum status stage_clock_open(struct model *model, struct stage_clock **opened);
// model_run with every stage timed: waits, and adds each stage's time to seconds[].
// A wait for the left neighbour counts for the stage before it. Errors: NO_MEMORY, PEER.
enum status stage_clock_run(struct stage_clock *clock, const struct model_step *step,
                            double seconds[STAGES]);
void stage_clock_close(struct stage_clock *clock); // accepts NULL

C_END
