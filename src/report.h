#pragma once
// How a job is coming along, and how it went: a bar on a terminal, otherwise a line every few
// seconds; at the end the sums, in words and as JSON. Everything goes to standard error.

#include "pipeline/documents.h"
#include "src/progress_line.h"
#include "src/settings.h"

struct report;
struct score_totals;

// Only the rank that speaks for the job opens one. noun: what its documents are called, "document". Borrows
// both. Errors: NO_MEMORY.
enum status report_open(const struct settings *settings, const char *noun, struct report **opened);
// Cheap; to be called often. progress may be NULL. Thread: one at a time.
void report_progress(struct report *report, const struct documents_counts *counts,
                     const struct source_progress *progress);
// Says the sums and writes --summary. *report becomes NULL. Errors: IO, NO_MEMORY.
enum status report_close(struct report **report, const struct score_totals *totals);
// Of a job that failed: the bar goes away, nothing is said. *report may be NULL, and becomes so.
void report_drop(struct report **report);

// What documents are bad for, in words.
const char *bad_reason_text(enum bad_reason reason);
