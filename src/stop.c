#include "src/stop.h"

#include "src/settings.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t stop_asked;

static void on_stop(int number) {
    // Whoever presses Ctrl-C twice means it: the default action, and the shell sees a signal.
    if (number == SIGINT && stop_asked != 0) {
        signal(SIGINT, SIG_DFL);
        raise(SIGINT);
    }
    stop_asked = number;
}

void stop_install(void) {
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&action.sa_mask);
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

int stop_signal(void) {
    return (int)stop_asked;
}

bool stop_requested(void) {
    return stop_asked != 0;
}
