#pragma once
// xxh3-64, the one hash of ids that stand in results and files.

#include "ops/base/library.h"

#include <stddef.h>
#include <stdint.h>

C_BEGIN

uint64_t hash_bytes(const void *data, size_t bytes);
void hash_library(struct library *library); // xxHash, of which only the header is used

C_END
