#pragma once
// A sink that prints scores as a table for people: what `score` shows on a terminal.

#include "pipeline/sink.h"

#include <stdio.h>

// Borrows `out`. Errors: NO_MEMORY.
enum status table_sink_open(FILE *out, struct sink **opened);
