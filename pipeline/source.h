#pragma once
// Where records come from: files or Kafka. A table, its one caller a slot below.

#include "pipeline/record.h"

struct source;

struct source_progress {
    int64_t done, total; // total -1: not known
    const char *unit;    // "bytes" or "records"
    int64_t lag;         // records behind the end; -1: has no meaning here
    int64_t waiting;     // tokens of what is done that are not scored yet; the leader knows
};

struct source_table {
    const char *name;
    // The next record, waiting for it at most timeout_ms. Records of a partition come in offset
    // order. Owns: *record is the caller's. Thread: the reader only.
    // Errors: AGAIN (none yet), END (no more, as --until says), IO, BROKER, NO_MEMORY. Input that
    // is merely bad is a RECORD_FAULT, not an error.
    enum status (*next)(struct source *source, int32_t timeout_ms, struct record **record);
    // Called about every 100 ms while there is no room for another record, so that the source can
    // look after what it reads from. It takes no records. Errors: as next's, but they come before
    // what is queued. Thread: the reader. NULL: nothing to look after.
    enum status (*tend)(struct source *source);
    // Everything of the partition before `offset` is in confirmed results or in `blob` (printable
    // ASCII, at most 200 bytes; "" for none). Returns without waiting for a broker.
    // Thread: the leader. NULL: the source has nothing to commit to.
    enum status (*commit)(struct source *source, int32_t partition, int64_t offset,
                          const char *blob);
    // What was committed of the partition before this run: the offset it was begun at and the blob.
    // false: nothing. Thread: the leader. NULL: never anything.
    bool (*resumed)(struct source *source, int32_t partition, int64_t *offset, const char **blob);
    // The topic, or the path of the file. Thread: the leader.
    const char *(*origin)(struct source *source, int32_t partition);
    // Thread: any. A snapshot for the progress line.
    void (*progress)(struct source *source, struct source_progress *progress);
    // Waits (with a deadline) until the last commits are kept. Errors: BROKER.
    enum status (*close)(struct source *source);
};

// An implementation's struct begins with this.
struct source {
    const struct source_table *table;
};
