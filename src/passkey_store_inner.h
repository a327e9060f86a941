#pragma once
// What passkey_store.c, which writes results, and passkey_store_read.c, which reads them, share.

#include "src/passkey_store.h"

#define PASSKEY_WHOLE "results.jsonl"
#define PASSKEY_PART  "results.part-" // and the group's number

struct passkey_store {
    struct passkey_store_settings settings;
    int fd;   // of our part
    int lock; // of the folder, on the rank that speaks
    bool unsynced;
    char path[4096];
    struct passkey_result *results; // by id at the start, by place at the end
    size_t count, room;
    struct bytes line;
};

enum status passkey_store_path(const struct passkey_store *store, const char *name, char *path,
                               size_t bytes);
// results.jsonl, if it is there, to store->results. Errors: MISMATCH, IO, NO_MEMORY.
enum status passkey_store_take_whole(struct passkey_store *store);
// Every part in the folder, of however many groups: taken, or removed.
enum status passkey_store_each_part(struct passkey_store *store, bool removed);
// Sorts by id, and leaves one of each.
void passkey_store_drop_doubles(struct passkey_store *store);
