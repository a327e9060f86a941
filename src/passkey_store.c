#define _GNU_SOURCE // memmem
#include "src/passkey_store.h"

#include "ops/base/log.h"
#include "ops/base/room.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WHOLE   "results.jsonl"
#define PART    "results.part-" // and the group's number
#define MEET_MS 600000          // folders on a network may take their time

struct passkey_store {
    struct passkey_store_settings settings;
    int fd; // of our part
    char path[4096];
    struct passkey_result *results; // by id at the start, by place at the end
    size_t count, room;
    struct bytes line;
};

static enum status path_of(const struct passkey_store *store, const char *name, char *path,
                           size_t bytes) {
    const int length = snprintf(path, bytes, "%s/%s", store->settings.folder, name);
    if (length >= 0 && (size_t)length < bytes) return STATUS_OK;
    return FAIL(USAGE, "--output: a path of over %zu bytes", bytes);
}

static int by_id(const void *left, const void *right) {
    const struct passkey_result *a = left;
    const struct passkey_result *b = right;
    return strcmp(a->sample.id, b->sample.id);
}

static int by_place(const void *left, const void *right) {
    const struct passkey_sample *a = &((const struct passkey_result *)left)->sample;
    const struct passkey_sample *b = &((const struct passkey_result *)right)->sample;
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    if (a->number != b->number) return a->number < b->number ? -1 : 1;
    return strcmp(a->id, b->id);
}

// The first member of this run's task that the line has not, or has otherwise; "": there is none.
static void find_difference(const char *task, const char *line, size_t bytes, char *member,
                            size_t room) {
    for (const char *at = task, *end = NULL; at != NULL && *at != '\0'; at = end) {
        end = strstr(at, ",\"");
        const size_t length = end != NULL ? (size_t)(end - at) : strlen(at);
        end = end != NULL ? end + 1 : NULL;
        if (length >= room || memmem(line, bytes, at, length) != NULL) continue;
        snprintf(member, room, "%.*s", (int)length, at);
        return;
    }
    member[0] = '\0';
}

static enum status check_run(const struct passkey_store *store, const struct passkey_run *run,
                             const char *path, const char *line, size_t bytes) {
    const struct passkey_run *mine = store->settings.run;
    char member[128];
    find_difference(mine->task, line, bytes, member, sizeof member);
    const char *what = run->model != mine->model         ? "another model"
                       : run->settings != mine->settings ? "another task, tokenizer or dtype"
                       : run->numerics != mine->numerics ? "another arithmetic (backend or dtype)"
                                                         : NULL;
    if (what == NULL) return STATUS_OK;
    return FAIL(MISMATCH,
                "%s has results of %s, so they are not gone on with%s%s; give another --output",
                path, what, member[0] != '\0' ? ": this run has " : "", member);
}

static enum status take_line(struct passkey_store *store, const char *path, const char *line,
                             size_t bytes) {
    struct passkey_run run = {0};
    const char *wrong = NULL;
    TRY(room_for((void **)&store->results, &store->room, store->count + 1, sizeof *store->results));
    struct passkey_result *result = &store->results[store->count];
    if (passkey_result_read(line, bytes, result, &run, &wrong) != STATUS_OK) {
        LOG(WARN, "%s: a line that is no result (%s) is left out", path, wrong);
        return STATUS_OK;
    }
    if (store->settings.resume) TRY(check_run(store, &run, path, line, bytes));
    store->count++;
    return STATUS_OK;
}

// A last line without an end was cut short by a run's end: it is as if it had not been written.
static enum status take_file(struct passkey_store *store, const char *path) {
    char *line = NULL;
    size_t room = 0;
    enum status status = STATUS_OK;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        if (errno == ENOENT) return STATUS_OK;
        return FAIL(IO, "%s: %s", path, strerror(errno));
    }
    while (status == STATUS_OK) {
        errno = 0;
        const ssize_t bytes = getline(&line, &room, file);
        if (bytes < 0) break;
        if (line[bytes - 1] == '\n') status = take_line(store, path, line, (size_t)bytes - 1);
    }
    if (status == STATUS_OK && ferror(file)) status = FAIL(IO, "%s: %s", path, strerror(errno));
    free(line);
    fclose(file);
    return status;
}

// Every part in the folder, of however many groups: read, or removed.
static enum status each_part(struct passkey_store *store, bool removed) {
    enum status status = STATUS_OK;
    char path[4096];
    DIR *folder = opendir(store->settings.folder);
    if (folder == NULL) return FAIL(IO, "%s: %s", store->settings.folder, strerror(errno));
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(folder)) != NULL;) {
        if (strncmp(entry->d_name, PART, strlen(PART)) != 0) continue;
        status = path_of(store, entry->d_name, path, sizeof path);
        if (status != STATUS_OK) break;
        if (!removed) {
            status = take_file(store, path);
        } else if (unlink(path) != 0 && errno != ENOENT) {
            status = FAIL(IO, "%s: %s", path, strerror(errno));
        }
    }
    closedir(folder);
    return status;
}

static void drop_doubles(struct passkey_store *store) {
    size_t kept = 0;
    qsort(store->results, store->count, sizeof *store->results, by_id);
    for (size_t i = 0; i < store->count; i++) {
        if (kept > 0 && by_id(&store->results[i], &store->results[kept - 1]) == 0) continue;
        if (kept != i) store->results[kept] = store->results[i];
        kept++;
    }
    store->count = kept;
}

static enum status take_whole(struct passkey_store *store) {
    char path[4096];
    TRY(path_of(store, WHOLE, path, sizeof path));
    return take_file(store, path);
}

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
        bool leads, part;
    } mine = {store != NULL ? (int64_t)store->count : -1, store != NULL, store != NULL}, *all;
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

// Our part, without what was cut short at its end.
static enum status open_part(struct passkey_store *store, int32_t group) {
    char name[64];
    struct stat about;
    snprintf(name, sizeof name, PART "%d", group);
    TRY(path_of(store, name, store->path, sizeof store->path));
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
    return path_of(store, name, path, sizeof path) == STATUS_OK && stat(path, &about) == 0;
}

// A group's number in another group's folder.
static enum status see_parts(const struct passkey_store *store, int32_t groups) {
    char name[64];
    for (int32_t group = 0; group < groups; group++) {
        snprintf(name, sizeof name, PART "%d", group);
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
        TRY(take_whole(store));
        TRY(each_part(store, false));
        drop_doubles(store);
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
        store->fd = -1;
    }
    const enum status status = begin(store, place);
    if (status != STATUS_OK) {
        passkey_store_close(store);
        return status;
    }
    *opened = store;
    return STATUS_OK;
}

const struct passkey_result *passkey_store_find(const struct passkey_store *store, const char *id) {
    struct passkey_result key;
    if (store->count == 0) return NULL;
    snprintf(key.sample.id, sizeof key.sample.id, "%s", id);
    return bsearch(&key, store->results, store->count, sizeof key, by_id);
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
    return write_all(store->fd, store->path, line->data, line->count);
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
    TRY(path_of(store, WHOLE, path, sizeof path));
    TRY(path_of(store, WHOLE ".partial", partial, sizeof partial));
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
    TRY(take_whole(store));
    TRY(each_part(store, false));
    drop_doubles(store);
    qsort(store->results, store->count, sizeof *store->results, by_place);
    if (complete) {
        TRY(write_whole(store));
        TRY(each_part(store, true));
    }
    *results = store->results;
    *count = (int64_t)store->count;
    return STATUS_OK;
}

void passkey_store_close(struct passkey_store *store) {
    if (store == NULL) return;
    if (store->fd >= 0) close(store->fd);
    bytes_free(&store->line);
    free(store->results);
    free(store);
}
