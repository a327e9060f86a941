#pragma once
// Token ids that wait to be taken, first in, first out.

#include "ops/base/room.h"

#include <string.h>

// Zero it to begin; what waits is token[at, count).
struct token_queue {
    int32_t *token;
    size_t room, at, count;
};

// Room for `more` behind token[count]. Errors: NO_MEMORY.
static inline enum status token_queue_room(struct token_queue *queue, size_t more) {
    void *token = queue->token;
    if (queue->count + more <= queue->room) return STATUS_OK;
    TRY(room_for(&token, &queue->room, queue->count + more, sizeof *queue->token));
    queue->token = token;
    return STATUS_OK;
}

static inline enum status token_queue_put(struct token_queue *queue, const int32_t *token,
                                          size_t count) {
    TRY(token_queue_room(queue, count));
    memcpy(queue->token + queue->count, token, count * sizeof *token);
    queue->count += count;
    return STATUS_OK;
}

// Moves as many as there are, at most `most`, to token. Returns how many.
static inline size_t token_queue_take(struct token_queue *queue, int32_t *token, size_t most) {
    const size_t have = queue->count - queue->at, count = have < most ? have : most;
    if (count > 0) memcpy(token, queue->token + queue->at, count * sizeof *token);
    queue->at += count;
    if (queue->at == queue->count) queue->at = queue->count = 0;
    return count;
}
