#define _GNU_SOURCE // memmem
// What runs have left in a folder of results.
#include "ops/base/log.h"
#include "ops/base/room.h"
#include "src/passkey_store_inner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum status passkey_store_path(const struct passkey_store *store, const char *name, char *path,
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

const struct passkey_result *passkey_store_find(const struct passkey_store *store, const char *id) {
    struct passkey_result key = {0};
    if (store->count == 0) return NULL;
    snprintf(key.sample.id, sizeof key.sample.id, "%s", id);
    return bsearch(&key, store->results, store->count, sizeof key, by_id);
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
    struct stat about;
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return STATUS_OK;
    if (fd < 0 || fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        if (fd >= 0) close(fd);
        return FAIL(IO, "%s: %s", path, fd < 0 ? strerror(errno) : "not a file of results");
    }
    FILE *file = fdopen(fd, "r");
    if (file == NULL) {
        close(fd);
        return FAIL(NO_MEMORY, "%s", path);
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
enum status passkey_store_each_part(struct passkey_store *store, bool removed) {
    enum status status = STATUS_OK;
    char path[4096];
    DIR *folder = opendir(store->settings.folder);
    if (folder == NULL) return FAIL(IO, "%s: %s", store->settings.folder, strerror(errno));
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(folder)) != NULL;) {
        if (strncmp(entry->d_name, PASSKEY_PART, strlen(PASSKEY_PART)) != 0) continue;
        status = passkey_store_path(store, entry->d_name, path, sizeof path);
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

void passkey_store_drop_doubles(struct passkey_store *store) {
    size_t kept = 0;
    if (store->count == 0) return;
    qsort(store->results, store->count, sizeof *store->results, by_id);
    for (size_t i = 0; i < store->count; i++) {
        if (kept > 0 && by_id(&store->results[i], &store->results[kept - 1]) == 0) continue;
        if (kept != i) store->results[kept] = store->results[i];
        kept++;
    }
    store->count = kept;
}

enum status passkey_store_take_whole(struct passkey_store *store) {
    char path[4096];
    TRY(passkey_store_path(store, PASSKEY_WHOLE, path, sizeof path));
    return take_file(store, path);
}
