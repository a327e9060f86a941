#include "pipeline/bpe_merges.h"

#include <stdlib.h>
#include <string.h>

static uint64_t key_of(int32_t left, int32_t right) {
    return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
}

static size_t place_of(const struct merges *merges, uint64_t key) {
    const size_t mask = merges->room - 1;
    size_t at = (size_t)((key * UINT64_C(0x9E3779B97F4A7C15)) >> 24) & mask;
    while (merges->merge[at].pair != key && merges->merge[at].pair != 0) {
        at = (at + 1) & mask;
    }
    return at;
}

static const struct merge *find(const struct merges *merges, int32_t left, int32_t right) {
    if (merges->room == 0) return NULL;
    const struct merge *merge = &merges->merge[place_of(merges, key_of(left, right))];
    return merge->pair == 0 ? NULL : merge;
}

static enum status grow(struct merges *merges) {
    struct merges grown = {.count = merges->count,
                           .room = merges->room == 0 ? 64 : 2 * merges->room};
    grown.merge = calloc(grown.room, sizeof *grown.merge);
    if (grown.merge == NULL) return FAIL(NO_MEMORY, "%zu merges", grown.room);
    for (size_t i = 0; i < merges->room; i++) {
        const struct merge *merge = &merges->merge[i];
        if (merge->pair != 0) grown.merge[place_of(&grown, merge->pair)] = *merge;
    }
    free(merges->merge);
    *merges = grown;
    return STATUS_OK;
}

enum status merges_add(struct merges *merges, int32_t left, int32_t right, int32_t rank,
                       int32_t made) {
    if (2 * (merges->count + 1) > merges->room) TRY(grow(merges));
    struct merge *merge = &merges->merge[place_of(merges, key_of(left, right))];
    merges->count += merge->pair == 0;
    *merge = (struct merge){.pair = key_of(left, right), .rank = rank, .made = made};
    return STATUS_OK;
}

void merges_free(struct merges *merges) {
    free(merges->merge);
    *merges = (struct merges){0};
}

static int32_t rank_of(const struct merges *merges, const int32_t *token, size_t at) {
    const struct merge *merge = find(merges, token[at], token[at + 1]);
    return merge == NULL ? MERGE_NONE : merge->rank;
}

size_t merges_run(const struct merges *merges, int32_t *token, int32_t *rank, size_t count) {
    for (size_t i = 0; i + 1 < count; i++) {
        rank[i] = rank_of(merges, token, i);
    }
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++) {
            if (rank[i] < rank[best]) best = i;
        }
        if (rank[best] == MERGE_NONE) break;
        token[best] = find(merges, token[best], token[best + 1])->made;
        count--;
        memmove(token + best + 1, token + best + 2, (count - best - 1) * sizeof *token);
        if (best + 1 < count) {
            memmove(rank + best + 1, rank + best + 2, (count - best - 2) * sizeof *rank);
            rank[best] = rank_of(merges, token, best);
        }
        if (best > 0) rank[best - 1] = rank_of(merges, token, best - 1);
    }
    return count;
}
