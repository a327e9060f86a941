#include "src/passkey_stems.h"

#include <stdlib.h>
#include <string.h>

// What a sample is sorted by.
struct place {
    int64_t position, length, index, cost;
    char key[PASSKEY_KEY_MOST];
};

static int compare(int64_t a, int64_t b) {
    return (a > b) - (a < b);
}

static bool same_stem(const struct place *a, const struct place *b) {
    return a->position == b->position && strcmp(a->key, b->key) == 0;
}

static int by_stem(const void *left, const void *right) {
    const struct place *a = left;
    const struct place *b = right;
    if (a->position != b->position) return compare(a->position, b->position);
    const int keys = strcmp(a->key, b->key);
    if (keys != 0) return keys;
    if (a->length != b->length) return compare(a->length, b->length);
    return compare(a->index, b->index);
}

static int by_position(const void *left, const void *right) {
    const struct passkey_stem *a = left;
    const struct passkey_stem *b = right;
    if (a->position != b->position) return compare(a->position, b->position);
    if (a->cost != b->cost) return compare(b->cost, a->cost);
    return compare(a->first, b->first);
}

static int by_cost(const void *left, const void *right) {
    const struct passkey_stem *a = left;
    const struct passkey_stem *b = right;
    if (a->cost != b->cost) return compare(b->cost, a->cost);
    return compare(a->first, b->first);
}

static void cut_stems(const struct place *place, int64_t count, bool apart,
                      struct passkey_stems *stems) {
    for (int64_t i = 0; i < count; i++) {
        stems->index[i] = place[i].index;
        if (apart || i == 0 || !same_stem(&place[i], &place[i - 1])) {
            stems->stem[stems->count++] =
                (struct passkey_stem){.first = i, .position = place[i].position};
        }
        struct passkey_stem *stem = &stems->stem[stems->count - 1];
        stem->count++;
        // read once, and each length's question
        stem->cost = place[i].cost > stem->cost ? place[i].cost : stem->cost;
    }
}

enum status passkey_stems_make(const struct passkey_listing *listing, const int64_t *index,
                               int64_t count, bool apart, struct passkey_stems *stems) {
    const size_t room = count > 0 ? (size_t)count : 1;
    struct place *place = calloc(room, sizeof *place);
    *stems = (struct passkey_stems){.index = calloc(room, sizeof *stems->index),
                                    .stem = calloc(room, sizeof *stems->stem),
                                    .samples = count};
    if (place == NULL || stems->index == NULL || stems->stem == NULL) {
        free(place);
        passkey_stems_free(stems);
        return FAIL(NO_MEMORY, "%lld samples", (long long)count);
    }
    for (int64_t i = 0; i < count; i++) {
        struct passkey_sample sample;
        listing->sample(listing, index[i], &sample);
        place[i] = (struct place){.position = sample.position,
                                  .length = sample.length,
                                  .index = index[i],
                                  .cost = passkey_sample_cost(listing->task, &sample)};
        memcpy(place[i].key, sample.key, sizeof place[i].key);
    }
    qsort(place, (size_t)count, sizeof *place, by_stem);
    cut_stems(place, count, apart, stems);
    qsort(stems->stem, (size_t)stems->count, sizeof *stems->stem, by_position);
    free(place);
    return STATUS_OK;
}

// A heap of the groups, the one with least to do at the top; of equal ones the lower number.
static bool before(const int64_t *load, int32_t a, int32_t b) {
    return load[a] != load[b] ? load[a] < load[b] : a < b;
}

static void sink_top(const int64_t *load, int32_t *heap, int32_t groups) {
    int32_t at = 0;
    for (;;) {
        int32_t next = 2 * at + 1;
        if (next >= groups) return;
        if (next + 1 < groups && before(load, heap[next + 1], heap[next])) next++;
        if (!before(load, heap[next], heap[at])) return;
        const int32_t group = heap[at];
        heap[at] = heap[next];
        heap[next] = group;
        at = next;
    }
}

enum status passkey_stems_share(struct passkey_stems *stems, int32_t group, int32_t groups) {
    int64_t *load = calloc((size_t)groups, sizeof *load);
    int32_t *heap = calloc((size_t)groups, sizeof *heap);
    int64_t kept = 0;
    if (load == NULL || heap == NULL) {
        free(load);
        free(heap);
        return FAIL(NO_MEMORY, "%d groups", groups);
    }
    for (int32_t i = 0; i < groups; i++) {
        heap[i] = i;
    }
    qsort(stems->stem, (size_t)stems->count, sizeof *stems->stem, by_cost);
    for (int64_t i = 0; i < stems->count; i++) {
        const int32_t least = heap[0];
        load[least] += stems->stem[i].cost + 1;
        sink_top(load, heap, groups);
        if (least == group) stems->stem[kept++] = stems->stem[i];
    }
    stems->count = kept;
    stems->samples = 0;
    for (int64_t i = 0; i < kept; i++) {
        stems->samples += stems->stem[i].count;
    }
    qsort(stems->stem, (size_t)kept, sizeof *stems->stem, by_position);
    free(load);
    free(heap);
    return STATUS_OK;
}

void passkey_stems_free(struct passkey_stems *stems) {
    free(stems->index);
    free(stems->stem);
    *stems = (struct passkey_stems){0};
}
