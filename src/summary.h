#pragma once
// The closing summary as one JSON object in a file, renamed into place when complete.

#include "src/score_rank.h"

// Can the file be made? Asked before the work begins. Errors: USAGE, NO_MEMORY.
enum status summary_check(const char *path);
// Errors: IO, NO_MEMORY.
enum status summary_write(const char *path, const struct score_totals *totals, double seconds);
