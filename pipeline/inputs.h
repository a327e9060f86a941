#pragma once
// The files that an --input SRC stands for, in a fixed order: the order numbers the partitions.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct input {
    char *path;       // as opened; "-": standard input
    const char *name; // the path without its folders; "stdin" for standard input
    int64_t bytes;    // -1: unknown (not a regular file, or not there)
    bool unreadable;  // found out by the source, which says so before the partition's end: then its
                      // output is not complete, whatever is in it
    bool cut;         // it goes on behind a limit of documents; found out in the same way
};

struct inputs {
    struct input *input; // [count]
    int64_t count;
    size_t room;
    bool alone; // SRC names one file, or standard input: not a folder, glob or list
};

// SRC is a file, a folder (its regular files, not those of folders inside it), a glob, @LIST (a
// file with one path a line, kept in its order) or "-". Folders and globs give their files sorted
// by path; hidden files and *.partial are left out of them. Owns: *inputs is the caller's.
// Errors: USAGE (nothing there, or packed in a way that is not known), IO, NO_MEMORY.
enum status inputs_expand(const char *source, struct inputs *inputs);
void inputs_free(struct inputs *inputs);
