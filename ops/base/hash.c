#include "ops/base/hash.h"

#define XXH_INLINE_ALL
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

uint64_t hash_bytes(const void *data, size_t bytes) {
    return XXH3_64bits(data, bytes);
}

void hash_library(struct library *library) {
    *library = (struct library){.name = "xxHash"};
    snprintf(library->built, sizeof library->built, "%d.%d.%d", XXH_VERSION_MAJOR,
             XXH_VERSION_MINOR, XXH_VERSION_RELEASE);
    memcpy(library->running, library->built, sizeof library->built);
}
