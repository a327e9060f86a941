#pragma once
// The nouns of the stream: what comes in, and what goes out.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ID_BYTES_MOST         1024         // of a document's id
#define RECORD_TOKENS_MOST    (512 * 1024) // tokens of one record inside the program
#define ATTRIBUTES_BYTES_MOST 4096         // of a document's attributes
#define ARRAY_INLINE_MOST     65536 // entries of an array inside a result; longer ones are pieces

enum record_kind {
    RECORD_TOKENS,
    RECORD_FAULT,         // something that cannot be used; `fault` says why
    RECORD_PARTITION_END, // the partition has no more records, ever
};

// A run of one document's tokens as it came from a source. One malloc'd block; record_free.
struct record {
    enum record_kind kind;
    int32_t partition; // topic partition, or index of the shard among the inputs
    int64_t offset;    // of this record in its partition (a line or piece number for files)
    // Names the document in its partition. 0: `id` does (streams). Otherwise a number that no two
    // documents of the partition share, so that files may repeat ids.
    uint64_t serial;
    uint64_t version;
    int64_t first; // position of token[0] in the document; -1: a fault that does not say
    int64_t tokens;
    bool last;          // the document ends with this record
    int64_t text_bytes; // bytes of text the tokens stand for; -1: unknown
    int64_t time_ms;    // when it was written, by its source's clock, since 1970; -1: unknown
    const char *id;     // UTF-8, not terminated; inside the block, like all below
    size_t id_bytes;
    const char *attributes; // members of a JSON object, without its braces; "" when none
    size_t attributes_bytes;
    const int32_t *token; // [tokens]; checked against the vocabulary by documents, not here
    const char *fault;    // terminated; RECORD_FAULT only
    void *message;        // as it came, for a dead letter: a block of its own; NULL: not kept
    size_t message_bytes;
};

// A record with room for these sizes; copies id and attributes, leaves the tokens to be filled
// through record_tokens(). Errors: NO_MEMORY.
enum status record_make(enum record_kind kind, const char *id, size_t id_bytes,
                        const char *attributes, size_t attributes_bytes, int64_t tokens,
                        struct record **made);
enum status record_make_fault(const char *id, size_t id_bytes, const char *fault,
                              struct record **made);
int32_t *record_tokens(struct record *record);
// Keeps a copy of the message that the record was made from. Errors: NO_MEMORY.
enum status record_keep(struct record *record, const void *message, size_t bytes);
void record_free(struct record *record); // accepts NULL

struct window_score { // predictions of positions [first, first + scored)
    int64_t first, scored;
    double nll; // nats
};

struct document_window { // a window that stands by itself
    const char *id;
    size_t id_bytes;
    uint64_t version;
    struct window_score window;
};

// One document's result. Borrowed by the sink for the call.
struct document_score {
    int32_t partition;
    const char *id;
    size_t id_bytes;
    uint64_t version;
    int64_t tokens, scored;
    double nll;         // nats, the sum over positions in order
    int64_t text_bytes; // -1: unknown
    int64_t time_ms;    // of its newest record; -1: unknown
    const char *attributes;
    size_t attributes_bytes;
    const struct window_score *windows; // NULL without --score-every
    int64_t window_count;
    int64_t token_nll_first;
    const float *token_nll; // NULL without --token-nll, or when it went out in pieces before
    int64_t token_nll_count;
    bool truncated;
};

// A piece of a document's arrays, ahead of its score. Borrowed by the sink for the call.
struct document_piece {
    int32_t partition;
    const char *id;
    size_t id_bytes;
    uint64_t version;
    int64_t time_ms; // of the newest record of its document; -1: unknown
    const struct window_score *windows;
    int64_t window_count;
    int64_t token_nll_first;
    const float *token_nll;
    int64_t token_nll_count;
};

// What was given out of a document ahead of its score does not hold any more: windows that begin at
// positions [windows_first, windows_end), and pieces with token NLLs of [nll_first, nll_end), the
// first of which was that of nll_origin.
struct retraction {
    int32_t partition;
    const char *id;
    size_t id_bytes;
    bool older; // it was of an older version, and this one's result comes next
    int64_t windows_first, windows_end;
    int64_t nll_origin, nll_first, nll_end;
};

// Input that could not be used, and where it was.
struct dead_letter {
    const char *id; // NULL: not known
    size_t id_bytes;
    const char *reason; // terminated: a key of bad_reason_key, ": ", and words
    const char *topic;  // terminated: a topic, or the path of a file
    int32_t partition;
    int64_t offset;                      // of a line or piece, in a file
    int64_t expected_first, found_first; // token positions
    const void *record;                  // the message as it came; NULL: not kept
    size_t record_bytes;
    int64_t message_bytes; // of the message; more than record_bytes: it was too large to be kept
};
