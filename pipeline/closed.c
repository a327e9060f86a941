// A ring of documents, and a hash table of places in it.
#include "pipeline/closed.h"

#include "ops/base/hash.h"
#include "ops/base/room.h"

#include <string.h>

static int32_t *bucket_of(const struct closed *closed, const char *id, size_t id_bytes) {
    return &closed->bucket[hash_bytes(id, id_bytes) % CLOSED_MOST];
}

static enum status open_table(struct closed *closed) {
    closed->bucket = malloc(CLOSED_MOST * sizeof *closed->bucket);
    if (closed->bucket == NULL) return FAIL(NO_MEMORY, "table of finished documents");
    for (int64_t i = 0; i < CLOSED_MOST; i++) {
        closed->bucket[i] = -1;
    }
    return STATUS_OK;
}

// Buckets list the newest first, so the oldest of all is the last of its bucket.
static void forget_oldest(struct closed *closed, int32_t place) {
    struct closed_document *oldest = &closed->document[place];
    int32_t *at = bucket_of(closed, oldest->id, oldest->id_bytes);
    while (*at != place) {
        at = &closed->document[*at].next;
    }
    *at = -1;
    free(oldest->id);
}

enum status closed_remember(struct closed *closed, const char *id, size_t id_bytes,
                            uint64_t version, int64_t tokens) {
    const int32_t place = (int32_t)(closed->count % CLOSED_MOST);
    void *documents = closed->document;
    if (closed->bucket == NULL) TRY(open_table(closed));
    TRY(room_for(&documents, &closed->room, (size_t)place + 1, sizeof *closed->document));
    closed->document = documents;
    char *copy = malloc(id_bytes + 1);
    if (copy == NULL) return FAIL(NO_MEMORY, "an id of %zu bytes", id_bytes);
    memcpy(copy, id, id_bytes);
    if (closed->count >= CLOSED_MOST) forget_oldest(closed, place);
    int32_t *bucket = bucket_of(closed, id, id_bytes);
    closed->document[place] = (struct closed_document){
        .id = copy, .id_bytes = id_bytes, .version = version, .tokens = tokens, .next = *bucket};
    *bucket = place;
    closed->count++;
    return STATUS_OK;
}

// The next one of this id, from place `at` on.
static int32_t next_of(const struct closed *closed, int32_t at, const char *id, size_t id_bytes) {
    for (; at >= 0; at = closed->document[at].next) {
        const struct closed_document *document = &closed->document[at];
        if (document->id_bytes == id_bytes && memcmp(document->id, id, id_bytes) == 0) break;
    }
    return at;
}

static int32_t first_of(const struct closed *closed, const char *id, size_t id_bytes) {
    if (closed->bucket == NULL) return -1;
    return next_of(closed, *bucket_of(closed, id, id_bytes), id, id_bytes);
}

struct closed_document *closed_find(const struct closed *closed, const char *id, size_t id_bytes) {
    int32_t at = first_of(closed, id, id_bytes);
    while (at >= 0 && closed->document[at].revived) {
        at = next_of(closed, closed->document[at].next, id, id_bytes);
    }
    return at < 0 ? NULL : &closed->document[at];
}

int64_t closed_length(const struct closed *closed, const char *id, size_t id_bytes) {
    int32_t at = first_of(closed, id, id_bytes);
    while (at >= 0 && closed->document[at].tokens == CLOSED_DEAD) {
        at = next_of(closed, closed->document[at].next, id, id_bytes);
    }
    return at < 0 ? -1 : closed->document[at].tokens;
}

void closed_free(struct closed *closed) {
    const int64_t kept = closed->count < CLOSED_MOST ? closed->count : CLOSED_MOST;
    for (int64_t i = 0; i < kept; i++) {
        free(closed->document[i].id);
    }
    free(closed->document);
    free(closed->bucket);
    *closed = (struct closed){0};
}
