#pragma once
// The documents of a partition that were finished last: id, version and length. Records of one of
// them that come again (a producer that tried twice, a file published twice) are known by it. So
// are the dead: bad documents of which more records may come, which are of no use.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLOSED_MOST 65536       // remembered; then the oldest are forgotten
#define CLOSED_DEAD INT64_C(-1) // in place of a length

struct closed_document {
    char *id;
    size_t id_bytes;
    uint64_t version;
    int64_t tokens; // or CLOSED_DEAD
    bool revived;   // was dead; a document of this id and version may begin anew
    int32_t next;   // in its bucket, the next older one; -1: none
};

struct closed {                       // starts zeroed; closed_free
    struct closed_document *document; // a ring once it is full
    size_t room;
    int64_t count;   // remembered so far
    int32_t *bucket; // [CLOSED_MOST] the newest of each; NULL: nothing was remembered yet
};

// Copies the id. Errors: NO_MEMORY.
enum status closed_remember(struct closed *closed, const char *id, size_t id_bytes,
                            uint64_t version, int64_t tokens);
// The newest of this id, until the next call; NULL: not known (any more), or revived.
struct closed_document *closed_find(const struct closed *closed, const char *id, size_t id_bytes);
// Of the newest of this id that is not dead; -1: none is known (any more).
int64_t closed_length(const struct closed *closed, const char *id, size_t id_bytes);
void closed_free(struct closed *closed);
