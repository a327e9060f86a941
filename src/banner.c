#define _GNU_SOURCE // for pipe2

#include "src/banner.h"

#include "ops/base/log.h"
#include "src/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DASHES_LEAST 70
#define POLL_MS      100

void banner_open(FILE *out, struct banner *banner) {
    *banner = (struct banner){.out = out};
}

static void pass(struct banner *banner, const char *data, size_t bytes) {
    if (bytes == 0) return;
    fwrite(data, 1, bytes, banner->out);
    const char before = bytes > 1 ? data[bytes - 2] : banner->last;
    banner->last = data[bytes - 1];
    banner->mid_line = banner->last != '\n';
    banner->bar = before == '[' && banner->last == 'K'; // the end of "\033[K"
}

static void let_go(struct banner *banner) {
    pass(banner, banner->held, banner->bytes);
    banner->bytes = 0;
    banner->mode = BANNER_PASS;
}

static void drop(struct banner *banner) {
    banner->bytes = 0;
    banner->mode = BANNER_PASS;
}

// Text of the banner without its frame, one line.
static void fold(struct banner *banner) {
    char *text = banner->held + strspn(banner->held, "-\n");
    text[strcspn(text, "\n")] = '\0';
    fflush(banner->out);
    LOG(WARN, "%s", text);
    drop(banner);
}

// A whole banner, or a line of mpirun's own, is held.
static void judge(struct banner *banner) {
    static const char *const known[] = {
        "MPI_ABORT was invoked on rank",
        "Primary job  terminated normally",
        "mpirun detected that one or more processes exited with non-zero status",
        "more process has sent help message",
        "more processes have sent help message",
        "to 0 to see all help / error messages",
        "mpirun: Forwarding signal ",
        "orte/util/show_help.c", // it could not say one of the above
    };
    banner->held[banner->bytes] = '\0';
    if (strncmp(banner->held, LAUNCH_FAILED, sizeof LAUNCH_FAILED - 1) == 0) {
        const long code = strtol(banner->held + sizeof LAUNCH_FAILED - 1, NULL, 10);
        if (atomic_load(&banner->failed) == 0 && code > 0 && code < 256) {
            atomic_store(&banner->failed, (int)code);
        }
        drop(banner);
        return;
    }
    if (log_on(LOG_DEBUG)) {
        let_go(banner);
        return;
    }
    if (strstr(banner->held, "mpirun noticed that process rank") != NULL) {
        fold(banner);
        return;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strstr(banner->held, known[i]) != NULL) {
            drop(banner);
            return;
        }
    }
    let_go(banner);
}

static bool is_frame(const char *line, size_t bytes) {
    return bytes > DASHES_LEAST && strspn(line, "-") == bytes - 1;
}

static void hold(struct banner *banner, char c, enum banner_mode mode) {
    if (banner->bytes == 0) banner->line = 0;
    banner->held[banner->bytes++] = c;
    banner->mode = mode;
}

static void take_held(struct banner *banner, char c) {
    const enum banner_mode mode = banner->mode;
    if (mode == BANNER_DASHES && c != '-' && (c != '\n' || banner->bytes < DASHES_LEAST)) {
        let_go(banner);
        banner_take(banner, &c, 1);
        return;
    }
    hold(banner, c, mode);
    if (c == '\n') {
        banner->held[banner->bytes] = '\0';
        const bool framed = is_frame(banner->held + banner->line, banner->bytes - banner->line);
        if (mode == BANNER_LINE || (mode == BANNER_BLOCK && framed)) {
            judge(banner);
            return;
        }
        banner->mode = BANNER_BLOCK;
        banner->line = banner->bytes;
    }
    if (banner->bytes == BANNER_MOST) let_go(banner);
}

// What may be held from here on: a frame, a rank's word, a line of mpirun's own ("[host:process] ...",
// "mpirun: ...").
static enum banner_mode mode_at(const struct banner *banner, char c) {
    if (c == '-') return BANNER_DASHES;
    if (c == LAUNCH_FAILED[0]) return BANNER_LINE;
    return (!banner->mid_line || banner->bar) && (c == '[' || c == 'm') ? BANNER_LINE : BANNER_PASS;
}

void banner_take(struct banner *banner, const char *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        const enum banner_mode mode = mode_at(banner, data[i]);
        if (banner->mode != BANNER_PASS) {
            take_held(banner, data[i]);
        } else if (mode != BANNER_PASS) {
            hold(banner, data[i], mode);
        } else {
            pass(banner, data + i, 1);
        }
    }
}

void banner_end(struct banner *banner, bool terminal) {
    let_go(banner);
    // a rank's bar, when the rank did not live to take it away
    if (banner->mid_line) fputs(terminal ? "\r\033[K" : "\n", banner->out);
    banner->mid_line = false;
    fflush(banner->out);
}

static void *read_pipe(void *argument) {
    struct banner_pipe *pipe = argument;
    struct pollfd wait = {.fd = pipe->from, .events = POLLIN};
    char data[4096];
    while (true) {
        const bool ended = atomic_load(&pipe->ended);
        const int ready = poll(&wait, 1, POLL_MS);
        if (ready == 0 && ended) break; // something else holds the pipe open
        if (ready <= 0) continue;
        const ssize_t got = read(pipe->from, data, sizeof data);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        banner_take(&pipe->banner, data, (size_t)got);
        fflush(pipe->banner.out);
    }
    banner_end(&pipe->banner, pipe->terminal);
    return NULL;
}

bool banner_pipe_open(struct banner_pipe *pipe) {
    int ends[2] = {-1, -1};
    const int own = dup(STDERR_FILENO);
    FILE *out = own >= 0 ? fdopen(own, "w") : NULL;
    *pipe = (struct banner_pipe){.from = -1, .to = -1, .terminal = launch_error_is_terminal()};
    if (out == NULL || pipe2(ends, O_CLOEXEC) != 0) goto failed;
    fcntl(own, F_SETFD, FD_CLOEXEC);
    pipe->from = ends[0];
    pipe->to = ends[1];
    banner_open(out, &pipe->banner);
    if (pthread_create(&pipe->thread, NULL, read_pipe, pipe) == 0) return true;
    close(ends[0]);
    close(ends[1]);
    pipe->from = -1;
    pipe->to = -1;
failed:
    if (out != NULL) {
        fclose(out);
    } else if (own >= 0) {
        close(own);
    }
    return false;
}

void banner_pipe_use(const struct banner_pipe *pipe) {
    if (pipe->to >= 0) dup2(pipe->to, STDERR_FILENO);
}

void banner_pipe_started(struct banner_pipe *pipe) {
    if (pipe->to >= 0) close(pipe->to);
    pipe->to = -1;
}

void banner_pipe_close(struct banner_pipe *pipe) {
    if (pipe->from < 0) return;
    banner_pipe_started(pipe);
    atomic_store(&pipe->ended, true);
    pthread_join(pipe->thread, NULL);
    fclose(pipe->banner.out);
    close(pipe->from);
    pipe->from = -1;
}
