#pragma once
// Complete outputs on the way to their names. A sync a file costs more than scoring a small one, so
// that many which are complete at nearly the same time share one.

#include "pipeline/output.h"

#include <stdint.h>

#define OUTPUT_BATCH    64  // outputs that wait, each with its file open
#define OUTPUT_BATCH_MS 200 // for at most about this long, as long as outputs come

struct output_batch {
    struct output *waiting[OUTPUT_BATCH];
    int count;
    int64_t settled_ms; // when none waited any more
};

// The output is complete; it is the batch's now, also after an error. Errors: those of
// output_finish, of this one or of another that waited.
enum status output_batch_add(struct output_batch *batch, struct output *output, bool replace);
// Those who wait get their names. After an error all are gone, named or not.
enum status output_batch_settle(struct output_batch *batch, bool replace);
