#pragma once
// --version: the program, how it was built, the libraries it was built with and those it runs with.

#include "ops/base/library.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define VERSION_LIBRARIES_MOST 16

struct plugin_found;

extern const char version_number[]; // "0.1.0"

// First the line that names the version, then what stands behind it.
void version_say(FILE *out);

// "Release, gcc 12.2.0, x86_64; MPI on, Kafka on, CUDA off".
void version_build(char *text, size_t bytes);
// Of the program, and of the plug-in where it loads; returns how many, at most
// VERSION_LIBRARIES_MOST.
size_t version_libraries(const struct plugin_found *found, struct library *library);
// "2.0.2", "2.1.0 (built with 2.0.2)", "missing: why not".
void version_library_text(const struct library *library, char *text, size_t bytes);
// Is what runs older than what was compiled with, so that something may be missing in it?
bool version_is_older(const struct library *library);
