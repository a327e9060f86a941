// The way down from the device, to host memory and to files, and back.

#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "pipeline/slot_file.h"
#include "pipeline/slots_inner.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Of idle states a call: a step that comes meanwhile waits for them.
#define IDLE_BYTES_MOST ((size_t)64 * 1024 * 1024)

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

void slots_file_remove(const struct slots *slots, uint64_t key) {
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

void slots_host_give(struct slots *slots, char *memory) {
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

enum status slots_spill_oldest(struct slots *slots, char **state) {
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
    slots_host_give(slots, memory);
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
        slots_host_give(slots, entry->memory);
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

// While room is made on the device the entry is in no list, or it might be pushed further down.
static enum status bring_from_host(struct slots *slots, struct entry *entry, char **state) {
    slot_table_unlist(&slots->table, entry);
    enum status status = slots_make(slots, state);
    if (status == STATUS_OK) {
        status = device_write(slots, *state, entry->memory);
        if (status != STATUS_OK) slots_free(slots, *state);
    }
    slot_table_list(&slots->table, entry, IN_HOST);
    if (status == STATUS_OK) slots_host_give(slots, entry->memory);
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
    slots_file_remove(slots, entry->key);
    return STATUS_OK;
}

enum status slots_bring_back(struct slots *slots, struct entry *entry) {
    char *state = NULL;
    TRY(entry->tier == IN_HOST ? bring_from_host(slots, entry, &state)
                               : bring_from_file(slots, entry, &state));
    slot_table_unlist(&slots->table, entry);
    slot_table_list(&slots->table, entry, ON_DEVICE);
    entry->memory = state;
    slots->loads++;
    return STATUS_OK;
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
