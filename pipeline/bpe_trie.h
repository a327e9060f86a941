#pragma once
// Byte strings as a tree: a step a byte. Edges lie in one hash table.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRIE_NONE (-1)

struct trie_edge {
    uint64_t key; // node * 256 + byte + 1; 0: free
    int32_t node;
};

// Zero it to begin.
struct trie {
    int32_t root[256];
    int32_t *value; // [nodes] of the string that ends here; TRIE_NONE: none does
    size_t nodes, node_room;
    struct trie_edge *edge; // [edge_room], a power of two
    size_t edges, edge_room;
};

// value >= 0. backwards: from the string's last byte to its first. Errors: NO_MEMORY, MISMATCH (too many nodes).
enum status trie_add(struct trie *trie, const char *text, size_t bytes, bool backwards,
                     int32_t value);
void trie_free(struct trie *trie);

static inline uint64_t trie_hash(uint64_t key) {
    return (key * UINT64_C(0x9E3779B97F4A7C15)) >> 20;
}

// From a node, TRIE_NONE: the root, on. Returns TRIE_NONE where no string goes on so.
static inline int32_t trie_step(const struct trie *trie, int32_t node, unsigned char byte) {
    if (node == TRIE_NONE) return trie->root[byte];
    const uint64_t key = (uint64_t)node * 256 + byte + 1;
    const size_t mask = trie->edge_room - 1;
    for (size_t i = trie_hash(key) & mask;; i = (i + 1) & mask) {
        if (trie->edge[i].key == key) return trie->edge[i].node;
        if (trie->edge[i].key == 0) return TRIE_NONE;
    }
}
