#pragma once
// The thread that asks the source for records, and the bounded queue between it and the leader.

#include "pipeline/source.h"

struct reader;

// At most this much waits in the queue, and 16 MiB of messages kept with records; a single larger
// record still passes.
struct reader_settings {
    int64_t tokens_most, records_most;
};

// Borrows the source, starts the thread. Errors: NO_MEMORY, UNEXPECTED.
enum status reader_open(struct source *source, const struct reader_settings *settings,
                        struct reader **opened);
// The next record, waiting at most timeout_ms. Owns: the caller's. Errors: AGAIN, END (the source
// has ended and all was taken), or what the source failed with: after all that came before it when
// asked for a record, at once when tended.
enum status reader_next(struct reader *reader, int32_t timeout_ms, struct record **record);
// Tokens in the queue.
int64_t reader_waiting(struct reader *reader);
// Ask the source for nothing more; what is queued can still be taken, then END.
void reader_stop(struct reader *reader);
// Joins the thread. Accepts NULL.
void reader_close(struct reader *reader);
