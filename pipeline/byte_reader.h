#pragma once
// A file or a pipe read through one buffer, with a deadline: a pipe may stay silent for long.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What has been read and not yet used is data[begin, end); the user moves begin.
struct byte_reader {
    int fd;
    const char *path; // borrowed
    char *data;
    size_t room, begin, end;
    bool regular, ended; // ended: nothing follows data[begin, end)
    int64_t size;        // of a regular file when it was opened; -1: unknown
    int64_t read;        // bytes so far
};

// "-" is standard input. Errors: IO.
enum status byte_reader_open(struct byte_reader *reader, const char *path);
// Read on until at least `want` bytes are there or the file has ended. Moves the data to the
// buffer's front; the buffer grows to little more than `want`. deadline_ms: of clock_ms().
// Errors: AGAIN (what was read stays), IO (also a file that shrank meanwhile), NO_MEMORY.
enum status byte_reader_fill(struct byte_reader *reader, size_t want, int64_t deadline_ms);
void byte_reader_close(struct byte_reader *reader);
