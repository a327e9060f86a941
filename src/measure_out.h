#pragma once
// Where bench and verify write: a table for people on a terminal, otherwise JSON lines.

#include "src/settings.h"

#include <stdio.h>

struct measure_out {
    FILE *file;
    const char *path; // borrowed; NULL: standard output
    bool table;
};

// --output and --print. A file is written under NAME.partial. Errors: USAGE (cannot be written).
enum status measure_out_open(const struct settings *settings, struct measure_out *out);
// complete: the file gets its name; otherwise it goes away. Errors: IO.
enum status measure_out_close(struct measure_out *out, bool complete);
