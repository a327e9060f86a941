#include "pipeline/bpe_trie.h"

#include "ops/base/room.h"

static enum status grow(struct trie *trie) {
    const size_t room = trie->edge_room == 0 ? 64 : 2 * trie->edge_room;
    struct trie_edge *edge = calloc(room, sizeof *edge);
    if (edge == NULL) return FAIL(NO_MEMORY, "a tree of %zu edges", room);
    for (size_t i = 0; i < trie->edge_room; i++) {
        if (trie->edge[i].key == 0) continue;
        size_t at = trie_hash(trie->edge[i].key) & (room - 1);
        while (edge[at].key != 0) {
            at = (at + 1) & (room - 1);
        }
        edge[at] = trie->edge[i];
    }
    free(trie->edge);
    trie->edge = edge;
    trie->edge_room = room;
    return STATUS_OK;
}

// Half a gigabyte; GPT-NeoX-20B has 180 thousand.
#define NODES_MOST (1 << 24)

static enum status add_node(struct trie *trie, int32_t *node) {
    void *value = trie->value;
    if (trie->nodes >= NODES_MOST) {
        return FAIL(MISMATCH,
                    "a tokenizer's tokens begin in more than %d ways, which is not supported",
                    NODES_MOST);
    }
    TRY(room_for(&value, &trie->node_room, trie->nodes + 1, sizeof *trie->value));
    trie->value = value;
    trie->value[trie->nodes] = TRIE_NONE;
    *node = (int32_t)trie->nodes++;
    return STATUS_OK;
}

static enum status step_or_add(struct trie *trie, int32_t from, unsigned char byte, int32_t *node) {
    *node = trie_step(trie, from, byte);
    if (*node != TRIE_NONE) return STATUS_OK;
    if (4 * (trie->edges + 1) > 3 * trie->edge_room) TRY(grow(trie));
    TRY(add_node(trie, node));
    if (from == TRIE_NONE) {
        trie->root[byte] = *node;
        return STATUS_OK;
    }
    const uint64_t key = (uint64_t)from * 256 + byte + 1;
    size_t at = trie_hash(key) & (trie->edge_room - 1);
    while (trie->edge[at].key != 0) {
        at = (at + 1) & (trie->edge_room - 1);
    }
    trie->edge[at] = (struct trie_edge){.key = key, .node = *node};
    trie->edges++;
    return STATUS_OK;
}

enum status trie_add(struct trie *trie, const char *text, size_t bytes, bool backwards,
                     int32_t value) {
    int32_t node = TRIE_NONE;
    if (trie->edge_room == 0) {
        TRY(grow(trie));
        for (int i = 0; i < 256; i++) {
            trie->root[i] = TRIE_NONE;
        }
    }
    for (size_t i = 0; i < bytes; i++) {
        const char byte = text[backwards ? bytes - 1 - i : i];
        TRY(step_or_add(trie, node, (unsigned char)byte, &node));
    }
    if (node != TRIE_NONE) trie->value[node] = value;
    return STATUS_OK;
}

void trie_free(struct trie *trie) {
    free(trie->value);
    free(trie->edge);
    *trie = (struct trie){0};
}
