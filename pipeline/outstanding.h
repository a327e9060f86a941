#pragma once
// Offsets of one partition that were read and are not answered yet. They come in rising order, with
// holes; answers come in any order. What may be committed lies before the first that has none.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct outstanding_offset {
    int64_t offset;
    bool answered;
};

struct outstanding {                 // outstanding_begin, outstanding_free
    struct outstanding_offset *item; // [first, count): the first of them has no answer
    size_t room, first, count;
    int64_t reached; // all offsets before this one were read
};

enum outstanding_added { OUTSTANDING_NEW, OUTSTANDING_KNOWN, OUTSTANDING_LATE };

// start: the first offset that will be read, or one before it. Drops what it held.
void outstanding_begin(struct outstanding *outstanding, int64_t start);
// KNOWN: it was added before, and may be answered. LATE: one behind it was added, but it never was.
// Errors: NO_MEMORY.
enum status outstanding_add(struct outstanding *outstanding, int64_t offset,
                            enum outstanding_added *added);
// There is nothing before `offset` that was not added.
void outstanding_reach(struct outstanding *outstanding, int64_t offset);
// false: it was not added, or is answered.
bool outstanding_answer(struct outstanding *outstanding, int64_t offset);
// Those from this offset on count as not read; they are to be read again.
void outstanding_forget(struct outstanding *outstanding, int64_t from);
// Somebody else has answered all before this offset.
void outstanding_skip(struct outstanding *outstanding, int64_t before);
// Everything before this offset is answered.
int64_t outstanding_done(const struct outstanding *outstanding);
bool outstanding_any(const struct outstanding *outstanding); // without an answer
void outstanding_free(struct outstanding *outstanding);
