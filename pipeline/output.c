// Outputs that appear under their name only when they are complete.
#define _XOPEN_SOURCE 700 // realpath
#include "pipeline/output.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PACKED_BYTES ((size_t)64 * 1024)

static void free_buffers(struct output *output) {
    bytes_free(&output->pending);
    packer_close(output->packer);
    free(output->packed);
    output->packer = NULL;
    output->packed = NULL;
}

static void output_free(struct output *output) {
    if (output == NULL) return;
    if (output->fd >= 0 && output->fd != STDOUT_FILENO) close(output->fd);
    free_buffers(output);
    free(output->partial);
    free(output->path);
    free(output);
}

void output_drop(struct output *output) {
    if (output == NULL) return;
    if (output->partial != NULL && unlink(output->partial) != 0) {
        LOG(WARN, "cannot remove %s: %s", output->partial, strerror(errno));
    }
    output_free(output);
}

// The file behind a link is what gets replaced, not the link.
static char *follow_links(const char *path) {
    struct stat about;
    char *target = NULL;
    if (lstat(path, &about) == 0 && S_ISLNK(about.st_mode)) target = realpath(path, NULL);
    return target != NULL ? target : strdup(path);
}

static char *partial_of(const char *path) {
    size_t bytes = strlen(path) + sizeof ".partial";
    char *partial = malloc(bytes);
    if (partial != NULL) snprintf(partial, bytes, "%s.partial", path);
    return partial;
}

static enum status open_path(struct output *output, const char *path) {
    struct stat about;
    output->path = follow_links(path);
    if (output->path == NULL) return FAIL(NO_MEMORY, "the name of the output %s", path);
    if (stat(output->path, &about) == 0 && !S_ISREG(about.st_mode)) {
        if (S_ISDIR(about.st_mode)) return FAIL(IO, "cannot write %s: it is a folder", path);
        output->fd = open(output->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        return output->fd >= 0 ? STATUS_OK : FAIL(IO, "cannot write %s: %s", path, strerror(errno));
    }
    char *partial = partial_of(output->path);
    if (partial == NULL) return FAIL(NO_MEMORY, "the name of the output %s", path);
    output->fd = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (output->fd < 0) {
        enum status status = FAIL(IO, "cannot create %s: %s", partial, strerror(errno));
        free(partial);
        return status;
    }
    output->partial = partial;
    return STATUS_OK;
}

static enum status open_packer(struct output *output, enum packing packing) {
    if (packing == PACKING_NONE) return STATUS_OK;
    output->packed = malloc(PACKED_BYTES);
    if (output->packed == NULL) return FAIL(NO_MEMORY, "the output %s", output->path);
    return packer_open(packing, &output->packer);
}

enum status output_check_name(const char *path) {
    const char *extension = packing_unsupported(path);
    if (extension == NULL) return STATUS_OK;
    return FAIL(USAGE,
                "cannot write %s: %s is not supported; name it .gz or .zst to have it packed", path,
                extension);
}

enum status output_open(const char *path, struct output **opened) {
    TRY(output_check_name(path));
    struct output *output = calloc(1, sizeof *output);
    if (output == NULL) return FAIL(NO_MEMORY, "the output %s", path);
    enum status status = STATUS_OK;
    output->fd = -1;
    if (strcmp(path, "-") == 0) {
        output->fd = STDOUT_FILENO;
        output->path = strdup("standard output");
        if (output->path == NULL) status = FAIL(NO_MEMORY, "the output %s", path);
    } else {
        status = open_path(output, path);
        if (status == STATUS_OK) status = open_packer(output, packing_of(path));
    }
    if (status != STATUS_OK) {
        output_drop(output);
        return status;
    }
    *opened = output;
    return STATUS_OK;
}

static enum status write_all(const struct output *output, const char *data, size_t bytes) {
    size_t at = 0;
    while (at < bytes) {
        ssize_t written = write(output->fd, data + at, bytes - at);
        if (written >= 0) {
            at += (size_t)written;
        } else if (errno == EAGAIN) { // a pipe that somebody has made non-blocking
            struct pollfd wait = {.fd = output->fd, .events = POLLOUT};
            poll(&wait, 1, 1000);
        } else if (errno != EINTR) {
            return FAIL(IO, "cannot write %s: %s",
                        output->partial != NULL ? output->partial : output->path, strerror(errno));
        }
    }
    return STATUS_OK;
}

static enum status write_pending(struct output *output, enum packer_end end) {
    struct bytes *pending = &output->pending;
    size_t at = 0;
    if (output->packer == NULL) TRY(write_all(output, pending->data, pending->count));
    for (bool done = output->packer == NULL; !done;) {
        struct packing_run run = {.in = pending->data + at,
                                  .in_bytes = pending->count - at,
                                  .out = output->packed,
                                  .room = PACKED_BYTES};
        TRY(packer_run(output->packer, &run, end, &done));
        TRY(write_all(output, output->packed, run.made));
        at += run.used;
    }
    output->kept_back = end == PACKER_GO_ON;
    pending->count = 0;
    return STATUS_OK;
}

enum status output_write(struct output *output) {
    return write_pending(output, PACKER_GO_ON);
}

enum status output_flush(struct output *output) {
    const bool any = output->pending.count > 0 || output->kept_back;
    return any ? write_pending(output, PACKER_FLUSH) : STATUS_OK;
}

// A rename is kept for good once its folder is. Some file systems cannot sync a folder: so be it.
void output_sync_folder(const char *path) {
    char *copy = strdup(path);
    if (copy == NULL) return;
    int folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        (void)fsync(folder);
        close(folder);
    }
    free(copy);
}

// To the final name. Without leave to replace, a hard link: it fails where the name is taken.
static enum status rename_into_place(const struct output *output, bool replace) {
    if (!replace) {
        if (link(output->partial, output->path) == 0) {
            return unlink(output->partial) == 0
                       ? STATUS_OK
                       : FAIL(IO, "cannot remove %s: %s", output->partial, strerror(errno));
        }
        bool taken = errno == EEXIST || access(output->path, F_OK) == 0;
        if (taken) return FAIL(USAGE, "%s exists and may not be replaced", output->path);
    }
    if (rename(output->partial, output->path) != 0) {
        return FAIL(IO, "cannot rename %s to %s: %s", output->partial, output->path,
                    strerror(errno));
    }
    return STATUS_OK;
}

// A second earlier, as some file systems keep no less.
static enum status date_before(const struct output *output) {
    struct stat about;
    if (output->partial == NULL || stat(output->before, &about) != 0) return STATUS_OK;
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                      {.tv_sec = about.st_mtim.tv_sec - 1}};
    if (futimens(output->fd, times) == 0) return STATUS_OK;
    return FAIL(IO, "cannot date %s: %s", output->partial, strerror(errno));
}

enum status output_end(struct output *output) {
    TRY(write_pending(output, PACKER_FINISH));
    if (output->before != NULL) TRY(date_before(output));
    free_buffers(output); // many may wait for their names
    return STATUS_OK;
}

enum status output_sync(struct output *output) {
    if (output->partial == NULL || fsync(output->fd) == 0) return STATUS_OK;
    return FAIL(IO, "cannot write %s: %s", output->partial, strerror(errno));
}

enum status output_name(struct output *output, bool replace) {
    enum status status = STATUS_OK;
    int closed = 0;
    if (output->partial == NULL) goto out;
    closed = close(output->fd);
    output->fd = -1;
    if (closed != 0) {
        status = FAIL(IO, "cannot write %s: %s", output->partial, strerror(errno));
        goto out;
    }
    TRY_OUT(status, rename_into_place(output, replace));
    free(output->partial);
    output->partial = NULL; // it is not there any more
out:
    output_drop(output);
    return status;
}

enum status output_finish(struct output *output, bool replace) {
    char *path = strdup(output->path);
    enum status status = output_end(output);
    if (status == STATUS_OK) status = output_sync(output);
    if (status != STATUS_OK) {
        output_drop(output);
    } else {
        status = output_name(output, replace);
        if (path != NULL) output_sync_folder(path);
    }
    free(path);
    return status;
}

void output_remove_partial(const char *path) {
    char *target = follow_links(path);
    char *partial = target == NULL ? NULL : partial_of(target);
    if (partial != NULL && unlink(partial) != 0 && errno != ENOENT) {
        LOG(WARN, "cannot remove %s: %s", partial, strerror(errno));
    }
    free(partial);
    free(target);
}
