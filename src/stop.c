#include "src/stop.h"

#include "src/settings.h"

#include <signal.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop_asked;
static volatile sig_atomic_t stop_counted; // SIGTERM or SIGINT has come
static struct timespec stop_first;         // when; the handler's own

static bool came_just_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const int64_t ms = (int64_t)(now.tv_sec - stop_first.tv_sec) * 1000 +
                       (now.tv_nsec - stop_first.tv_nsec) / 1000000;
    return ms < STOP_TWICE_MS;
}

// The shell sees an end by SIGINT, which also ends its loops; process 1 of a container, which no
// signal ends, leaves with the same code. Only what a handler may call is called.
static void end_at_once(void) {
    static const char text[] = "\nlongscan: ended at once by a second signal\n";
    sigset_t interrupt;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(STOP_AT_ONCE);
    signal(SIGINT, SIG_DFL);
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &interrupt, NULL);
    raise(SIGINT);
    _exit(STOP_AT_ONCE);
}

static void on_stop(int number) {
    if (number != SIGUSR1) {
        if (stop_counted == 0) {
            clock_gettime(CLOCK_MONOTONIC, &stop_first);
            stop_counted = 1;
        } else if (!came_just_now()) {
            end_at_once();
        }
    }
    stop_asked = number;
}

void stop_install(void) {
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    // One at a time, whichever thread takes it.
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGUSR1);
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

bool stop_requested(void) {
    return stop_asked != 0;
}
