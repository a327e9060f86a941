#pragma once
// One output: a file that gets its name only when it is complete, or standard output.

#include "pipeline/bytes.h"

struct output {
    int fd;
    char *path;           // the final name; "standard output"
    char *partial;        // what is written to; NULL: path itself, a pipe or device
    struct bytes pending; // not yet written; callers put whole lines here
};

// "-" is standard output. A name that is a link is followed; a pipe or device is written to as it
// is, anything else as PATH.partial. Errors: IO, NO_MEMORY.
enum status output_open(const char *path, struct output **opened);
// Write what is pending. Errors: IO, naming the output.
enum status output_flush(struct output *output);
// Write, sync, close and rename into place; replace: a file of that name may be replaced. Frees
// the output in any case; after an error there is no partial file. Errors: IO, USAGE (there is one).
enum status output_finish(struct output *output, bool replace);
// Close without finishing: the partial file is removed. Accepts NULL.
void output_drop(struct output *output);
