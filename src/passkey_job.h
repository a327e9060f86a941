#pragma once
// One rank of a `passkey` job: its share of the samples answered, and, where it speaks for the job, the
// report.

#include "src/rank_model.h"

// Collective. totals: the exit code only. On failure all ranks of the job have been told to stop.
enum status passkey_on_rank(const struct settings *settings, const struct score_place *place,
                            struct score_totals *totals);
