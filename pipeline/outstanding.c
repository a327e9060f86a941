#include "pipeline/outstanding.h"

#include "ops/base/room.h"

#include <string.h>

void outstanding_begin(struct outstanding *outstanding, int64_t start) {
    outstanding->first = outstanding->count = 0;
    outstanding->reached = start;
}

// Where `offset` is, or would be: the first that is not smaller.
static size_t find(const struct outstanding *outstanding, int64_t offset) {
    size_t low = outstanding->first, high = outstanding->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (outstanding->item[middle].offset < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool holds(const struct outstanding *outstanding, size_t at, int64_t offset) {
    return at < outstanding->count && outstanding->item[at].offset == offset;
}

// The answered ones in front are gone only here, so that each is moved once on average.
static void close_up(struct outstanding *outstanding) {
    if (outstanding->first < outstanding->count - outstanding->first) return;
    outstanding->count -= outstanding->first;
    memmove(outstanding->item, outstanding->item + outstanding->first,
            outstanding->count * sizeof *outstanding->item);
    outstanding->first = 0;
}

enum status outstanding_add(struct outstanding *outstanding, int64_t offset,
                            enum outstanding_added *added) {
    if (offset < outstanding->reached) {
        const bool known = offset < outstanding_done(outstanding) ||
                           holds(outstanding, find(outstanding, offset), offset);
        *added = known ? OUTSTANDING_KNOWN : OUTSTANDING_LATE;
        return STATUS_OK;
    }
    void *items = outstanding->item;
    if (outstanding->first > 0) close_up(outstanding);
    TRY(room_for(&items, &outstanding->room, outstanding->count + 1, sizeof *outstanding->item));
    outstanding->item = items;
    outstanding->item[outstanding->count++] = (struct outstanding_offset){.offset = offset};
    outstanding->reached = offset + 1;
    *added = OUTSTANDING_NEW;
    return STATUS_OK;
}

void outstanding_reach(struct outstanding *outstanding, int64_t offset) {
    if (offset > outstanding->reached) outstanding->reached = offset;
}

void outstanding_forget(struct outstanding *outstanding, int64_t from) {
    while (outstanding_any(outstanding) &&
           outstanding->item[outstanding->count - 1].offset >= from) {
        outstanding->count--;
    }
    if (outstanding->reached > from) outstanding->reached = from;
}

// The first one is to have no answer.
static void pass_answered(struct outstanding *outstanding) {
    while (outstanding_any(outstanding) && outstanding->item[outstanding->first].answered) {
        outstanding->first++;
    }
}

void outstanding_skip(struct outstanding *outstanding, int64_t before) {
    outstanding->first = find(outstanding, before);
    pass_answered(outstanding);
    outstanding_reach(outstanding, before);
}

bool outstanding_answer(struct outstanding *outstanding, int64_t offset) {
    const size_t at = find(outstanding, offset);
    if (!holds(outstanding, at, offset) || outstanding->item[at].answered) return false;
    outstanding->item[at].answered = true;
    pass_answered(outstanding);
    return true;
}

int64_t outstanding_done(const struct outstanding *outstanding) {
    return outstanding_any(outstanding) ? outstanding->item[outstanding->first].offset
                                        : outstanding->reached;
}

bool outstanding_any(const struct outstanding *outstanding) {
    return outstanding->first < outstanding->count;
}

void outstanding_free(struct outstanding *outstanding) {
    free(outstanding->item);
    *outstanding = (struct outstanding){0};
}
