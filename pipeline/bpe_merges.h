#pragma once
// The merges of byte pair encoding: which two tokens become which one, and which pair goes first.

#include "ops/base/status.h"

#include <stddef.h>
#include <stdint.h>

#define MERGE_NONE INT32_MAX

struct merge {
    uint64_t pair;      // left << 32 | right, one added; 0: free
    int32_t rank, made; // a lower rank goes first
};

// Zero it to begin.
struct merges {
    struct merge *merge; // [room], a power of two
    size_t count, room;
};

// Of a pair that is there already the later rank counts, as it does for Hugging Face.
// Errors: NO_MEMORY.
enum status merges_add(struct merges *merges, int32_t left, int32_t right, int32_t rank,
                       int32_t made);
void merges_free(struct merges *merges);
// Merges token[0, count) in place until no pair is left to merge: again and again the pair of the
// lowest rank, of equal ones the leftmost. rank: [count] to work in. Returns how many are left.
size_t merges_run(const struct merges *merges, int32_t *token, int32_t *rank, size_t count);
