#pragma once
// A whole file, mapped read-only. It must not shrink while it is open.

#include "ops/base/status.h"

#include <stddef.h>

C_BEGIN

struct mapped_file {
    const char *bytes; // page aligned; NULL if the file is empty
    size_t size;
};

// Errors: USAGE (there is none to open), IO (not a regular file), MISMATCH (larger than most_bytes).
enum status mapped_file_open(const char *path, size_t most_bytes, struct mapped_file *file);
void mapped_file_close(struct mapped_file *file); // accepts an empty one

C_END
