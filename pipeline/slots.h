#pragma once
// Where the states of open documents lie between steps: slots in backend memory, spilled least
// recently used to host memory, then to files. Never refused while the disk has room.
// Thread: the rank's compute thread only.

#include "ops/backend.h"

struct slots;
struct entry; // of a state that is kept

struct slots_settings {
    size_t slot_bytes;
    int64_t device_slots; // in backend memory; pinned ones of a step must fit
    int64_t at_once;      // of them allocated when the store opens; the others when needed
    size_t host_bytes;    // of host memory for spilled ones
    const char *folder;   // for spill files; made when first needed, emptied at close
};

// Errors: USAGE (no slots), NO_MEMORY, PEER.
enum status slots_open(struct backend *backend, const struct slots_settings *settings,
                       struct slots **opened);
// The state kept under `key`, to be read until slots_return: in backend memory (brought back if it was
// spilled) and pinned. It keeps its key, others may borrow it too, and it may be dropped or replaced
// meanwhile: then the key is gone, and the slot stays as it is for those who read it.
// Errors: MISMATCH (a spill file is damaged, or the key is unknown), USAGE, IO, NO_MEMORY, PEER.
enum status slots_borrow(struct slots *slots, uint64_t key, struct entry **lent,
                         const char **state);
// Read no more, but by what is queued already.
void slots_return(struct slots *slots, struct entry *lent);
// An unused slot, pinned, contents undefined.
enum status slots_make(struct slots *slots, char **state);
// A made slot becomes the state of `key`, in place of an older one; unpinned.
enum status slots_keep(struct slots *slots, uint64_t key, char *state);
// A made slot is not needed any more, but by what is queued already.
void slots_free(struct slots *slots, char *state);
// The key and its state are forgotten, wherever they lie. Unknown keys are fine.
void slots_drop(struct slots *slots, uint64_t key);

// The rank has queued the step that is the `step`-th, from 1 on: what is freed from now on rests until
// the backend's queue has passed it. Nothing queued, and a freed slot can be used at once.
void slots_queued(struct slots *slots, uint64_t step);
void slots_reached(struct slots *slots, uint64_t step);

// States in memory that nobody has used for idle_ms go to files, the longest unused first; a bounded
// number of bytes a call, but one state at least, so call it again and again. Their slots are free
// for others. On failure the state stays where it is. Errors: IO, USAGE, NO_MEMORY, PEER.
enum status slots_spill_idle(struct slots *slots, int64_t idle_ms);

// The seam for snapshots: a state out of and into a file. The file carries a header (format
// version, slot bytes, model hash, numerics, position, checksum) and is refused if any differs.
struct slot_image {
    uint64_t model_hash;
    char numerics[128];
    int64_t position; // tokens of the document that the state has seen
};
enum status slot_save(struct slots *slots, uint64_t key, const struct slot_image *image,
                      const char *path);
enum status slot_load(struct slots *slots, uint64_t key, const struct slot_image *image,
                      const char *path);

struct slots_counts {
    int64_t device, host, file; // states now
    int64_t spills, loads;      // since open: off the device, and back to it
    int64_t idle;               // since open: to files, for not being used
};
struct slots_counts slots_counts(const struct slots *slots);
void slots_close(struct slots *slots); // accepts NULL
