// A table of chains, and for each tier a list from the oldest to the newest through its entries.

#include "pipeline/slot_table.h"

#include <stdlib.h>

static struct entry **bucket_of(struct entry **bucket, size_t buckets, uint64_t key) {
    key = (key ^ (key >> 32)) * 0x9e3779b97f4a7c15u;
    return &bucket[(key >> 32) & (buckets - 1)];
}

struct entry *slot_table_find(const struct slot_table *table, uint64_t key) {
    struct entry *entry = *bucket_of(table->bucket, table->buckets, key);
    while (entry != NULL && entry->key != key) {
        entry = entry->chain;
    }
    return entry;
}

// Twice the buckets, so that chains stay about one long.
static enum status buckets_grow(struct slot_table *table) {
    const size_t buckets = table->buckets * 2;
    struct entry **bucket = calloc(buckets, sizeof *bucket);
    if (bucket == NULL) return FAIL(NO_MEMORY, "table of %zu states", buckets);
    for (size_t i = 0; i < table->buckets; i++) {
        while (table->bucket[i] != NULL) {
            struct entry *entry = table->bucket[i];
            struct entry **at = bucket_of(bucket, buckets, entry->key);
            table->bucket[i] = entry->chain;
            entry->chain = *at;
            *at = entry;
        }
    }
    free(table->bucket);
    table->bucket = bucket;
    table->buckets = buckets;
    return STATUS_OK;
}

enum status slot_table_open(struct slot_table *table) {
    *table = (struct slot_table){.buckets = 64};
    table->bucket = calloc(table->buckets, sizeof(struct entry *));
    return table->bucket != NULL ? STATUS_OK : FAIL(NO_MEMORY, "table of states");
}

enum status slot_table_room(struct slot_table *table, struct entry **made) {
    if (table->entries >= table->buckets) TRY(buckets_grow(table));
    *made = calloc(1, sizeof **made);
    return *made != NULL ? STATUS_OK : FAIL(NO_MEMORY, "table of states");
}

void slot_table_list(struct slot_table *table, struct entry *entry, enum tier tier) {
    struct age_list *list = &table->tier[tier];
    entry->tier = tier;
    entry->newer = NULL;
    entry->older = list->newest;
    if (list->newest != NULL) {
        list->newest->newer = entry;
    } else {
        list->oldest = entry;
    }
    list->newest = entry;
    list->count++;
}

void slot_table_unlist(struct slot_table *table, const struct entry *entry) {
    struct age_list *list = &table->tier[entry->tier];
    if (entry->older != NULL) {
        entry->older->newer = entry->newer;
    } else {
        list->oldest = entry->newer;
    }
    if (entry->newer != NULL) {
        entry->newer->older = entry->older;
    } else {
        list->newest = entry->older;
    }
    list->count--;
}

void slot_table_remove(struct slot_table *table, struct entry *entry) {
    struct entry **at = bucket_of(table->bucket, table->buckets, entry->key);
    while (*at != entry) {
        at = &(*at)->chain;
    }
    *at = entry->chain;
    slot_table_unlist(table, entry);
    table->entries--;
}

void slot_table_add(struct slot_table *table, struct entry *entry, enum tier tier) {
    struct entry **at = bucket_of(table->bucket, table->buckets, entry->key);
    entry->chain = *at;
    *at = entry;
    table->entries++;
    slot_table_list(table, entry, tier);
}

void slot_table_close(struct slot_table *table) {
    free(table->bucket);
    table->bucket = NULL;
}
