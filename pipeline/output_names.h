#pragma once
// Which output belongs to which input.

#include "pipeline/file_sink.h"

// path[i] is input i's output; with `shared` there is one, path[0], for all (standard output, or
// where a stream goes).
struct output_names {
    char **path; // [count]
    int64_t count;
    bool shared;
    char *folder; // to be made if it is not there; NULL: none
};

// Errors: USAGE, NO_MEMORY.
enum status output_names_build(const struct file_sink_settings *settings,
                               struct output_names *names);
void output_names_free(struct output_names *names);
