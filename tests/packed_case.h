#pragma once
// What the tests of packed files share: text packed in memory.

#include "pipeline/bytes.h"
#include "pipeline/packing.h"

#include <stdlib.h>

#define CASE_PACKINGS \
    { PACKING_GZIP, PACKING_ZSTD }

// One more stream behind what `to` holds.
static inline void pack_behind(enum packing packing, const char *text, size_t bytes,
                               struct bytes *to) {
    struct packer *packer = NULL;
    bool done = false;
    if (packer_open(packing, &packer) != STATUS_OK) abort();
    for (size_t at = 0; !done;) {
        if (bytes_room(to, 65536) != STATUS_OK) abort();
        struct packing_run run = {.in = text + at,
                                  .in_bytes = bytes - at,
                                  .out = to->data + to->count,
                                  .room = to->room - to->count};
        if (packer_run(packer, &run, PACKER_FINISH, &done) != STATUS_OK) abort();
        at += run.used;
        to->count += run.made;
    }
    packer_close(packer);
}
