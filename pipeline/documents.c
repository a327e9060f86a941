#include "pipeline/documents.h"

#include "ops/backend.h"
#include "ops/base/check.h"
#include "ops/base/room.h"

#include <string.h>

static uint64_t hash_of(int32_t partition, uint64_t serial, const char *id, size_t id_bytes) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)(uint32_t)partition; // FNV-1a
    if (serial != 0) return (hash ^ serial) * UINT64_C(0x9e3779b97f4a7c15) >> 7;
    for (size_t i = 0; i < id_bytes; i++) {
        hash = (hash ^ (unsigned char)id[i]) * UINT64_C(0x100000001b3);
    }
    return hash ^ hash >> 29;
}

static struct document **bucket_of(const struct documents *d, int32_t partition, uint64_t serial,
                                   const char *id, size_t id_bytes) {
    return &d->bucket[hash_of(partition, serial, id, id_bytes) % d->buckets];
}

static struct document *find(const struct documents *d, const struct record *record) {
    struct document *at =
        *bucket_of(d, record->partition, record->serial, record->id, record->id_bytes);
    for (; at != NULL; at = at->next_in_bucket) {
        if (at->partition != record->partition || at->serial != record->serial) continue;
        if (at->dead && at->closed) continue; // only waits for its answers
        if (record->serial != 0) return at;
        if (at->id_bytes == record->id_bytes && memcmp(at->id, record->id, at->id_bytes) == 0) {
            return at;
        }
    }
    return NULL;
}

static enum status grow_table(struct documents *d) {
    const size_t old_buckets = d->buckets;
    struct document **old = d->bucket;
    struct document **grown = calloc(old_buckets * 2, sizeof *grown);
    if (grown == NULL) return FAIL(NO_MEMORY, "table of %zu documents", old_buckets * 2);
    d->bucket = grown;
    d->buckets = old_buckets * 2;
    for (size_t b = 0; b < old_buckets; b++) {
        while (old[b] != NULL) {
            struct document *moved = old[b];
            old[b] = moved->next_in_bucket;
            struct document **to =
                bucket_of(d, moved->partition, moved->serial, moved->id, moved->id_bytes);
            moved->next_in_bucket = *to;
            *to = moved;
        }
    }
    free(old);
    return STATUS_OK;
}

enum status documents_open(struct documents *d, const struct documents_settings *settings) {
    *d = (struct documents){.settings = *settings, .buckets = 1024};
    d->bucket = calloc(d->buckets, sizeof *d->bucket);
    if (d->bucket == NULL) return FAIL(NO_MEMORY, "table of documents");
    return STATUS_OK;
}

// The partition's state, made when its first record comes. Records come partition by partition or
// interleaved over few, so the search from the back is short.
static enum status partition_of(struct documents *d, int32_t index,
                                struct partition_state **found) {
    for (size_t i = d->partition_count; i-- > d->partition_turn;) {
        if (d->partitions[i].index == index) {
            *found = &d->partitions[i];
            return STATUS_OK;
        }
    }
    TRY(room_for((void **)&d->partitions, &d->partition_room, d->partition_count + 1,
                 sizeof *d->partitions));
    *found = &d->partitions[d->partition_count++];
    **found = (struct partition_state){.index = index, .committed_offset = -1};
    return STATUS_OK;
}

static struct partition_state *partition_with(struct documents *d, const struct document *doc) {
    for (size_t i = d->partition_count; i-- > d->partition_turn;) {
        if (d->partitions[i].index == doc->partition) return &d->partitions[i];
    }
    CHECK(false);
    return NULL;
}

// Of memory that waits for the document to leave; its tokens are counted as ready ones.
static int64_t bytes_of(const struct document *doc) {
    return (int64_t)(sizeof *doc + doc->id_bytes + doc->attributes_bytes) +
           tally_bytes(&doc->tally);
}

static enum status add_document(struct documents *d, struct partition_state *partition,
                                const struct record *record, struct document **added) {
    if (d->entries >= d->buckets) TRY(grow_table(d));
    struct document *doc = calloc(1, sizeof *doc);
    char *text = malloc(record->id_bytes + record->attributes_bytes + 1);
    if (doc == NULL || text == NULL) {
        free(doc);
        free(text);
        return FAIL(NO_MEMORY, "a document");
    }
    memcpy(text, record->id, record->id_bytes);
    memcpy(text + record->id_bytes, record->attributes, record->attributes_bytes);
    *doc = (struct document){.key = ++d->last_key,
                             .partition = record->partition,
                             .serial = record->serial,
                             .version = record->version,
                             .id = text,
                             .id_bytes = record->id_bytes,
                             .attributes_bytes = record->attributes_bytes,
                             .first_offset = record->offset,
                             .holder = -1,
                             .listed = true,
                             .before = partition->last};
    tally_begin(&doc->tally, &d->settings.tally);
    struct document **bucket = bucket_of(d, doc->partition, doc->serial, doc->id, doc->id_bytes);
    doc->next_in_bucket = *bucket;
    *bucket = doc;
    d->entries++;
    d->held_bytes += bytes_of(doc);
    if (partition->last != NULL) {
        partition->last->after = doc;
    } else {
        partition->first = doc;
    }
    partition->last = doc;
    *added = doc;
    return STATUS_OK;
}

static void unlist(struct documents *d, struct document *doc) {
    struct partition_state *partition = partition_with(d, doc);
    *(doc->before != NULL ? &doc->before->after : &partition->first) = doc->after;
    *(doc->after != NULL ? &doc->after->before : &partition->last) = doc->before;
    doc->before = doc->after = NULL;
    doc->listed = false;
}

static void remove_from_table(struct documents *d, struct document *doc) {
    struct document **at = bucket_of(d, doc->partition, doc->serial, doc->id, doc->id_bytes);
    while (*at != doc) {
        at = &(*at)->next_in_bucket;
    }
    *at = doc->next_in_bucket;
    d->entries--;
}

static void free_tokens(struct document *doc) {
    free(doc->token);
    doc->token = NULL;
    doc->token_room = 0;
}

static void free_document(struct document *doc) {
    tally_free(&doc->tally);
    free_tokens(doc);
    free(doc->id);
    free(doc);
}

static void touch(struct documents *d, struct document *doc) {
    if (d->settings.ordered || doc->touched) return;
    doc->next_touched = d->touched;
    d->touched = doc;
    doc->touched = true;
}

static void untouch(struct documents *d, struct document *doc) {
    struct document **at = &d->touched;
    if (!doc->touched) return;
    while (*at != doc) {
        at = &(*at)->next_touched;
    }
    *at = doc->next_touched;
    doc->touched = false;
}

void documents_forget(struct documents *d, struct document *doc) {
    if (doc->listed) unlist(d, doc);
    untouch(d, doc);
    remove_from_table(d, doc);
    d->held_bytes -= bytes_of(doc);
    free_document(doc);
}

static void unqueue(struct documents *d, struct document *doc) {
    struct document *before = NULL;
    if (!doc->queued) return;
    for (struct document *at = d->ready_first; at != doc; at = at->next_ready) {
        before = at;
    }
    *(before != NULL ? &before->next_ready : &d->ready_first) = doc->next_ready;
    if (d->ready_last == doc) d->ready_last = before;
    doc->next_ready = NULL;
    doc->queued = false;
    d->ready_documents--;
}

static void enqueue(struct documents *d, struct document *doc) {
    bool closes = false;
    if (doc->queued || doc->dead || document_ready(doc, &closes) == 0) return;
    *(d->ready_last != NULL ? &d->ready_last->next_ready : &d->ready_first) = doc;
    d->ready_last = doc;
    doc->queued = true;
    d->ready_documents++;
}

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

static bool gone_through(const struct document *doc) {
    return doc->answered == doc->planned;
}

// Nothing of the document will leave. What is under way for it still comes back. closed: nor does
// any record of it come any more.
static enum status kill(struct documents *d, struct document *doc, bool closed) {
    bool closes = false;
    d->ready_tokens -= document_ready(doc, &closes);
    unqueue(d, doc);
    untouch(d, doc);
    doc->dead = true;
    doc->closed = doc->closed || closed;
    if (doc->listed) unlist(d, doc);
    d->held_bytes -= tally_bytes(&doc->tally);
    tally_free(&doc->tally);
    free_tokens(doc);
    if (doc->holder >= 0) {
        TRY(room_for((void **)&d->drops, &d->drop_room, d->drop_count + 1, sizeof *d->drops));
        d->drops[d->drop_count++] = (struct state_drop){doc->key, doc->holder};
        doc->holder = -1;
    }
    if (doc->closed && gone_through(doc)) documents_forget(d, doc);
    return STATUS_OK;
}

static enum status kill_bad(struct documents *d, struct document *doc, enum bad_reason reason,
                            bool closed) {
    d->counts.bad[reason]++;
    return kill(d, doc, closed);
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

static int64_t first_foreign_token(const struct documents *d, const struct record *record) {
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
    if (record->first > known) {
        LOG(WARN,
            "document %.*s: a record starts at token %lld, expected %lld; the document is bad",
            (int)doc->id_bytes, doc->id, (long long)record->first, (long long)known);
        return kill_bad(d, doc, BAD_GAP, record->last);
    }
    if (skip >= record->tokens && !(record->last && skip == record->tokens)) {
        d->counts.duplicates++;
        return STATUS_OK;
    }
    const int64_t foreign = first_foreign_token(d, record);
    if (foreign >= 0) {
        LOG(WARN,
            "document %.*s: token %d at position %lld is not in the vocabulary of %d; "
            "the document is bad",
            (int)doc->id_bytes, doc->id, record->token[foreign],
            (long long)(record->first + foreign), d->settings.vocab_size);
        return kill_bad(d, doc, BAD_TOKEN, record->last);
    }
    TRY(add_tokens(d, doc, record->token + skip, record->tokens - skip));
    if (record->text_bytes >= 0 && doc->text_bytes >= 0) {
        doc->text_bytes += record->text_bytes;
    } else {
        doc->text_bytes = -1;
    }
    if (record->last) {
        d->ready_tokens -= document_ready(doc, &closes);
        doc->closed = true;
        d->ready_tokens += document_ready(doc, &closes);
        if (document_done(doc)) touch(d, doc);
    }
    enqueue(d, doc);
    return STATUS_OK;
}

// Something unusable. If it names a document that is open, that one is bad, and nothing more of it
// will come.
static enum status take_fault(struct documents *d, const struct record *record) {
    const bool named = record->serial != 0 || record->id_bytes > 0;
    struct document *doc = named ? find(d, record) : NULL;
    LOG(WARN, "%s", record->fault);
    if (doc == NULL) {
        d->counts.bad[BAD_RECORD]++;
        return STATUS_OK;
    }
    return doc->dead ? kill(d, doc, true) : kill_bad(d, doc, BAD_RECORD, true);
}

enum status documents_remember(struct documents *d, const struct document *doc) {
    const int64_t lead = d->settings.bos >= 0 ? 1 : 0;
    if (doc->serial != 0) return STATUS_OK; // named by its place, which does not come again
    return closed_remember(&partition_with(d, doc)->closed, doc->id, doc->id_bytes, doc->version,
                           doc->known - lead);
}

// Of a document that was finished lately, and nothing beyond its end?
static bool comes_again(const struct partition_state *partition, const struct record *record) {
    if (record->serial != 0) return false;
    const struct closed_document *before =
        closed_find(&partition->closed, record->id, record->id_bytes);
    return before != NULL && (record->version < before->version ||
                              (record->version == before->version &&
                               record->first <= before->tokens - record->tokens));
}

enum status documents_accept(struct documents *d, const struct record *record) {
    struct partition_state *partition = NULL;
    TRY(partition_of(d, record->partition, &partition));
    if (record->kind == RECORD_PARTITION_END) {
        partition->ended = true;
        // no record may have come, and behind the last may lie what is none: marks of transactions
        if (record->offset > partition->next_offset) partition->next_offset = record->offset;
        return STATUS_OK;
    }
    partition->next_offset = record->offset + 1;
    if (record->kind == RECORD_FAULT) return take_fault(d, record);
    struct document *doc = find(d, record);
    if (doc != NULL && record->version < doc->version) {
        d->counts.duplicates++;
        return STATUS_OK;
    }
    if (doc != NULL && record->version > doc->version) {
        if (!doc->dead) d->counts.replaced++;
        TRY(kill(d, doc, true));
        doc = NULL;
    }
    if (doc != NULL && doc->dead) {
        doc->closed = doc->closed || record->last;
        if (doc->closed && gone_through(doc)) documents_forget(d, doc);
        return STATUS_OK;
    }
    if (doc != NULL && doc->closed) { // all known, results on their way
        d->counts.duplicates++;
        return STATUS_OK;
    }
    if (doc == NULL && comes_again(partition, record)) {
        d->counts.duplicates++;
        return STATUS_OK;
    }
    if (doc == NULL) {
        TRY(add_document(d, partition, record, &doc));
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
        free_tokens(doc);
    } else if (doc->token_room > (waiting > CHUNK_TOKENS ? 2 * room : room)) {
        drop_planned(doc);
        (void)!set_token_room(doc, room); // or the larger one stays
    }
}

// Out of the queue in one walk: there may be tens of thousands.
static void unqueue_served(struct documents *d, struct document **served, size_t count) {
    struct document *before = NULL;
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        if (served[i]->queued) left++;
        served[i]->queued = false;
    }
    for (struct document *doc = d->ready_first, *next = NULL; left > 0; doc = next) {
        next = doc->next_ready;
        if (doc->queued) {
            before = doc;
            continue;
        }
        *(before != NULL ? &before->next_ready : &d->ready_first) = next;
        if (d->ready_last == doc) d->ready_last = before;
        doc->next_ready = NULL;
        d->ready_documents--;
        left--;
    }
}

void documents_requeue(struct documents *d, struct document **served, size_t count) {
    unqueue_served(d, served, count);
    for (size_t i = 0; i < count; i++) {
        shrink_tokens(served[i]);
        enqueue(d, served[i]);
    }
}

enum status documents_answer(struct documents *d, struct document *doc, int64_t first,
                             const float *nll, int64_t rows) {
    const int64_t lead = d->settings.bos >= 0 ? 1 : 0;
    CHECK(first == doc->answered);
    doc->answered += rows;
    d->counts.rows += rows;
    if (doc->dead) {
        if (doc->closed && gone_through(doc)) documents_forget(d, doc);
        return STATUS_OK;
    }
    // row i predicts position i + 1; a closed document's last row predicts nothing
    const bool ends = doc->closed && doc->answered == doc->known;
    d->held_bytes -= tally_bytes(&doc->tally);
    TRY(tally_add(&doc->tally, first + 1 - lead, nll, rows - (ends ? 1 : 0)));
    d->held_bytes += tally_bytes(&doc->tally);
    if (!doc->tally.finite) {
        LOG(WARN,
            "document %.*s: the model gives a number that is not finite before position %lld; "
            "the document is bad",
            (int)doc->id_bytes, doc->id, (long long)(doc->answered - lead));
        return kill_bad(d, doc, BAD_NLL, false);
    }
    touch(d, doc);
    return STATUS_OK;
}

int64_t partition_safe_offset(const struct partition_state *partition) {
    return partition->first != NULL ? partition->first->first_offset : partition->next_offset;
}

int64_t documents_open_count(const struct documents *d) {
    int64_t open = 0;
    for (size_t i = 0; i < d->partition_count; i++) {
        for (const struct document *doc = d->partitions[i].first; doc != NULL; doc = doc->after) {
            open += !doc->closed;
        }
    }
    return open;
}

void documents_close(struct documents *d) {
    for (size_t b = 0; b < d->buckets && d->bucket != NULL; b++) {
        while (d->bucket[b] != NULL) {
            struct document *doc = d->bucket[b];
            d->bucket[b] = doc->next_in_bucket;
            free_document(doc);
        }
    }
    for (size_t i = 0; i < d->partition_count; i++) {
        closed_free(&d->partitions[i].closed);
    }
    free(d->bucket);
    free(d->partitions);
    free(d->drops);
    *d = (struct documents){0};
}
