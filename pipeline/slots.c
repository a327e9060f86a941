// Three places, a list by age in each. Room on the device is made by spilling the oldest state to host
// memory, room there by writing the oldest to a file. A state that is borrowed is in a list of its own,
// so that nothing spills it, and what is dropped while it is borrowed is in none: its last reader frees
// it.

#include "pipeline/slots.h"

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "pipeline/slot_file.h"
#include "pipeline/slot_table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Of idle states a call: a step that comes meanwhile waits for them.
#define IDLE_BYTES_MOST ((size_t)64 * 1024 * 1024)

// A slot that nobody needs but what is queued up to a step.
struct resting {
    char *state;
    uint64_t step;
};

struct slots {
    struct backend *backend; // borrowed
    struct slots_settings settings;
    char *parent;  // the folder that is asked for; NULL: none
    char *folder;  // our own in it, once needed
    char *staging; // [slot_bytes] of host memory, once needed
    char **made;   // [made_count] all device slots there are
    char **unused; // [unused_count] those that hold nothing
    size_t made_count, made_room, unused_count, unused_room;
    struct resting *resting; // [resting_count] the oldest first
    size_t resting_count, resting_room;
    uint64_t queued, reached; // steps
    char **spare;             // [spare_count] pinned host memory that holds nothing
    size_t spare_count, spare_room;
    struct slot_table table;
    int64_t spills, loads, idle;
};

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

// Where memory is short a job may still do with fewer slots than its steps could need.
static void allocate_at_once(struct slots *slots) {
    const int64_t wanted = slots->settings.at_once < slots->settings.device_slots
                               ? slots->settings.at_once
                               : slots->settings.device_slots;
    char *state = NULL;
    while ((int64_t)slots->made_count < wanted) {
        if (slot_allocate(slots, &state) != STATUS_OK) {
            while (slots->unused_count > 0)
                slots->backend->table->release(slots->backend,
                                               slots->unused[--slots->unused_count]);
            slots->made_count = 0;
            LOG(INFO,
                "no memory for %" PRId64 " states of %zu bytes: they are allocated when needed",
                wanted, slots->settings.slot_bytes);
            return;
        }
        slots->unused[slots->unused_count++] = state;
    }
}

enum status slots_open(struct backend *backend, const struct slots_settings *settings,
                       struct slots **opened) {
    struct slots *slots = NULL;
    CHECK(settings->slot_bytes > 0);
    if (settings->device_slots < 1) {
        return FAIL(USAGE, "--slots %" PRId64 " is too few: at least 1 is needed",
                    settings->device_slots);
    }
    slots = calloc(1, sizeof *slots);
    if (slots == NULL) return FAIL(NO_MEMORY, "table of states");
    slots->backend = backend;
    slots->settings = *settings;
    slots->settings.folder = NULL; // parent is our copy
    const enum status status = slot_table_open(&slots->table);
    if (settings->folder != NULL) slots->parent = strdup(settings->folder);
    if (status != STATUS_OK || (settings->folder != NULL && slots->parent == NULL)) {
        slots_close(slots);
        return FAIL(NO_MEMORY, "table of states");
    }
    allocate_at_once(slots);
    *opened = slots;
    return STATUS_OK;
}

static enum status staging_open(struct slots *slots) {
    void *memory = NULL;
    if (slots->staging != NULL) return STATUS_OK;
    TRY(slots->backend->table->host_alloc(slots->backend, slots->settings.slot_bytes, &memory));
    slots->staging = memory;
    return STATUS_OK;
}

// A folder of our own, so that jobs that share one never meet.
static enum status folder_open(struct slots *slots) {
    if (slots->folder != NULL) return STATUS_OK;
    if (slots->parent == NULL) {
        return FAIL(USAGE, "states do not fit into memory and there is no folder to spill to: "
                           "give --spill DIR, or more --host-slots-bytes");
    }
    if (mkdir(slots->parent, 0700) != 0 && errno != EEXIST) {
        return FAIL(IO, "%s: cannot create the folder for spilled states: %s", slots->parent,
                    strerror(errno));
    }
    const size_t room = strlen(slots->parent) + sizeof "/longscan-XXXXXX";
    char *folder = malloc(room);
    if (folder == NULL) return FAIL(NO_MEMORY, "%s", slots->parent);
    (void)snprintf(folder, room, "%s/longscan-XXXXXX", slots->parent);
    if (mkdtemp(folder) == NULL) {
        free(folder);
        return FAIL(IO, "%s: cannot create a folder for spilled states in it: %s", slots->parent,
                    strerror(errno));
    }
    slots->folder = folder;
    return STATUS_OK;
}

// Owns: the caller's, with free. NULL: no memory.
static char *file_of(const struct slots *slots, uint64_t key) {
    const size_t room = strlen(slots->folder) + sizeof "/0123456789abcdef.state";
    char *path = malloc(room);
    if (path != NULL) (void)snprintf(path, room, "%s/%016" PRIx64 ".state", slots->folder, key);
    return path;
}

static struct slot_file spilled(const struct slots *slots, uint64_t key) {
    return (struct slot_file){.key = key, .slot_bytes = slots->settings.slot_bytes};
}

static enum status file_write(struct slots *slots, uint64_t key, const char *state) {
    const struct slot_file what = spilled(slots, key);
    TRY(folder_open(slots));
    char *path = file_of(slots, key);
    if (path == NULL) return FAIL(NO_MEMORY, "%s", slots->folder);
    const enum status status = slot_file_write(path, &what, state, false);
    free(path);
    return status;
}

static enum status file_read(const struct slots *slots, uint64_t key, char *state) {
    const struct slot_file what = spilled(slots, key);
    char *path = file_of(slots, key);
    if (path == NULL) return FAIL(NO_MEMORY, "%s", slots->folder);
    const enum status status = slot_file_read(path, &what, state);
    free(path);
    return status;
}

static void file_remove(const struct slots *slots, uint64_t key) {
    char *path = file_of(slots, key);
    if (path != NULL && unlink(path) != 0) {
        LOG(WARN, "%s: cannot remove a spilled state: %s", path, strerror(errno));
    }
    free(path);
}

static enum status device_read(const struct slots *slots, char *host, const char *state) {
    const struct backend_table *table = slots->backend->table;
    TRY(table->download(slots->backend, host, state, slots->settings.slot_bytes));
    return table->wait(slots->backend);
}

static enum status device_write(const struct slots *slots, char *state, const char *host) {
    const struct backend_table *table = slots->backend->table;
    TRY(table->upload(slots->backend, state, host, slots->settings.slot_bytes));
    return table->wait(slots->backend);
}

// Where copies to the backend need more than the host's plain memory, it is dear to make and kept.
static enum status host_take(struct slots *slots, char **memory) {
    const struct backend_table *table = slots->backend->table;
    void *made = NULL;
    if (table->host_memory) {
        made = malloc(slots->settings.slot_bytes);
    } else if (slots->spare_count > 0) {
        made = slots->spare[--slots->spare_count];
    } else {
        TRY(room_for((void **)&slots->spare, &slots->spare_room,
                     (size_t)slots->table.tier[IN_HOST].count + 2, sizeof(char *)));
        TRY(table->host_alloc(slots->backend, slots->settings.slot_bytes, &made));
    }
    if (made == NULL) {
        return FAIL(NO_MEMORY, "spilling a state of %zu bytes: lower --host-slots-bytes",
                    slots->settings.slot_bytes);
    }
    *memory = made;
    return STATUS_OK;
}

static void host_give(struct slots *slots, char *memory) {
    if (memory == NULL) return;
    if (slots->backend->table->host_memory) {
        free(memory);
    } else {
        slots->spare[slots->spare_count++] = memory;
    }
}

// Host memory for one more state, within the budget: of our own, or the oldest's, which goes to a
// file. NULL: the budget is less than one state.
static enum status host_room(struct slots *slots, char **memory) {
    const size_t most = slots->settings.host_bytes / slots->settings.slot_bytes;
    struct entry *oldest = slots->table.tier[IN_HOST].oldest;
    if ((size_t)slots->table.tier[IN_HOST].count < most) {
        return host_take(slots, memory);
    }
    if (oldest == NULL) {
        *memory = NULL;
        return STATUS_OK;
    }
    TRY(file_write(slots, oldest->key, oldest->memory));
    *memory = oldest->memory;
    oldest->memory = NULL;
    slot_table_unlist(&slots->table, oldest);
    slot_table_list(&slots->table, oldest, IN_FILE);
    return STATUS_OK;
}

// The oldest state on the device goes down; *state is the slot it leaves.
static enum status spill_oldest(struct slots *slots, char **state) {
    struct entry *entry = slots->table.tier[ON_DEVICE].oldest;
    enum status status = STATUS_OK;
    char *memory = NULL;
    TRY_OUT(status, host_room(slots, &memory));
    if (memory != NULL) {
        TRY_OUT(status, device_read(slots, memory, entry->memory));
    } else {
        TRY_OUT(status, staging_open(slots));
        TRY_OUT(status, device_read(slots, slots->staging, entry->memory));
        TRY_OUT(status, file_write(slots, entry->key, slots->staging));
    }
    *state = entry->memory;
    slot_table_unlist(&slots->table, entry);
    slot_table_list(&slots->table, entry, memory != NULL ? IN_HOST : IN_FILE);
    entry->memory = memory;
    memory = NULL; // the entry's now
    slots->spills++;
out:
    host_give(slots, memory);
    return status;
}

// The oldest state of a tier in memory goes to a file.
static enum status file_oldest(struct slots *slots, enum tier tier) {
    struct entry *entry = slots->table.tier[tier].oldest;
    const char *state = entry->memory;
    if (tier == ON_DEVICE) {
        TRY(staging_open(slots));
        TRY(device_read(slots, slots->staging, entry->memory));
        state = slots->staging;
    }
    TRY(file_write(slots, entry->key, state));
    if (tier == ON_DEVICE) {
        slots_free(slots, entry->memory);
        slots->spills++;
    } else {
        host_give(slots, entry->memory);
    }
    entry->memory = NULL;
    slot_table_unlist(&slots->table, entry);
    slot_table_list(&slots->table, entry, IN_FILE);
    slots->idle++;
    return STATUS_OK;
}

// Both lists are in the order of last use, as states leave the device the oldest first. What lies in
// host memory was used before most of what is on the device.
enum status slots_spill_idle(struct slots *slots, int64_t idle_ms) {
    static const enum tier tiers[] = {IN_HOST, ON_DEVICE};
    const int64_t since_ms = clock_ms() - idle_ms;
    const size_t state_bytes = slots->settings.slot_bytes;
    size_t bytes = 0;
    for (int i = 0; i < 2; i++) {
        const struct age_list *list = &slots->table.tier[tiers[i]];
        while (list->oldest != NULL && list->oldest->used_ms <= since_ms) {
            if (bytes > 0 && bytes + state_bytes > IDLE_BYTES_MOST) return STATUS_OK;
            TRY(file_oldest(slots, tiers[i]));
            bytes += state_bytes;
        }
    }
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
        if (slots->table.tier[ON_DEVICE].oldest != NULL) return spill_oldest(slots, state);
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

// While room is made on the device the entry is in no list, or it might be pushed further down.
static enum status bring_from_host(struct slots *slots, struct entry *entry, char **state) {
    slot_table_unlist(&slots->table, entry);
    enum status status = slots_make(slots, state);
    if (status == STATUS_OK) {
        status = device_write(slots, *state, entry->memory);
        if (status != STATUS_OK) slots_free(slots, *state);
    }
    slot_table_list(&slots->table, entry, IN_HOST);
    if (status == STATUS_OK) host_give(slots, entry->memory);
    return status;
}

static enum status bring_from_file(struct slots *slots, const struct entry *entry, char **state) {
    TRY(slots_make(slots, state));
    enum status status = staging_open(slots);
    if (status == STATUS_OK) status = file_read(slots, entry->key, slots->staging);
    if (status == STATUS_OK) status = device_write(slots, *state, slots->staging);
    if (status != STATUS_OK) {
        slots_free(slots, *state);
        return status;
    }
    file_remove(slots, entry->key);
    return STATUS_OK;
}

static enum status bring_back(struct slots *slots, struct entry *entry) {
    char *state = NULL;
    TRY(entry->tier == IN_HOST ? bring_from_host(slots, entry, &state)
                               : bring_from_file(slots, entry, &state));
    slot_table_unlist(&slots->table, entry);
    slot_table_list(&slots->table, entry, ON_DEVICE);
    entry->memory = state;
    slots->loads++;
    return STATUS_OK;
}

enum status slots_borrow(struct slots *slots, uint64_t key, struct entry **lent,
                         const char **state) {
    struct entry *entry = slot_table_find(&slots->table, key);
    if (entry == NULL) {
        return FAIL(MISMATCH, "no state is kept under the key %016" PRIx64, key);
    }
    if (entry->tier == IN_HOST || entry->tier == IN_FILE) TRY(bring_back(slots, entry));
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
        host_give(slots, entry->memory);
    } else {
        file_remove(slots, key);
    }
    free(entry);
}

enum status slot_save(struct slots *slots, uint64_t key, const struct slot_image *image,
                      const char *path) {
    const struct entry *entry = slot_table_find(&slots->table, key);
    const struct slot_file what = {.slot_bytes = slots->settings.slot_bytes, .image = *image};
    if (entry == NULL) {
        return FAIL(MISMATCH, "%s: no state is kept under the key %016" PRIx64, path, key);
    }
    if (entry->tier == IN_HOST) return slot_file_write(path, &what, entry->memory, true);
    TRY(staging_open(slots));
    if (entry->tier == IN_FILE) {
        TRY(file_read(slots, key, slots->staging));
    } else {
        TRY(device_read(slots, slots->staging, entry->memory));
    }
    return slot_file_write(path, &what, slots->staging, true);
}

enum status slot_load(struct slots *slots, uint64_t key, const struct slot_image *image,
                      const char *path) {
    const struct slot_file what = {.slot_bytes = slots->settings.slot_bytes, .image = *image};
    char *state = NULL;
    enum status status = STATUS_OK;
    // The slot first: making room may use the staging memory.
    TRY(slots_make(slots, &state));
    TRY_OUT(status, staging_open(slots));
    TRY_OUT(status, slot_file_read(path, &what, slots->staging));
    TRY_OUT(status, device_write(slots, state, slots->staging));
    TRY_OUT(status, slots_keep(slots, key, state));
    state = NULL; // the store's now
out:
    if (state != NULL) slots_free(slots, state);
    return status;
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
