#pragma once
// A zip in memory whose entries are stored as they are. Nothing its directory says is believed
// before it is checked: every entry lies inside the file, behind a header of its own that agrees,
// overlaps no other, and is neither packed nor encrypted.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

C_BEGIN

struct zip_entry {
    const char *name; // not terminated
    size_t name_bytes;
    const char *header; // where the entry begins in the file; its data lies some bytes on
    const char *data;
    size_t bytes;
    uint32_t crc; // as the directory says
};

struct zip {
    struct zip_entry *entries; // by name
    int64_t count;
};

// `bytes` stays the caller's and must outlive the result; `path` is for messages only.
// Errors: MISMATCH, NO_MEMORY.
enum status zip_parse(const char *path, const char *bytes, size_t size, struct zip *parsed);
// NULL: there is none of that name.
const struct zip_entry *zip_find(const struct zip *zip, const char *name, size_t name_bytes);
void zip_free(struct zip *zip); // accepts an empty one

// Are the entry's data those whose CRC-32 the directory has? About 0.4 GB/s.
bool zip_entry_is_whole(const struct zip_entry *entry);

C_END
