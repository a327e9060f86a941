// A file or a pipe, a buffer at a time.
#include "pipeline/byte_reader.h"

#include "ops/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES ((size_t)256 * 1024) // the smallest buffer; larger ones read no faster

enum status byte_reader_open(struct byte_reader *reader, const char *path) {
    struct stat about;
    *reader = (struct byte_reader){.fd = -1, .path = path, .size = -1};
    if (strcmp(path, "-") == 0) {
        reader->path = "standard input";
        reader->fd = STDIN_FILENO;
    } else {
        // Without O_NONBLOCK a named pipe would hold us here until somebody writes to it.
        reader->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    }
    if (reader->fd < 0) return FAIL(IO, "cannot open %s: %s", path, strerror(errno));
    if (fstat(reader->fd, &about) != 0 || S_ISDIR(about.st_mode)) {
        const char *why = S_ISDIR(about.st_mode) ? "it is a folder" : strerror(errno);
        enum status status = FAIL(IO, "cannot read %s: %s", reader->path, why);
        byte_reader_close(reader);
        return status;
    }
    reader->regular = S_ISREG(about.st_mode);
    // Standard input may be a regular file that somebody has read a part of.
    if (reader->regular && reader->fd != STDIN_FILENO) reader->size = about.st_size;
    return STATUS_OK;
}

static enum status make_room(struct byte_reader *reader, size_t want) {
    size_t held = reader->end - reader->begin;
    if (reader->begin > 0) memmove(reader->data, reader->data + reader->begin, held);
    reader->begin = 0;
    reader->end = held;
    // Twice as much, so that a long line is not moved at every read, but never twice a large want.
    size_t room = reader->room;
    if (want <= room) return STATUS_OK;
    if (want > SIZE_MAX / 4) return FAIL(NO_MEMORY, "%s: %zu bytes at once", reader->path, want);
    room = room * 2 > want + READ_BYTES ? room * 2 : want + READ_BYTES;
    char *data = realloc(reader->data, room);
    if (data == NULL) return FAIL(NO_MEMORY, "%s: %zu bytes to read into", reader->path, room);
    reader->data = data;
    reader->room = room;
    return STATUS_OK;
}

static enum status wait_readable(const struct byte_reader *reader, int64_t deadline_ms) {
    if (reader->regular) return STATUS_OK;
    int64_t left = deadline_ms - clock_ms();
    left = left < 0 ? 0 : left > INT_MAX ? INT_MAX : left;
    struct pollfd wait = {.fd = reader->fd, .events = POLLIN};
    int ready = poll(&wait, 1, (int)left);
    if (ready == 0 || (ready < 0 && errno == EINTR)) return STATUS_AGAIN;
    if (ready < 0) return FAIL(IO, "cannot wait for %s: %s", reader->path, strerror(errno));
    return STATUS_OK;
}

enum status byte_reader_fill(struct byte_reader *reader, size_t want, int64_t deadline_ms) {
    if (reader->ended || reader->end - reader->begin >= want) return STATUS_OK;
    TRY(make_room(reader, want));
    while (!reader->ended && reader->end < want) {
        TRY(wait_readable(reader, deadline_ms));
        // Little ahead of need: a buffer that one long line has stretched need not be filled again.
        size_t ask = want - reader->end < READ_BYTES ? READ_BYTES : want - reader->end;
        if (ask > reader->room - reader->end) ask = reader->room - reader->end;
        ssize_t got = read(reader->fd, reader->data + reader->end, ask);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) return STATUS_AGAIN;
        if (got < 0) return FAIL(IO, "cannot read %s: %s", reader->path, strerror(errno));
        reader->ended = got == 0;
        reader->end += (size_t)got;
        reader->read += got;
    }
    // Half a document must not be scored as a whole one.
    if (reader->ended && reader->size > reader->read) {
        return FAIL(IO, "%s shrank while it was read: %lld of %lld bytes", reader->path,
                    (long long)reader->read, (long long)reader->size);
    }
    return STATUS_OK;
}

void byte_reader_close(struct byte_reader *reader) {
    if (reader->fd >= 0 && reader->fd != STDIN_FILENO) close(reader->fd);
    free(reader->data);
    *reader = (struct byte_reader){.fd = -1};
}
