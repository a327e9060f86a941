#include "src/launch.h"

#include "ops/base/log.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

int launch_exit_code(int exit_code) {
    const bool launched = getenv(LAUNCH_LAUNCHER) != NULL;
    return launched && exit_code == 1 ? LAUNCH_CODE_UNEXPECTED : exit_code;
}

static int lost(const char *what, int signal_number) {
    if (signal_number > 0) {
        LOG(ERROR, "%s was ended by signal %d (%s): exit code 142; mpirun's lines above say more",
            what, signal_number, strsignal(signal_number));
    } else {
        LOG(ERROR, "%s: exit code 142; mpirun's lines above say more", what);
    }
    return 142;
}

int launch_outcome(int wait_status, bool forced) {
    if (forced) {
        LOG(WARN, "the ranks were ended by force; what they had not committed will be done again");
        return 142;
    }
    if (WIFSIGNALED(wait_status)) return lost("mpirun", WTERMSIG(wait_status));
    const int code = WEXITSTATUS(wait_status);
    if (code == LAUNCH_CODE_UNEXPECTED) return 1;
    if (code == 0 || (code >= 2 && code <= 6) || (code >= 140 && code <= 143)) {
        // 139 and below 140 are 128 + a signal; 140 to 143 are ours, for no rank of ours dies of
        // the signals 12 to 15 unnoticed: it handles SIGTERM, and the others end it with a message.
        return code;
    }
    if (code > 128 && code <= 128 + 64) return lost("a rank", code - 128);
    if (code == 1) return lost("mpirun lost a rank or a machine, or could not start", 0);
    LOG(ERROR, "mpirun ended with %d, which no rank gives: exit code 1", code);
    return 1;
}

// Field `at` of LONGSCAN_TERMINAL, or -1 where `longscan run` has not said.
static int32_t launch_terminal(int at) {
    const char *text = getenv(LAUNCH_TERMINAL);
    for (; text != NULL && at > 0; at--) {
        text = strchr(text, ' ');
        if (text != NULL) text++;
    }
    if (text == NULL || *text < '0' || *text > '9') return -1;
    const long value = strtol(text, NULL, 10);
    return value < 10000 ? (int32_t)value : -1;
}

bool launch_is_through_mpirun(void) {
    return getenv(LAUNCH_TERMINAL) != NULL;
}

bool launch_output_is_terminal(void) {
    const int32_t said = launch_terminal(0);
    return said >= 0 ? said == 1 : isatty(STDOUT_FILENO) == 1;
}

bool launch_error_is_terminal(void) {
    const int32_t said = launch_terminal(1);
    return said >= 0 ? said == 1 : isatty(STDERR_FILENO) == 1;
}

int32_t launch_columns(void) {
    struct winsize size = {0};
    const int32_t said = launch_terminal(2);
    if (said > 0) return said;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return 80;
}
