#pragma once
// Arrays that grow, and sizes that cannot overflow unseen.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

C_BEGIN

static inline bool size_multiply(size_t a, size_t b, size_t *product) {
    return !__builtin_mul_overflow(a, b, product);
}

// Make room for `need` items of `item_bytes` in *items, which holds *room of them; doubles.
// Owns: *items stays the caller's; release with free. On failure nothing changes.
static inline enum status room_for(void **items, size_t *room, size_t need, size_t item_bytes) {
    if (need <= *room) return STATUS_OK;
    size_t grown = *room < 16 ? 16 : *room;
    size_t bytes = 0;
    while (grown < need) {
        if (grown > SIZE_MAX / 2) return FAIL(NO_MEMORY, "array of %zu items", need);
        grown *= 2;
    }
    if (!size_multiply(grown, item_bytes, &bytes)) {
        return FAIL(NO_MEMORY, "array of %zu items of %zu bytes", grown, item_bytes);
    }
    void *moved = realloc(*items, bytes);
    if (moved == NULL) return FAIL(NO_MEMORY, "array of %zu bytes", bytes);
    *items = moved;
    *room = grown;
    return STATUS_OK;
}

C_END
