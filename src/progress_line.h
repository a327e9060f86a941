#pragma once
// The words about a job that is under way: how much of it is done, how fast, how long it will take.

#include "pipeline/documents.h"

#include <stddef.h>

#define PROGRESS_KEPT 60 // samples, one a second

struct progress_sample {
    int64_t at_ms, tokens;
    double done; // of the source's units, scored
};

struct progress_line {
    int64_t started_ms;
    const char *noun;                             // what is counted
    struct progress_sample sample[PROGRESS_KEPT]; // a ring
    int64_t samples;
    double most; // done so far: between reader and leader a record is counted twice or not at all
};

void progress_line_start(struct progress_line *line, const char *noun, int64_t now_ms);
// "34%, ETA 2m10s, 12.3k documents, 4.56M tokens, 789k tokens/s, 5 bad, 17 open, lag 1234": what is
// worth most comes first, since a narrow terminal cuts the rest off. Shares and times are of what is
// scored: what is read runs ahead of it. progress may be NULL.
void progress_line_tell(struct progress_line *line, int64_t now_ms,
                        const struct documents_counts *counts,
                        const struct source_progress *progress, char *text, size_t bytes);

// 1234567 as 1.23M; up to 9999 as it is. Returns text.
const char *short_number(double number, char *text, size_t bytes);
// "1 document", "2 documents", "12.3k documents". Returns text.
const char *count_of(int64_t number, const char *word, char *text, size_t bytes);
