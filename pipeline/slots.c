// The slots of the device: who has which, and when one is free again.

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "pipeline/slots_inner.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

// Room in `unused` too, so that slots_free cannot fail.
static enum status slot_allocate(struct slots *slots, char **state) {
    void *memory = NULL;
    TRY(room_for((void **)&slots->made, &slots->made_room, slots->made_count + 1, sizeof(char *)));
    TRY(room_for((void **)&slots->unused, &slots->unused_room, slots->made_count + 1,
                 sizeof(char *)));
    TRY(room_for((void **)&slots->resting, &slots->resting_room, slots->made_count + 1,
                 sizeof *slots->resting));
    TRY(slots->backend->table->alloc(slots->backend, slots->settings.slot_bytes, &memory));
    slots->made[slots->made_count++] = memory;
    *state = memory;
    return STATUS_OK;
}

static enum status allocate_at_once(struct slots *slots) {
    char *state = NULL;
    while ((int64_t)slots->made_count < slots->settings.at_once) {
        TRY(slot_allocate(slots, &state));
        slots->unused[slots->unused_count++] = state;
    }
    return STATUS_OK;
}

enum status slots_open(struct backend *backend, const struct slots_settings *settings,
                       struct slots **opened) {
    struct slots *slots = NULL;
    CHECK(settings->slot_bytes > 0 && settings->at_once <= settings->device_slots);
    if (settings->device_slots < 1) {
        return FAIL(USAGE, "--slots %" PRId64 " is too few: at least 1 is needed",
                    settings->device_slots);
    }
    slots = calloc(1, sizeof *slots);
    if (slots == NULL) return FAIL(NO_MEMORY, "table of states");
    slots->backend = backend;
    slots->settings = *settings;
    slots->settings.folder = NULL; // parent is our copy
    enum status status = slot_table_open(&slots->table);
    if (settings->folder != NULL) slots->parent = strdup(settings->folder);
    if (status != STATUS_OK || (settings->folder != NULL && slots->parent == NULL)) {
        slots_close(slots);
        return FAIL(NO_MEMORY, "table of states");
    }
    status = allocate_at_once(slots);
    if (status != STATUS_OK) {
        slots_close(slots);
        return status;
    }
    *opened = slots;
    return STATUS_OK;
}

void slots_queued(struct slots *slots, uint64_t step) {
    slots->queued = step;
}

void slots_reached(struct slots *slots, uint64_t step) {
    size_t over = 0;
    if (step > slots->reached) slots->reached = step;
    while (over < slots->resting_count && slots->resting[over].step <= slots->reached) {
        slots->unused[slots->unused_count++] = slots->resting[over++].state;
    }
    slots->resting_count -= over;
    if (over > 0) {
        memmove(slots->resting, slots->resting + over,
                slots->resting_count * sizeof *slots->resting);
    }
}

enum status slots_make(struct slots *slots, char **state) {
    const bool full = slots->made_count >= (size_t)slots->settings.device_slots;
    if (slots->unused_count == 0 && full && slots->resting_count > 0) {
        TRY(slots->backend->table->wait(slots->backend));
        slots_reached(slots, slots->queued);
    }
    if (slots->unused_count > 0) {
        *state = slots->unused[--slots->unused_count];
        return STATUS_OK;
    }
    if (full) {
        if (slots->table.tier[ON_DEVICE].oldest != NULL) return slots_spill_oldest(slots, state);
        return FAIL(USAGE, "--slots %" PRId64 " is too few: one step needs more states at once",
                    slots->settings.device_slots);
    }
    return slot_allocate(slots, state);
}

void slots_free(struct slots *slots, char *state) {
    CHECK(slots->unused_count + slots->resting_count < slots->made_count);
    if (slots->queued > slots->reached) {
        slots->resting[slots->resting_count++] =
            (struct resting){.state = state, .step = slots->queued};
    } else {
        slots->unused[slots->unused_count++] = state;
    }
}

enum status slots_keep(struct slots *slots, uint64_t key, char *state) {
    struct entry *entry = NULL;
    TRY(slot_table_room(&slots->table, &entry));
    slots_drop(slots, key);
    entry->key = key;
    entry->memory = state;
    entry->used_ms = clock_ms();
    slot_table_add(&slots->table, entry, ON_DEVICE);
    return STATUS_OK;
}

enum status slots_borrow(struct slots *slots, uint64_t key, struct entry **lent,
                         const char **state) {
    struct entry *entry = slot_table_find(&slots->table, key);
    if (entry == NULL) {
        return FAIL(MISMATCH, "no state is kept under the key %016" PRIx64, key);
    }
    if (entry->tier == IN_HOST || entry->tier == IN_FILE) TRY(slots_bring_back(slots, entry));
    if (entry->readers++ == 0) {
        slot_table_unlist(&slots->table, entry);
        slot_table_list(&slots->table, entry, LENT);
    }
    *lent = entry;
    *state = entry->memory;
    return STATUS_OK;
}

void slots_return(struct slots *slots, struct entry *lent) {
    CHECK(lent->readers > 0);
    if (--lent->readers > 0) return;
    if (lent->dropped) {
        slots_free(slots, lent->memory);
        free(lent);
        return;
    }
    lent->used_ms = clock_ms();
    slot_table_unlist(&slots->table, lent);
    slot_table_list(&slots->table, lent, ON_DEVICE);
}

void slots_drop(struct slots *slots, uint64_t key) {
    struct entry *entry = slot_table_find(&slots->table, key);
    if (entry == NULL) return;
    slot_table_remove(&slots->table, entry);
    if (entry->tier == LENT) {
        entry->dropped = true;
        return;
    }
    if (entry->tier == ON_DEVICE) {
        slots_free(slots, entry->memory);
    } else if (entry->tier == IN_HOST) {
        slots_host_give(slots, entry->memory);
    } else {
        slots_file_remove(slots, key);
    }
    free(entry);
}

struct slots_counts slots_counts(const struct slots *slots) {
    return (struct slots_counts){.device = slots->table.tier[ON_DEVICE].count +
                                           slots->table.tier[LENT].count,
                                 .host = slots->table.tier[IN_HOST].count,
                                 .file = slots->table.tier[IN_FILE].count,
                                 .spills = slots->spills,
                                 .loads = slots->loads,
                                 .idle = slots->idle};
}

void slots_close(struct slots *slots) {
    if (slots == NULL) return;
    for (int tier = 0; tier < TIERS; tier++) {
        while (slots->table.tier[tier].oldest != NULL) {
            slots_drop(slots, slots->table.tier[tier].oldest->key);
        }
    }
    for (size_t i = 0; i < slots->made_count; i++) {
        slots->backend->table->release(slots->backend, slots->made[i]);
    }
    if (slots->folder != NULL && rmdir(slots->folder) != 0) {
        LOG(WARN, "%s: cannot remove the folder of spilled states: %s", slots->folder,
            strerror(errno));
    }
    for (size_t i = 0; i < slots->spare_count; i++) {
        slots->backend->table->host_release(slots->backend, slots->spare[i]);
    }
    free(slots->made);
    free(slots->unused);
    free(slots->resting);
    free(slots->spare);
    slot_table_close(&slots->table);
    slots->backend->table->host_release(slots->backend, slots->staging);
    free(slots->folder);
    free(slots->parent);
    free(slots);
}
