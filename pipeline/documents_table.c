// Where documents are found and the lists they stand in: the table by name, their partitions, the
// ready queue, and those of which something may leave.
#include "ops/base/check.h"
#include "ops/base/room.h"
#include "pipeline/documents_inner.h"

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

struct document *documents_find(const struct documents *d, const struct record *record) {
    struct document *at =
        *bucket_of(d, record->partition, record->serial, record->id, record->id_bytes);
    for (; at != NULL; at = at->next_in_bucket) {
        if (at->partition != record->partition || at->serial != record->serial) continue;
        if (at->dead) continue;
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
    *d = (struct documents){
        .work.table = &documents_work_table, .settings = *settings, .buckets = 1024};
    d->bucket = calloc(d->buckets, sizeof *d->bucket);
    if (d->bucket == NULL) return FAIL(NO_MEMORY, "table of documents");
    return STATUS_OK;
}

// Records come partition by partition or interleaved over few, so the search from the back is short.
static struct partition_state *find_partition(const struct documents *d, int32_t index) {
    for (size_t i = d->partition_count; i-- > d->partition_turn;) {
        if (d->partitions[i].index == index) return &d->partitions[i];
    }
    return NULL;
}

bool documents_know_partition(const struct documents *d, int32_t partition) {
    return find_partition(d, partition) != NULL;
}

enum status documents_partition(struct documents *d, int32_t index,
                                struct partition_state **found) {
    *found = find_partition(d, index);
    if (*found != NULL) return STATUS_OK;
    TRY(room_for((void **)&d->partitions, &d->partition_room, d->partition_count + 1,
                 sizeof *d->partitions));
    *found = &d->partitions[d->partition_count++];
    **found = (struct partition_state){.index = index, .committed_offset = -1};
    return STATUS_OK;
}

struct partition_state *documents_partition_with(struct documents *d, const struct document *doc) {
    struct partition_state *partition = find_partition(d, doc->partition);
    CHECK(partition != NULL);
    return partition;
}

enum status documents_resume(struct documents *d, int32_t partition, int64_t settled_offset) {
    struct partition_state *state = NULL;
    TRY(documents_partition(d, partition, &state));
    state->settled_offset = settled_offset;
    return STATUS_OK;
}

// Of memory that waits for the document to leave; its tokens are counted as ready ones.
static int64_t bytes_of(const struct document *doc) {
    return (int64_t)(sizeof *doc + doc->id_bytes + doc->attributes_bytes) +
           tally_bytes(&doc->tally);
}

static struct document **ready_place(const struct documents *d, size_t i) {
    return &d->ready[(d->ready_begin + i) & (d->ready_room - 1)];
}

// Room for one more than there are documents.
static enum status grow_ready(struct documents *d) {
    const size_t room = d->ready_room == 0 ? 1024 : 2 * d->ready_room;
    struct document **grown = malloc(room * sizeof *grown);
    if (grown == NULL) return FAIL(NO_MEMORY, "queue of %zu documents", room);
    for (size_t i = 0; i < (size_t)d->ready_documents; i++) {
        grown[i] = *ready_place(d, i);
    }
    free(d->ready);
    d->ready = grown;
    d->ready_begin = 0;
    d->ready_room = room;
    return STATUS_OK;
}

enum status documents_add(struct documents *d, struct partition_state *partition,
                          const struct record *record, struct document **added) {
    if (d->entries >= d->buckets) TRY(grow_table(d));
    if (d->entries >= d->ready_room) TRY(grow_ready(d));
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
                             .time_ms = -1,
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

void documents_unlist(struct documents *d, struct document *doc) {
    struct partition_state *partition = documents_partition_with(d, doc);
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

void document_free_tokens(struct document *doc) {
    free(doc->token);
    doc->token = NULL;
    doc->token_room = 0;
}

static void free_document(struct document *doc) {
    tally_free(&doc->tally);
    document_free_tokens(doc);
    free(doc->id);
    free(doc);
}

void documents_touch(struct documents *d, struct document *doc) {
    if (d->settings.ordered || doc->touched) return;
    doc->next_touched = d->touched;
    d->touched = doc;
    doc->touched = true;
}

void documents_untouch(struct documents *d, struct document *doc) {
    struct document **at = &d->touched;
    if (!doc->touched) return;
    while (*at != doc) {
        at = &(*at)->next_touched;
    }
    *at = doc->next_touched;
    doc->touched = false;
}

void documents_forget(struct documents *d, struct document *doc) {
    if (doc->listed) documents_unlist(d, doc);
    documents_untouch(d, doc);
    remove_from_table(d, doc);
    d->held_bytes -= bytes_of(doc);
    free_document(doc);
}

void documents_unqueue(struct documents *d, struct document *doc) {
    size_t i = 0;
    if (!doc->queued) return;
    while (*ready_place(d, i) != doc) {
        i++;
    }
    doc->queued = false;
    d->ready_documents--;
    for (; i < (size_t)d->ready_documents; i++) {
        *ready_place(d, i) = *ready_place(d, i + 1);
    }
}

void documents_enqueue(struct documents *d, struct document *doc) {
    bool closes = false;
    if (doc->queued || doc->dead || document_ready(doc, &closes) == 0) return;
    *ready_place(d, (size_t)d->ready_documents++) = doc;
    doc->queued = true;
}

// Those served stand near the front: the few that wait among them move up to the others behind.
void documents_unqueue_served(struct documents *d, struct document **served, size_t count) {
    size_t left = 0, end = 0;
    for (size_t i = 0; i < count; i++) {
        if (served[i]->queued) left++;
        served[i]->queued = false;
    }
    d->ready_documents -= (int64_t)left;
    for (; left > 0; end++) {
        if (!(*ready_place(d, end))->queued) left--;
    }
    size_t to = end;
    while (end-- > 0) {
        struct document *doc = *ready_place(d, end);
        if (doc->queued) *ready_place(d, --to) = doc;
    }
    d->ready_begin = (d->ready_begin + to) & (d->ready_room - 1);
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
    while (d->withdrawn != NULL) {
        struct withdrawal *next = d->withdrawn->next;
        free(d->withdrawn);
        d->withdrawn = next;
    }
    letters_free(&d->letters);
    free(d->bucket);
    free(d->ready);
    free(d->partitions);
    free(d->work.drops);
    free(d->served);
    *d = (struct documents){0};
}
