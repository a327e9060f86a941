#pragma once
// A file, or standard output, as a sink of dead letters: one JSON object a line.

#include "pipeline/sink.h"

// The file is complete, under its name, when the sink is closed as such. Errors: IO, NO_MEMORY.
enum status letter_file_open(const char *path, struct sink **opened);
