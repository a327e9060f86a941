#pragma once
// Dead letters on their way from the documents to their sink: a list that the leader empties each
// turn. Thread: the leader only.

#include "pipeline/record.h"
#include "pipeline/sink.h"

struct letter; // one that waits

struct letters { // starts zeroed; letters_free
    struct letter *first, *last;
    int64_t bytes; // of those that wait
};

// Why, about whom and where: the record that cannot be used, or the last one that was taken of a
// document for which the model gives no finite number.
struct letter_facts {
    const char *key;   // of the reason: bad_reason_key
    const char *words; // terminated
    const char *id;
    size_t id_bytes;    // 0: not known
    const char *origin; // topic or path, that lives on; NULL: none
    int32_t partition;
    int64_t offset;
    int64_t expected_first, found_first; // token positions
    const void *message;                 // NULL: not kept
    size_t message_bytes;
};

// Copies all of it. Errors: NO_MEMORY.
enum status letters_add(struct letters *letters, const struct letter_facts *facts);
// Gives all to the sink; *handed_over grows by their number. Errors: the sink's.
enum status letters_emit(struct letters *letters, struct sink *sink, int64_t *handed_over);
void letters_free(struct letters *letters);
