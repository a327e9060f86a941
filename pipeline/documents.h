#pragma once
// The leader's open documents: records come in, tokens wait, spans go out to plans, NLLs come
// back, results leave. Everything about one document is here; nothing about ranks but where its
// state lies. Thread: the leader only.
//
//   1. Tokens of a document are known without holes: [0, known). planned <= known were given to
//      plans, answered <= planned have come back.
//   2. A chunk is ready when it is full and the token after it is known (its last row predicts
//      that token), or when the document is closed.
//   3. A document leaves when it is closed and all answered, or when it is found bad (dead); a dead
//      one's id is remembered until its last record or a higher version, so that the rest of it is
//      swallowed (pipeline/closed.h).

#include "pipeline/closed.h"
#include "pipeline/letters.h"
#include "pipeline/record.h"
#include "pipeline/source.h"
#include "pipeline/steps.h"
#include "pipeline/tally.h"

enum bad_reason { BAD_RECORD, BAD_GAP, BAD_TOKEN, BAD_NLL, BAD_FILE, BAD_REASONS };
// "record", "gap", ...: as summaries and dead letters have it.
const char *bad_reason_key(enum bad_reason reason);

struct document {
    int32_t partition;
    uint64_t serial, version;
    char *id; // followed by the attributes in the same block
    size_t id_bytes, attributes_bytes;
    int64_t first_offset; // of its first record in its partition
    int64_t text_bytes;   // so far; -1: unknown
    int64_t time_ms;      // of the newest record; -1: unknown
    int64_t last_offset;  // of the last record taken in
    int32_t *token;       // positions [token_base, known)
    size_t token_room;
    int64_t token_base;
    uint64_t key; // names it among all of this leader's, and its state on the ranks
    int64_t known, planned, answered;
    int32_t holder; // the rank that holds its state, or will after the steps already sent; -1: none
    bool closed, dead; // dead: it only waits for what is under way
    bool truncated;    // closed by us, not by its last record
    bool listed;       // in its partition's list
    bool queued;       // in the ready queue
    bool touched;      // something of it may leave, see documents_emit
    struct tally tally;
    struct document *before, *after; // of the partition, in the order of their first records
    struct document *next_touched, *next_in_bucket;
};

struct partition_state {
    int32_t index;
    bool ended, finished;
    int64_t next_offset;      // the first record not yet taken in
    int64_t committed_offset; // what the source was last told; -1: nothing
    int64_t settled_offset;   // the run before had taken in what lies before it
    uint64_t dead_serial;     // names the document whose rest is swallowed; 0: none
    struct document *first, *last;
    struct closed closed; // streams only: files may repeat ids
};

struct documents_settings {
    int32_t vocab_size;
    int32_t bos;           // token that is put before every document, or -1
    bool ordered;          // results leave in the order of the input (files)
    bool letters;          // somebody wants dead letters
    struct source *source; // borrowed, for the names of its partitions; NULL: they have none
    struct tally_settings tally;
};

struct documents_counts {
    int64_t documents; // finished, good
    int64_t tokens, scored, text_bytes;
    double nll;
    double text_nll; // of the documents whose bytes of text are known
    int64_t bad[BAD_REASONS];
    int64_t rows;       // tokens that went through the model, of open documents too
    int64_t open;       // not closed when the input ended
    int64_t duplicates; // records
    int64_t replaced;   // documents, by a higher version
    int64_t swallowed;  // records of documents that were bad already
    int64_t settled;    // records of documents that the run before had finished
    int64_t truncated;  // documents that were closed by us
};

struct documents {
    struct work work; // first: the steps give it back to us
    struct documents_settings settings;
    struct documents_counts counts;
    struct partition_state *partitions; // in the order of their first records
    size_t partition_count, partition_room;
    size_t partition_turn; // ordered: the one whose results may leave
    struct document **bucket;
    size_t buckets, entries;
    // The ready queue is a ring, so that thousands of documents can be fetched at once for a plan: the
    // i-th is ready[(ready_begin + i) % ready_room]. It has room for every document there is.
    struct document **ready;
    size_t ready_begin, ready_room; // the room is a power of two
    struct document *touched;       // not ordered: those whose results may leave
    int64_t ready_documents, ready_tokens;
    int64_t held_bytes; // by documents and what has come back of them, without tokens that wait
    struct document **served; // of the plan that is being sent
    size_t served_room;
    struct withdrawal *withdrawn; // retractions that the sink has yet to be given
    struct letters letters;
    uint64_t last_key;
    int64_t handed_over; // pieces, scores and retractions given to the sink
};

extern const struct work_table documents_work_table; // documents as the steps take them

enum status documents_open(struct documents *documents, const struct documents_settings *settings);
// Tell of a partition before its first record: a run before this one had taken in all before
// settled_offset, and whatever began before this one's first record is in its results.
enum status documents_resume(struct documents *documents, int32_t partition,
                             int64_t settled_offset);
bool documents_know_partition(const struct documents *documents, int32_t partition);
// Borrows the record. Errors: NO_MEMORY. A record that cannot be used makes its document bad.
enum status documents_accept(struct documents *documents, const struct record *record);
// Tokens of the document that can run now; closes: they end it.
int64_t document_ready(const struct document *document, bool *closes);
// The i-th of the ready queue; NULL: there are no more than i.
static inline struct document *documents_ready_at(const struct documents *documents, int64_t i) {
    if (i >= documents->ready_documents) return NULL;
    return documents->ready[(documents->ready_begin + (size_t)i) & (documents->ready_room - 1)];
}
// The tokens at [first, first + count) and the one after (-1: none) are in a plan now.
// first == document->planned. token: [count], to be filled.
void documents_take(struct documents *documents, struct document *document, int64_t count,
                    int32_t *token, int32_t *lookahead);
// Those served go behind those who still wait. Call once a plan, after its takes.
void documents_requeue(struct documents *documents, struct document **served, size_t count);
// NLLs of rows [first, first + rows) have come back, in order.
enum status documents_answer(struct documents *documents, struct document *document, int64_t first,
                             const float *nll, int64_t rows);
// Closed, and everything it predicts is there.
bool document_done(const struct document *document);
// Records of it that come again are duplicates. Call when its score is handed over.
enum status documents_remember(struct documents *documents, const struct document *document);
// The document leaves every list and is freed.
void documents_forget(struct documents *documents, struct document *document);
// Give the sink what can leave (pipeline/emit.c). Errors: the sink's.
enum status documents_emit(struct documents *documents, struct sink *sink);
// Every record before this offset of the partition is in results handed over.
int64_t partition_safe_offset(const struct partition_state *partition);
// What is open ends here, though its last record never came.
void documents_close_open(struct documents *documents);
// Documents still open; call when the input has ended.
int64_t documents_open_count(const struct documents *documents);
void documents_close(struct documents *documents);
