#pragma once
// The libraries that the stream uses: what was compiled in, and what runs.

#include "ops/base/library.h"

#include <stddef.h>

// Writes up to `most` and returns how many there are. Those that this build has not are left out.
size_t pipeline_libraries(struct library *library, size_t most);

// Where each library is known; only builds that have it have the function.
void mpi_library(struct library *library); // before and after MPI_Init
void kafka_library(struct library *library);
void codec_library(struct library *library);
void bpe_libraries(struct library *pcre2, struct library *utf8proc);
