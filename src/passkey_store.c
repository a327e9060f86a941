#define _GNU_SOURCE // flock
#include "ops/base/log.h"
#include "ops/base/room.h"
#include "src/passkey_store_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEET_MS 600000 // folders on a network may take their time

static enum status make_folder(const struct passkey_store_settings *settings) {
    if (mkdir(settings->folder, 0777) == 0 || errno == EEXIST) return STATUS_OK;
    return FAIL(USAGE, "--output %s: cannot make the folder: %s", settings->folder,
                strerror(errno));
}

// Nobody writes or removes anything before all have read, and all have read the same.
static enum status meet(struct passkey_store *store, const struct score_place *place,
                        bool reading) {
    struct link *world = place->world;
    struct {
        int64_t found;
        bool leads;
    } mine = {store != NULL ? (int64_t)store->count : -1, store != NULL}, *all;
    enum status status = STATUS_OK;
    all = calloc((size_t)world->ranks, sizeof *all);
    if (all == NULL) return FAIL(NO_MEMORY, "%d ranks", world->ranks);
    status = world->table->gather(world, &mine, sizeof mine, all, MEET_MS);
    for (int32_t i = 0; status == STATUS_OK && reading && i < world->ranks; i++) {
        if (!all[i].leads || all[i].found == all[0].found) continue;
        status = FAIL(USAGE,
                      "--output: rank %d finds %" PRId64 " results there and rank 0 %" PRId64
                      "; it must be one folder for all groups",
                      i, all[i].found, all[0].found);
    }
    free(all);
    return status;
}

// Against a second job with the same folder; where there are no locks there is none.
static enum status lock_folder(struct passkey_store *store) {
    store->lock = open(store->settings.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->lock < 0 || flock(store->lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) {
        return STATUS_OK;
    }
    return FAIL(USAGE, "--output %s: another job writes there", store->settings.folder);
}

// Our part, without what was cut short at its end.
static enum status open_part(struct passkey_store *store, int32_t group) {
    char name[64];
    struct stat about;
    snprintf(name, sizeof name, PASSKEY_PART "%d", group);
    TRY(passkey_store_path(store, name, store->path, sizeof store->path));
    store->fd = open(store->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (store->fd < 0 || fstat(store->fd, &about) != 0) {
        return FAIL(USAGE, "--output: %s: %s", store->path, strerror(errno));
    }
    off_t end = about.st_size;
    for (char last = 0; end > 0; end--) {
        if (pread(store->fd, &last, 1, end - 1) != 1) break;
        if (last == '\n') break;
    }
    if (ftruncate(store->fd, end) != 0 || lseek(store->fd, end, SEEK_SET) < 0) {
        return FAIL(IO, "%s: %s", store->path, strerror(errno));
    }
    return STATUS_OK;
}

static bool is_there(const struct passkey_store *store, const char *name) {
    char path[4096];
    struct stat about;
    return passkey_store_path(store, name, path, sizeof path) == STATUS_OK &&
           stat(path, &about) == 0;
}

// A group's number in another group's folder.
static enum status see_parts(const struct passkey_store *store, int32_t groups) {
    char name[64];
    for (int32_t group = 0; group < groups; group++) {
        snprintf(name, sizeof name, PASSKEY_PART "%d", group);
        if (is_there(store, name)) continue;
        return FAIL(USAGE,
                    "--output %s: what group %d writes there is not seen by rank 0; it must be one "
                    "folder for all groups",
                    store->settings.folder, group);
    }
    return STATUS_OK;
}

static enum status begin(struct passkey_store *store, const struct score_place *place) {
    if (store != NULL) {
        TRY(make_folder(&store->settings));
        if (place->world->rank == 0) TRY(lock_folder(store));
        TRY(passkey_store_take_whole(store));
        TRY(passkey_store_each_part(store, false));
        passkey_store_drop_doubles(store);
        if (!store->settings.resume && store->count > 0) {
            return FAIL(USAGE,
                        "--output %s holds %zu results: --resume goes on with them; remove the "
                        "folder, or give another one, to begin anew",
                        store->settings.folder, store->count);
        }
    }
    TRY(meet(store, place, true));
    if (store != NULL) TRY(open_part(store, place->group_index));
    TRY(meet(store, place, false));
    return store != NULL && place->world->rank == 0 ? see_parts(store, place->groups) : STATUS_OK;
}

enum status passkey_store_open(const struct passkey_store_settings *settings,
                               const struct score_place *place, struct passkey_store **opened) {
    struct passkey_store *store = NULL;
    if (place->group->rank == 0) {
        store = calloc(1, sizeof *store);
        if (store == NULL) return FAIL(NO_MEMORY, "results");
        store->settings = *settings;
        store->fd = store->lock = -1;
    }
    const enum status status = begin(store, place);
    if (status != STATUS_OK) {
        passkey_store_close(store);
        return status;
    }
    *opened = store;
    return STATUS_OK;
}

int64_t passkey_store_found(const struct passkey_store *store) {
    return (int64_t)store->count;
}

static enum status write_all(int fd, const char *path, const char *data, size_t bytes) {
    while (bytes > 0) {
        const ssize_t written = write(fd, data, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return FAIL(IO, "%s: %s", path, strerror(errno));
        data += written;
        bytes -= (size_t)written;
    }
    return STATUS_OK;
}

enum status passkey_store_put(struct passkey_store *store, const struct bytes *line) {
    store->unsynced = true;
    return write_all(store->fd, store->path, line->data, line->count);
}

enum status passkey_store_sync(struct passkey_store *store) {
    if (!store->unsynced) return STATUS_OK;
    store->unsynced = false;
    return fdatasync(store->fd) == 0 ? STATUS_OK : FAIL(IO, "%s: %s", store->path, strerror(errno));
}

enum status passkey_store_end(struct passkey_store *store) {
    const bool synced = fsync(store->fd) == 0;
    const bool closed = close(store->fd) == 0;
    store->fd = -1;
    if (synced && closed) return STATUS_OK;
    return FAIL(IO, "%s: %s", store->path, strerror(errno));
}

// NAME.partial first, as everything that is written.
static enum status write_whole(struct passkey_store *store) {
    char path[4096];
    char partial[4096];
    TRY(passkey_store_path(store, PASSKEY_WHOLE, path, sizeof path));
    TRY(passkey_store_path(store, PASSKEY_WHOLE ".partial", partial, sizeof partial));
    store->line.count = 0;
    FILE *file = fopen(partial, "w");
    bool good = file != NULL;
    for (size_t i = 0; good && i < store->count; i++) {
        store->line.count = 0;
        const enum status status =
            passkey_result_put(store->settings.run, &store->results[i], &store->line);
        if (status != STATUS_OK) {
            fclose(file);
            return status;
        }
        good = fwrite(store->line.data, 1, store->line.count, file) == store->line.count;
    }
    good = good && fflush(file) == 0 && fsync(fileno(file)) == 0;
    const int why = errno;
    if (file != NULL && fclose(file) != 0) good = false;
    if (!good || rename(partial, path) != 0) {
        unlink(partial);
        return FAIL(IO, "%s: %s", path, strerror(good ? errno : why));
    }
    return STATUS_OK;
}

enum status passkey_store_finish(struct passkey_store *store, bool complete,
                                 const struct passkey_result **results, int64_t *count) {
    store->count = 0;
    TRY(passkey_store_take_whole(store));
    TRY(passkey_store_each_part(store, false));
    passkey_store_drop_doubles(store);
    passkey_results_sort(store->results, store->count);
    if (complete) {
        TRY(write_whole(store));
        TRY(passkey_store_each_part(store, true));
    }
    *results = store->results;
    *count = (int64_t)store->count;
    return STATUS_OK;
}

void passkey_store_close(struct passkey_store *store) {
    if (store == NULL) return;
    if (store->fd >= 0) close(store->fd);
    if (store->lock >= 0) close(store->lock);
    bytes_free(&store->line);
    free(store->results);
    free(store);
}
