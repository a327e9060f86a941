#pragma once
// What mpirun says on standard error beside its ranks: framed banners of many lines. Those that say
// no more than an exit code does are left out; the one that names a lost rank becomes a line of
// ours. Whatever is not known passes as it is.

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#define BANNER_MOST 4096 // bytes of the longest banner that is looked at

enum banner_mode { BANNER_PASS, BANNER_DASHES, BANNER_BLOCK, BANNER_LINE };

struct banner {
    FILE *out;
    enum banner_mode mode;
    bool mid_line; // what was passed on does not end with a line's end
    bool bar;      // but with a rank's bar, after which mpirun may say something
    char last;     // byte that was passed on
    char held[BANNER_MOST + 1];
    size_t bytes, line; // held; where its last line begins
    atomic_int failed; // the exit code a rank has said it fails with, see src/launch.h; 0: none has
};

void banner_open(FILE *out, struct banner *banner); // borrows out
void banner_take(struct banner *banner, const char *data, size_t bytes);
// Passes on what is held, and ends the line.
void banner_end(struct banner *banner, bool terminal);

// The same between a pipe, which the child gets as its standard error, and our own.
struct banner_pipe {
    struct banner banner;
    pthread_t thread;
    int from, to; // the pipe; -1: there is none
    bool terminal;
    atomic_bool ended; // what wrote into the pipe
};

// false: no pipe could be had, and standard error is as it was. Thread: the caller has blocked the
// signals that are not for the new thread.
bool banner_pipe_open(struct banner_pipe *pipe);
// In the child.
void banner_pipe_use(const struct banner_pipe *pipe);
// After the child has been started, and after it has ended. Both accept a pipe that is none.
void banner_pipe_started(struct banner_pipe *pipe);
void banner_pipe_close(struct banner_pipe *pipe);
