// Reading and writing state files. Everything in a file is checked before it is believed: its
// header by a hash of its own, the state by a hash in the header, the size by both.

#include "pipeline/slot_file.h"

#define XXH_INLINE_ALL
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define SLOT_MAGIC  0x31544f4c534e4f4cu // LONSLOT1
#define SLOT_FORMAT 1u

struct header {
    uint64_t magic;
    uint32_t format, header_bytes;
    uint64_t key, slot_bytes, model_hash;
    int64_t position;
    char numerics[128];
    uint64_t state_hash;
    uint64_t header_hash; // of all before it
};
_Static_assert(sizeof(struct header) == 192, "the header's layout is part of the format");

static uint64_t header_hash(const struct header *header) {
    return XXH3_64bits(header, offsetof(struct header, header_hash));
}

static void header_fill(const struct slot_file *what, uint64_t state_hash, struct header *header) {
    *header = (struct header){.magic = SLOT_MAGIC,
                              .format = SLOT_FORMAT,
                              .header_bytes = sizeof *header,
                              .key = what->key,
                              .slot_bytes = what->slot_bytes,
                              .model_hash = what->image.model_hash,
                              .position = what->image.position,
                              .state_hash = state_hash};
    memcpy(header->numerics, what->image.numerics,
           strnlen(what->image.numerics, sizeof header->numerics - 1));
    header->header_hash = header_hash(header);
}

static enum status write_all(int file, const char *path, const void *data, size_t bytes) {
    const char *at = data;
    while (bytes > 0) {
        const ssize_t written = write(file, at, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) {
            return FAIL(IO, "%s: cannot write a state: %s", path, strerror(errno));
        }
        at += written;
        bytes -= (size_t)written;
    }
    return STATUS_OK;
}

static enum status write_file(const char *path, const struct header *header, const void *state,
                              size_t bytes, bool durable) {
    enum status status = STATUS_OK;
    const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0) return FAIL(IO, "%s: cannot create a state file: %s", path, strerror(errno));
    TRY_OUT(status, write_all(file, path, header, sizeof *header));
    TRY_OUT(status, write_all(file, path, state, bytes));
    if (durable && fsync(file) != 0) {
        status = FAIL(IO, "%s: cannot bring a state to the disk: %s", path, strerror(errno));
    }
out:
    if (close(file) != 0 && status == STATUS_OK) {
        status = FAIL(IO, "%s: cannot write a state: %s", path, strerror(errno));
    }
    if (status != STATUS_OK) (void)unlink(path);
    return status;
}

// A rename is on the disk once its folder is.
static enum status sync_folder_of(const char *path) {
    enum status status = STATUS_OK;
    char *folder = strdup(path);
    if (folder == NULL) return FAIL(NO_MEMORY, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash != NULL) slash[slash == folder] = '\0';
    const char *name = slash != NULL ? folder : ".";
    const int file = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    // Some file systems cannot sync a folder (EINVAL): then the rename is as safe as they make it.
    if (file < 0 || (fsync(file) != 0 && errno != EINVAL)) {
        status = FAIL(IO, "%s: cannot bring the folder to the disk: %s", name, strerror(errno));
    }
    if (file >= 0) close(file);
    free(folder);
    return status;
}

enum status slot_file_write(const char *path, const struct slot_file *what, const void *state,
                            bool durable) {
    struct header header;
    enum status status = STATUS_OK;
    header_fill(what, XXH3_64bits(state, what->slot_bytes), &header);
    if (!durable) return write_file(path, &header, state, what->slot_bytes, false);

    const size_t room = strlen(path) + sizeof ".partial";
    char *partial = malloc(room);
    if (partial == NULL) return FAIL(NO_MEMORY, "%s", path);
    (void)snprintf(partial, room, "%s.partial", path);
    TRY_OUT(status, write_file(partial, &header, state, what->slot_bytes, true));
    if (rename(partial, path) != 0) {
        status = FAIL(IO, "%s: cannot rename it into place: %s", partial, strerror(errno));
        (void)unlink(partial);
        goto out;
    }
    TRY_OUT(status, sync_folder_of(path));
out:
    free(partial);
    return status;
}

// Up to `bytes`; *got says how many there were.
static enum status read_all(int file, const char *path, void *data, size_t bytes, size_t *got) {
    char *at = data;
    *got = 0;
    while (*got < bytes) {
        const ssize_t count = read(file, at + *got, bytes - *got);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return FAIL(IO, "%s: cannot read a state: %s", path, strerror(errno));
        if (count == 0) break;
        *got += (size_t)count;
    }
    return STATUS_OK;
}

// From a file: only what can be printed is.
static void printable(const char *text, char *out, size_t out_bytes) {
    size_t at = 0;
    for (; at + 1 < out_bytes && text[at] != '\0'; at++) {
        out[at] = text[at] >= ' ' && text[at] <= '~' ? text[at] : '?';
    }
    out[at] = '\0';
}

static enum status header_check(const char *path, const struct header *is,
                                const struct header *should, size_t file_bytes) {
    if (is->magic != SLOT_MAGIC) return FAIL(MISMATCH, "%s is not a state file", path);
    if (is->format != SLOT_FORMAT || is->header_bytes != sizeof *is) {
        return FAIL(MISMATCH, "%s has format %" PRIu32 "; this program reads format %u", path,
                    is->format, SLOT_FORMAT);
    }
    if (is->header_hash != header_hash(is)) {
        return FAIL(MISMATCH, "%s is damaged: the checksum of its header does not hold", path);
    }
    if (is->model_hash != should->model_hash) {
        return FAIL(MISMATCH, "%s is a state of model %016" PRIx64 ", not of %016" PRIx64, path,
                    is->model_hash, should->model_hash);
    }
    if (is->slot_bytes != should->slot_bytes) {
        return FAIL(MISMATCH, "%s holds a state of %" PRIu64 " bytes, not of %" PRIu64, path,
                    is->slot_bytes, should->slot_bytes);
    }
    if (memcmp(is->numerics, should->numerics, sizeof is->numerics) != 0) {
        char numerics[sizeof is->numerics];
        printable(is->numerics, numerics, sizeof numerics);
        return FAIL(MISMATCH, "%s was computed with the numerics '%s', not '%s'", path, numerics,
                    should->numerics);
    }
    if (is->position != should->position) {
        return FAIL(MISMATCH, "%s is the state at position %" PRId64 ", not %" PRId64, path,
                    is->position, should->position);
    }
    if (is->key != should->key) {
        return FAIL(MISMATCH, "%s is the state of key %016" PRIx64 ", not %016" PRIx64, path,
                    is->key, should->key);
    }
    if (file_bytes != sizeof *is + should->slot_bytes) {
        return FAIL(MISMATCH, "%s is damaged: %zu bytes instead of %" PRIu64, path, file_bytes,
                    sizeof *is + should->slot_bytes);
    }
    return STATUS_OK;
}

enum status slot_file_read(const char *path, const struct slot_file *what, void *state) {
    enum status status = STATUS_OK;
    struct header is = {0}, should;
    struct stat about;
    size_t got = 0;
    header_fill(what, 0, &should);
    // O_NONBLOCK: a pipe of that name must not hang this, and is refused below.
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return FAIL(IO, "%s: cannot open a state file: %s", path, strerror(errno));
    if (fstat(file, &about) != 0 || !S_ISREG(about.st_mode)) {
        status = FAIL(MISMATCH, "%s is not a regular file", path);
        goto out;
    }
    TRY_OUT(status, read_all(file, path, &is, sizeof is, &got));
    if (got < sizeof is) {
        status = FAIL(MISMATCH, "%s is damaged: cut short after %zu bytes", path, got);
        goto out;
    }
    TRY_OUT(status, header_check(path, &is, &should, (size_t)about.st_size));
    TRY_OUT(status, read_all(file, path, state, what->slot_bytes, &got));
    if (got < what->slot_bytes || XXH3_64bits(state, what->slot_bytes) != is.state_hash) {
        status = FAIL(MISMATCH, "%s is damaged: the checksum of the state does not hold", path);
    }
out:
    close(file);
    return status;
}
