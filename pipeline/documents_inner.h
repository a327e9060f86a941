#pragma once
// What documents.c knows of documents_table.c.

#include "pipeline/documents.h"

// A retraction that waits for its turn.
struct withdrawal {
    struct withdrawal *next;
    struct retraction retraction; // its id lies in the same block
};

// What went out of the document ahead of its score is to be taken back. Errors: NO_MEMORY.
enum status documents_withdraw(struct documents *documents, const struct document *document);
// Nothing of the document will leave; what went out is withdrawn. It goes once what is under way
// for it has come back, which may be now. Errors: NO_MEMORY.
enum status documents_kill(struct documents *documents, struct document *document);
// This record cannot be used, so its document (NULL: it has none yet) is dead. Errors: NO_MEMORY.
enum status documents_bad_record(struct documents *documents, struct document *document,
                                 const struct record *record, enum bad_reason reason,
                                 const char *words);
enum status documents_bad_nll(struct documents *documents, struct document *document);
// Of a RECORD_FAULT. Errors: NO_MEMORY.
enum status documents_fault(struct documents *documents, struct partition_state *partition,
                            const struct record *record);
// Does it belong to a document that is dead? Then it is counted, and of no use.
bool documents_swallow(struct documents *documents, struct partition_state *partition,
                       const struct record *record);
// The open document that a record belongs to; NULL: none.
struct document *documents_find(const struct documents *documents, const struct record *record);
// A new one, in the table and at the end of its partition's list. Errors: NO_MEMORY.
enum status documents_add(struct documents *documents, struct partition_state *partition,
                          const struct record *record, struct document **added);
// The partition's state, made when its first record comes. Errors: NO_MEMORY.
enum status documents_partition(struct documents *documents, int32_t index,
                                struct partition_state **found);
// That of a document at hand.
struct partition_state *documents_partition_with(struct documents *documents,
                                                 const struct document *document);
// Out of its partition's list.
void documents_unlist(struct documents *documents, struct document *document);
// Something of it may leave, or nothing will.
void documents_touch(struct documents *documents, struct document *document);
void documents_untouch(struct documents *documents, struct document *document);
// Into the ready queue, if it has something ready and is not there yet; and out of it.
void documents_enqueue(struct documents *documents, struct document *document);
void documents_unqueue(struct documents *documents, struct document *document);
void documents_unqueue_served(struct documents *documents, struct document **served, size_t count);
void document_free_tokens(struct document *document);
