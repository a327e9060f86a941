#pragma once
// Where results and dead letters go: files, standard output or Kafka.

#include "pipeline/record.h"

struct sink;

struct sink_table {
    const char *name;
    // Documents of a partition come in the order in which the leader finished them; a document's
    // pieces before its score. None waits for a broker. Thread: the leader for all.
    enum status (*piece)(struct sink *sink, const struct document_piece *piece);
    enum status (*score)(struct sink *sink, const struct document_score *score);
    // Comes before anything else of the same id.
    enum status (*retract)(struct sink *sink, const struct retraction *retraction);
    // Of a sink for dead letters, which is given nothing else.
    enum status (*letter)(struct sink *sink, const struct dead_letter *letter);
    // Nothing more comes for this partition: a file is complete and is renamed into place.
    enum status (*finish)(struct sink *sink, int32_t partition);
    // How many of the calls above, counted from the start, are safe for good: also if the job dies.
    enum status (*confirmed)(struct sink *sink, int64_t *count);
    // complete: all went well. Waits (with a deadline) until everything is confirmed; otherwise
    // leaves no file under its final name. Errors: IO, BROKER.
    enum status (*close)(struct sink *sink, bool complete);
};

// An implementation's struct begins with this.
struct sink {
    const struct sink_table *table;
};
