#pragma once
// Which states there are, by key, and in which tier each lies, by age.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// LENT: on the device too, and stays there.
enum tier { ON_DEVICE, LENT, IN_HOST, IN_FILE, TIERS };

struct entry {
    uint64_t key;
    enum tier tier;
    char *memory;    // the device slot, or host memory (owned); NULL in a file
    int64_t used_ms; // when it was kept or given back, by the monotonic clock
    int64_t readers; // who borrowed it
    bool dropped;    // in no table any more: it waits for its readers
    struct entry *older, *newer;
    struct entry *chain; // the next one in its bucket
};

struct age_list {
    struct entry *oldest, *newest;
    int64_t count;
};

struct slot_table {
    struct entry **bucket; // [buckets], a power of two
    size_t buckets, entries;
    struct age_list tier[TIERS];
};

enum status slot_table_open(struct slot_table *table);
struct entry *slot_table_find(const struct slot_table *table, uint64_t key); // NULL: unknown
// An empty entry, and room for it in the table, so that adding it cannot fail.
enum status slot_table_room(struct slot_table *table, struct entry **made);
// Owns: the table's now. As the newest of its tier.
void slot_table_add(struct slot_table *table, struct entry *entry, enum tier tier);
// Out of its tier's list, and into one as the newest: always in pairs.
void slot_table_unlist(struct slot_table *table, const struct entry *entry);
void slot_table_list(struct slot_table *table, struct entry *entry, enum tier tier);
// Owns: the entry is the caller's, as are its memory or file.
void slot_table_remove(struct slot_table *table, struct entry *entry);
void slot_table_close(struct slot_table *table); // which is empty
