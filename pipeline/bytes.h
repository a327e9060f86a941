#pragma once
// A growing run of bytes, for output that is put together before it is written.

#include "ops/base/room.h"

#include <string.h>

// Zero it to begin; bytes_free releases it. What lies in data[0, count) is the caller's to read.
struct bytes {
    char *data;
    size_t room, count;
};

// Room for `more` bytes behind data[count]. Errors: NO_MEMORY.
static inline enum status bytes_room(struct bytes *bytes, size_t more) {
    size_t need = 0;
    if (__builtin_add_overflow(bytes->count, more, &need)) {
        return FAIL(NO_MEMORY, "output of %zu and %zu bytes", bytes->count, more);
    }
    void *data = bytes->data;
    TRY(room_for(&data, &bytes->room, need, 1));
    bytes->data = data;
    return STATUS_OK;
}

static inline enum status bytes_put(struct bytes *bytes, const char *data, size_t count) {
    TRY(bytes_room(bytes, count));
    // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): there is room for what is not nothing
    if (count > 0) memcpy(bytes->data + bytes->count, data, count);
    bytes->count += count;
    return STATUS_OK;
}

static inline void bytes_free(struct bytes *bytes) {
    free(bytes->data);
    *bytes = (struct bytes){0};
}
