#pragma once
// A run's results in a folder: each group appends lines to a part of its own as they come; when all is
// answered they become results.jsonl, in the order of the grid. What a stopped run has left can be gone
// on from.

#include "src/passkey_result.h"
#include "src/score_rank.h"

struct passkey_store;

struct passkey_store_settings {
    const char *folder; // made if it is not there; the same one for all groups
    bool resume;        // go on with what is there; otherwise nothing may be there
    const struct passkey_run *run;
};

// Collective over the world; only leaders of groups open one (others: *opened NULL). Reads what was
// left. Errors: USAGE (no such folder can be made, it is not one folder for all groups, or it holds
// results that nobody asked to go on with), MISMATCH (with resume: results of another model, task or
// arithmetic), IO, NO_MEMORY, PEER.
enum status passkey_store_open(const struct passkey_store_settings *settings,
                               const struct score_place *place, struct passkey_store **opened);
// What there was at the start, whichever run and group it was of; NULL: this sample was not answered.
const struct passkey_result *passkey_store_find(const struct passkey_store *store, const char *id);
int64_t passkey_store_found(const struct passkey_store *store);
// A result's line, at once. Errors: IO.
enum status passkey_store_put(struct passkey_store *store, const struct bytes *line);
// What was put outlives a power failure from now on. Errors: IO.
enum status passkey_store_sync(struct passkey_store *store);
// No more will be put: what was is on the disk, for others to read. Errors: IO.
enum status passkey_store_end(struct passkey_store *store);
// On the rank that speaks, when all groups have ended theirs: all results there are, by length and number,
// the store's. complete: results.jsonl is made of them, and the parts go. Errors: IO, NO_MEMORY.
enum status passkey_store_finish(struct passkey_store *store, bool complete,
                                 const struct passkey_result **results, int64_t *count);
void passkey_store_close(struct passkey_store *store); // accepts NULL
