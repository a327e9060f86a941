// What records and answers do to documents.
#include "pipeline/documents.h"

#include "ops/backend.h"
#include "ops/base/check.h"
#include "ops/base/room.h"
#include "pipeline/documents_inner.h"

#include <stdio.h>
#include <string.h>

int64_t document_ready(const struct document *doc, bool *closes) {
    const int64_t waiting = doc->known - doc->planned;
    *closes = doc->closed;
    if (doc->dead || waiting == 0) return 0;
    // a document of one token predicts nothing and never runs
    if (doc->closed) return doc->known == 1 ? 0 : waiting;
    return (waiting - 1) / CHUNK_TOKENS * CHUNK_TOKENS;
}

bool document_done(const struct document *doc) {
    return doc->closed && !doc->dead && (doc->answered == doc->known || doc->known <= 1);
}

// Tokens in plans are let go.
static void drop_planned(struct document *doc) {
    const int64_t planned = doc->planned - doc->token_base;
    const int64_t waiting = doc->known - doc->planned;
    if (planned == 0) return;
    memmove(doc->token, doc->token + planned, (size_t)waiting * sizeof *doc->token);
    doc->token_base = doc->planned;
}

// A buffer's size: an eighth more than needed, so that many small records do not move it each, and
// no more, since there may be very many open documents.
static size_t token_room_for(size_t tokens) {
    return (tokens + tokens / 8 + 15) / 16 * 16;
}

static enum status set_token_room(struct document *doc, size_t room) {
    int32_t *token = realloc(doc->token, room * sizeof *token);
    if (token == NULL) return FAIL(NO_MEMORY, "%zu waiting tokens of a document", room);
    doc->token = token;
    doc->token_room = room;
    return STATUS_OK;
}

static enum status add_tokens(struct documents *d, struct document *doc, const int32_t *token,
                              int64_t tokens) {
    bool closes = false;
    const int64_t ready = document_ready(doc, &closes);
    if (doc->known - doc->token_base + tokens > (int64_t)doc->token_room) {
        drop_planned(doc);
        const size_t room = token_room_for((size_t)(doc->known - doc->planned + tokens));
        if (room > doc->token_room) TRY(set_token_room(doc, room));
    }
    if (tokens > 0) {
        memcpy(doc->token + (doc->known - doc->token_base), token, (size_t)tokens * sizeof *token);
    }
    doc->known += tokens;
    d->ready_tokens += document_ready(doc, &closes) - ready;
    return STATUS_OK;
}

// -1: none. Whether there is one at all is found out without branches: the sign of any of these.
static int64_t first_foreign_token(const struct documents *d, const struct record *record) {
    const uint32_t last = (uint32_t)d->settings.vocab_size - 1;
    uint32_t foreign = 0;
    for (int64_t i = 0; i < record->tokens; i++) {
        const uint32_t token = (uint32_t)record->token[i];
        foreign |= token | (last - token);
    }
    if (foreign >> 31 == 0) return -1;
    for (int64_t i = 0; i < record->tokens; i++) {
        if (record->token[i] < 0 || record->token[i] >= d->settings.vocab_size) return i;
    }
    return -1;
}

static enum status take_in(struct documents *d, struct document *doc, const struct record *record) {
    const int64_t lead = d->settings.bos >= 0 ? 1 : 0;
    const int64_t known = doc->known - lead;
    const int64_t skip = known - record->first;
    bool closes = false;
    char words[128];
    if (record->first > known) {
        snprintf(words, sizeof words,
                 "a record starts at token %lld, expected %lld; the document is bad",
                 (long long)record->first, (long long)known);
        return documents_bad_record(d, doc, record, BAD_GAP, words);
    }
    if (skip >= record->tokens && !(record->last && skip == record->tokens)) {
        d->counts.duplicates++;
        return STATUS_OK;
    }
    const int64_t foreign = first_foreign_token(d, record);
    if (foreign >= 0) {
        snprintf(words, sizeof words,
                 "token %d at position %lld is not in the vocabulary of %d; the document is bad",
                 record->token[foreign], (long long)(record->first + foreign),
                 d->settings.vocab_size);
        return documents_bad_record(d, doc, record, BAD_TOKEN, words);
    }
    TRY(add_tokens(d, doc, record->token + skip, record->tokens - skip));
    doc->last_offset = record->offset;
    if (record->time_ms > doc->time_ms) doc->time_ms = record->time_ms;
    if (record->text_bytes >= 0 && doc->text_bytes >= 0) {
        doc->text_bytes += record->text_bytes;
    } else {
        doc->text_bytes = -1;
    }
    if (record->last) {
        d->ready_tokens -= document_ready(doc, &closes);
        doc->closed = true;
        d->ready_tokens += document_ready(doc, &closes);
        if (document_done(doc)) documents_touch(d, doc);
    }
    documents_enqueue(d, doc);
    return STATUS_OK;
}

enum status documents_remember(struct documents *d, const struct document *doc) {
    const int64_t lead = d->settings.bos >= 0 ? 1 : 0;
    if (doc->serial != 0) return STATUS_OK; // named by its place, which does not come again
    return closed_remember(&documents_partition_with(d, doc)->closed, doc->id, doc->id_bytes,
                           doc->version, doc->known - lead);
}

struct finished {
    bool found;
    uint64_t version;
    int64_t end; // its tokens
};

// The document of the record's id that is all known, or has left lately.
static struct finished finished_of(const struct documents *d,
                                   const struct partition_state *partition,
                                   const struct document *doc, const struct record *record) {
    const int64_t lead = d->settings.bos >= 0 ? 1 : 0;
    if (doc != NULL && doc->closed) return (struct finished){true, doc->version, doc->known - lead};
    if (doc != NULL || record->serial != 0) return (struct finished){.found = false};
    const struct closed_document *before =
        closed_find(&partition->closed, record->id, record->id_bytes);
    if (before == NULL || before->tokens == CLOSED_DEAD) return (struct finished){.found = false};
    return (struct finished){true, before->version, before->tokens};
}

// The same id and version, and more text than there was: not to be told from a mistake.
static enum status behind_the_end(struct documents *d, const struct record *record, int64_t end) {
    char words[160];
    snprintf(words, sizeof words,
             "a record goes on to token %lld of a document that ended at %lld; a text that changed "
             "needs a higher version",
             (long long)(record->first + record->tokens), (long long)end);
    return documents_bad_record(d, NULL, record, BAD_RECORD, words);
}

// Of a document that the run before had finished with, though not with all before it: the records
// that began it are not read again.
static bool is_settled(const struct partition_state *partition, const struct record *record) {
    return record->serial == 0 && record->first > 0 && record->offset < partition->settled_offset;
}

enum status documents_accept(struct documents *d, const struct record *record) {
    struct partition_state *partition = NULL;
    TRY(documents_partition(d, record->partition, &partition));
    if (record->kind == RECORD_PARTITION_END) {
        partition->ended = true;
        // no record may have come, and behind the last may lie what is none: marks of transactions
        if (record->offset > partition->next_offset) partition->next_offset = record->offset;
        return STATUS_OK;
    }
    partition->next_offset = record->offset + 1;
    if (record->kind == RECORD_FAULT) return documents_fault(d, partition, record);
    if (documents_swallow(d, partition, record)) return STATUS_OK;
    struct document *doc = documents_find(d, record);
    if (doc != NULL && record->version < doc->version) {
        d->counts.duplicates++;
        return STATUS_OK;
    }
    if (doc != NULL && record->version > doc->version) {
        d->counts.replaced++;
        TRY(documents_kill(d, doc));
        doc = NULL;
    }
    const struct finished finished = finished_of(d, partition, doc, record);
    if (finished.found && record->version <= finished.version) {
        if (record->version == finished.version && record->first > finished.end - record->tokens) {
            return behind_the_end(d, record, finished.end);
        }
        d->counts.duplicates++;
        return STATUS_OK;
    }
    if (doc == NULL && is_settled(partition, record)) {
        d->counts.settled++;
        return STATUS_OK;
    }
    if (doc == NULL) {
        TRY(documents_add(d, partition, record, &doc));
        if (d->settings.bos >= 0) TRY(add_tokens(d, doc, &d->settings.bos, 1));
    }
    return take_in(d, doc, record);
}

void documents_take(struct documents *d, struct document *doc, int64_t count, int32_t *token,
                    int32_t *lookahead) {
    bool closes = false;
    d->ready_tokens -= document_ready(doc, &closes);
    const int32_t *from = doc->token + (doc->planned - doc->token_base);
    memcpy(token, from, (size_t)count * sizeof *token);
    doc->planned += count;
    *lookahead = doc->planned < doc->known ? from[count] : -1;
    d->ready_tokens += document_ready(doc, &closes);
}

// Between plans an open document holds its open chunk and little more; one that has more to run
// keeps its buffer unless most of it is empty.
static void shrink_tokens(struct document *doc) {
    const int64_t waiting = doc->known - doc->planned;
    const size_t room = token_room_for((size_t)waiting);
    if (waiting == 0) {
        drop_planned(doc);
        document_free_tokens(doc);
    } else if (doc->token_room > (waiting > CHUNK_TOKENS ? 2 * room : room)) {
        drop_planned(doc);
        (void)!set_token_room(doc, room); // or the larger one stays
    }
}

void documents_requeue(struct documents *d, struct document **served, size_t count) {
    documents_unqueue_served(d, served, count);
    for (size_t i = 0; i < count; i++) {
        shrink_tokens(served[i]);
        documents_enqueue(d, served[i]);
    }
}

enum status documents_answer(struct documents *d, struct document *doc, int64_t first,
                             const float *nll, int64_t rows) {
    const int64_t lead = d->settings.bos >= 0 ? 1 : 0;
    CHECK(first == doc->answered);
    doc->answered += rows;
    d->counts.rows += rows;
    if (doc->dead) {
        if (doc->answered == doc->planned) documents_forget(d, doc);
        return STATUS_OK;
    }
    // row i predicts position i + 1; a closed document's last row predicts nothing
    const bool ends = doc->closed && doc->answered == doc->known;
    d->held_bytes -= tally_bytes(&doc->tally);
    TRY(tally_add(&doc->tally, first + 1 - lead, nll, rows - (ends ? 1 : 0)));
    d->held_bytes += tally_bytes(&doc->tally);
    if (!doc->tally.finite) return documents_bad_nll(d, doc);
    documents_touch(d, doc);
    return STATUS_OK;
}

void documents_close_open(struct documents *d) {
    for (size_t i = 0; i < d->partition_count; i++) {
        for (struct document *doc = d->partitions[i].first; doc != NULL; doc = doc->after) {
            bool closes = false;
            if (doc->closed) continue;
            d->ready_tokens -= document_ready(doc, &closes);
            doc->closed = doc->truncated = true;
            d->ready_tokens += document_ready(doc, &closes);
            d->counts.truncated++;
            if (document_done(doc)) documents_touch(d, doc);
            documents_enqueue(d, doc);
        }
    }
}

int64_t partition_safe_offset(const struct partition_state *partition) {
    return partition->first != NULL ? partition->first->first_offset : partition->next_offset;
}
