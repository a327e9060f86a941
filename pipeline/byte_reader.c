// A file or a pipe, a buffer at a time.
#include "pipeline/byte_reader.h"

#include "ops/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES   ((size_t)256 * 1024) // the smallest buffer; larger ones read no faster
#define PACKED_BYTES ((size_t)64 * 1024)

__attribute__((format(printf, 2, 3))) static enum status refuse(struct byte_reader *reader,
                                                                const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reader->wrong, sizeof reader->wrong, format, arguments);
    va_end(arguments);
    return STATUS_IO;
}

static enum status open_unpacker(struct byte_reader *reader) {
    struct unpacker **unpacker = &reader->unpackers[reader->packing];
    if (reader->packing == PACKING_NONE) return STATUS_OK;
    if (reader->packed == NULL) reader->packed = malloc(PACKED_BYTES);
    if (reader->packed == NULL) return FAIL(NO_MEMORY, "%s: bytes to unpack", reader->path);
    if (*unpacker != NULL) {
        unpacker_reset(*unpacker);
        return STATUS_OK;
    }
    return unpacker_open(reader->packing, unpacker);
}

enum status byte_reader_open(struct byte_reader *reader, const char *path) {
    struct stat about;
    const bool standard = strcmp(path, "-") == 0;
    reader->path = standard ? "standard input" : path;
    reader->begin = reader->end = reader->packed_begin = reader->packed_end = 0;
    reader->ended = reader->packed_ended = false;
    reader->read = 0;
    reader->size = -1;
    reader->wrong[0] = '\0';
    reader->packing = standard ? PACKING_NONE : packing_of(path);
    // Without O_NONBLOCK a named pipe would hold us here until somebody writes to it.
    reader->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (reader->fd < 0) return refuse(reader, "cannot open it: %s", strerror(errno));
    reader->open = true;
    enum status status = STATUS_OK;
    if (fstat(reader->fd, &about) != 0) {
        status = refuse(reader, "cannot read it: %s", strerror(errno));
    } else if (S_ISDIR(about.st_mode)) {
        status = refuse(reader, "cannot read it: it is a folder");
    } else {
        reader->regular = S_ISREG(about.st_mode);
        // Standard input may be a regular file that somebody has read a part of.
        if (reader->regular && !standard) reader->size = about.st_size;
        status = open_unpacker(reader);
    }
    if (status != STATUS_OK) byte_reader_close(reader);
    return status;
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

static enum status wait_readable(struct byte_reader *reader, int64_t deadline_ms) {
    if (reader->regular) return STATUS_OK;
    int64_t left = deadline_ms - clock_ms();
    left = left < 0 ? 0 : left > INT_MAX ? INT_MAX : left;
    struct pollfd wait = {.fd = reader->fd, .events = POLLIN};
    int ready = poll(&wait, 1, (int)left);
    if (ready == 0 || (ready < 0 && errno == EINTR)) return STATUS_AGAIN;
    if (ready < 0) return refuse(reader, "cannot wait for it: %s", strerror(errno));
    return STATUS_OK;
}

// Some bytes as they are in the file. *got 0: it has ended.
static enum status read_some(struct byte_reader *reader, char *data, size_t room,
                             int64_t deadline_ms, size_t *got) {
    for (;;) {
        TRY(wait_readable(reader, deadline_ms));
        ssize_t count = read(reader->fd, data, room);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) return STATUS_AGAIN;
        if (count < 0) return refuse(reader, "cannot read it: %s", strerror(errno));
        *got = (size_t)count;
        reader->read += count;
        // Half a document must not be scored as a whole one.
        if (count == 0 && reader->size > reader->read) {
            return refuse(reader, "it shrank while it was read: %lld of %lld bytes",
                          (long long)reader->read, (long long)reader->size);
        }
        return STATUS_OK;
    }
}

// Some more of what is packed. *got 0 and OK: perhaps nothing yet, or the file has ended.
static enum status unpack_some(struct byte_reader *reader, char *data, size_t room,
                               int64_t deadline_ms, size_t *got) {
    struct unpacker *unpacker = reader->unpackers[reader->packing];
    struct packing_run run = {.in = reader->packed + reader->packed_begin,
                              .in_bytes = reader->packed_end - reader->packed_begin,
                              .out = data,
                              .room = room};
    const char *wrong = unpacker_run(unpacker, &run);
    reader->packed_begin += run.used;
    *got = run.made;
    if (wrong != NULL) {
        const size_t left = reader->packed_end - reader->packed_begin;
        return refuse(reader, "its packed data is damaged at byte %lld: %s",
                      (long long)reader->read - (long long)left, wrong);
    }
    if (run.used > 0 || run.made > 0) return STATUS_OK;
    if (run.in_bytes > 0) return refuse(reader, "its packed data cannot be unpacked");
    if (reader->packed_ended) {
        reader->ended = true;
        return unpacker_may_end(unpacker)
                   ? STATUS_OK
                   : refuse(reader, "its packed data is cut off: it ends at byte %lld",
                            (long long)reader->read);
    }
    size_t more = 0;
    reader->packed_begin = reader->packed_end = 0;
    TRY(read_some(reader, reader->packed, PACKED_BYTES, deadline_ms, &more));
    reader->packed_end = more;
    reader->packed_ended = more == 0;
    return STATUS_OK;
}

enum status byte_reader_fill(struct byte_reader *reader, size_t want, int64_t deadline_ms) {
    if (reader->ended || reader->end - reader->begin >= want) return STATUS_OK;
    TRY(make_room(reader, want));
    while (!reader->ended && reader->end < want) {
        // Little ahead of need: a buffer that one long line has stretched need not be filled again.
        size_t ask = want - reader->end < READ_BYTES ? READ_BYTES : want - reader->end;
        if (ask > reader->room - reader->end) ask = reader->room - reader->end;
        size_t got = 0;
        char *data = reader->data + reader->end;
        if (reader->packing == PACKING_NONE) {
            TRY(read_some(reader, data, ask, deadline_ms, &got));
            reader->ended = got == 0;
        } else {
            TRY(unpack_some(reader, data, ask, deadline_ms, &got));
        }
        reader->end += got;
    }
    return STATUS_OK;
}

void byte_reader_close(struct byte_reader *reader) {
    if (reader->open && reader->fd != STDIN_FILENO) close(reader->fd);
    reader->open = false;
}

void byte_reader_free(struct byte_reader *reader) {
    byte_reader_close(reader);
    for (int i = 0; i < PACKINGS; i++) {
        unpacker_close(reader->unpackers[i]);
    }
    free(reader->packed);
    free(reader->data);
    *reader = (struct byte_reader){0};
}
