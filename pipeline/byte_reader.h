#pragma once
// A file or a pipe read through one buffer, unpacked if its name says that it is packed, with a
// deadline: a pipe may stay silent for long.

#include "pipeline/packing.h"

#include <stdint.h>

// What has been read and not yet used is data[begin, end); the user moves begin. Zero it to begin;
// one reader can read many files, one after another, with the same buffers.
struct byte_reader {
    bool open;
    int fd;
    const char *path; // borrowed
    char *data;
    size_t room, begin, end;
    bool regular, ended; // ended: nothing follows data[begin, end)
    int64_t size;        // of a regular file when it was opened, packed or not; -1: unknown
    int64_t read;        // bytes of the file so far, packed or not

    enum packing packing;
    struct unpacker *unpackers[PACKINGS]; // made when first needed
    char *packed;                         // not yet unpacked: packed[packed_begin, packed_end)
    size_t packed_begin, packed_end;
    bool packed_ended;

    char wrong[320]; // after IO: what is wrong with the file; its name is not in it
};

// "-" is standard input. Errors: IO (not logged; wrong says why).
enum status byte_reader_open(struct byte_reader *reader, const char *path);
// Read on until at least `want` bytes are there or the file has ended. Moves the data to the
// buffer's front; the buffer grows to little more than `want`. deadline_ms: of clock_ms().
// Errors: AGAIN (what was read stays), IO (also a file that shrank meanwhile, and a packed one that
// is damaged or cut off; not logged, wrong says why), NO_MEMORY.
enum status byte_reader_fill(struct byte_reader *reader, size_t want, int64_t deadline_ms);
void byte_reader_close(struct byte_reader *reader); // the file; may be opened again
void byte_reader_free(struct byte_reader *reader);  // and the buffers
