#pragma once
// What slots.c and slots_spill.c share. Three places, a list by age in each. Room on the device is made
// by spilling the oldest state to host memory, room there by writing the oldest to a file. A state that
// is borrowed is in a list of its own, so that nothing spills it, and what is dropped while it is
// borrowed is in none: its last reader frees it.

#include "pipeline/slot_table.h"
#include "pipeline/slots.h"

// A slot that nobody needs but what is queued up to a step.
struct resting {
    char *state;
    uint64_t step;
};

struct slots {
    struct backend *backend; // borrowed
    struct slots_settings settings;
    char *parent;  // the folder that is asked for; NULL: none
    char *folder;  // our own in it, once needed
    char *staging; // [slot_bytes] of host memory, once needed
    char **made;   // [made_count] all device slots there are
    char **unused; // [unused_count] those that hold nothing
    size_t made_count, made_room, unused_count, unused_room;
    struct resting *resting; // [resting_count] the oldest first
    size_t resting_count, resting_room;
    uint64_t queued, reached; // steps
    char **spare;             // [spare_count] pinned host memory that holds nothing
    size_t spare_count, spare_room;
    struct slot_table table;
    int64_t spills, loads, idle;
};

// The oldest state on the device goes down; *state is the slot it leaves. Errors: IO, NO_MEMORY, PEER,
// USAGE (there is no folder for it).
enum status slots_spill_oldest(struct slots *slots, char **state);
// A state from host memory or a file, on the device again. Errors: those, and MISMATCH.
enum status slots_bring_back(struct slots *slots, struct entry *entry);
// Where an entry's state lay below the device.
void slots_host_give(struct slots *slots, char *memory); // accepts NULL
void slots_file_remove(const struct slots *slots, uint64_t key);
