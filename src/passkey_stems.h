#pragma once
// Samples that have a beginning in common beyond the filler: the same key at the same place, asked for
// at several lengths. Such a stem is read once.

#include "src/passkey_task.h"

// Where samples come from: the task's grid, or messages.
struct passkey_listing {
    const struct passkey_task *task;
    void (*sample)(const struct passkey_listing *listing, int64_t index,
                   struct passkey_sample *sample);
};

struct passkey_stem {
    int64_t first, count; // of passkey_stems.index
    int64_t position;     // units of filler before the key
    int64_t cost;         // rough tokens, see passkey_sample_cost
};

struct passkey_stems {
    int64_t *index; // samples, stem by stem, shorter ones first
    struct passkey_stem *stem;
    int64_t samples, count;
};

// Of these samples, by position, the dearer first. apart: each sample is a stem. Owns: the caller's, with
// passkey_stems_free. Errors: NO_MEMORY.
enum status passkey_stems_make(const struct passkey_listing *listing, const int64_t *index,
                               int64_t count, bool apart, struct passkey_stems *stems);
// Leave in only what is group `group`'s of `groups`: the dearest to whoever has least, and so on.
// Errors: NO_MEMORY.
enum status passkey_stems_share(struct passkey_stems *stems, int32_t group, int32_t groups);
void passkey_stems_free(struct passkey_stems *stems);
