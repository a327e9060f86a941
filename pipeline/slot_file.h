#pragma once
// A state in a file: what slots spill and what snapshots are made of. 192 bytes of header, then the
// state. Numbers lie as in memory, little-endian; another byte order fails the magic.

#include "pipeline/slots.h"

// What the state is, and must be when it is read again.
struct slot_file {
    uint64_t key; // of a spilled state; 0 in snapshots
    size_t slot_bytes;
    struct slot_image image;
};

// durable: through PATH.partial, which is renamed once it is on the disk, so that PATH is always
// whole. Otherwise straight into PATH. On failure no file is left behind. Errors: IO.
enum status slot_file_write(const char *path, const struct slot_file *what, const void *state,
                            bool durable);
// Into state[slot_bytes], whose contents are undefined on failure. Errors: IO; MISMATCH: the file is
// damaged, cut short, or of anything else than `what`.
enum status slot_file_read(const char *path, const struct slot_file *what, void *state);
