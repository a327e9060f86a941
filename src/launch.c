#include "src/launch.h"

#include "ops/base/status.h"
#include "src/stop.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MPIRUN_LOST_MACHINE 205 // it has lost the connection to its daemon there

bool launch_promises(int32_t ranks, char *text, size_t bytes) {
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", LAUNCH_WORLD};
    char number[16];
    bool differs = false;
    size_t at = 0;
    *text = '\0';
    snprintf(number, sizeof number, "%d", ranks);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);
        if (value == NULL) continue;
        snprintf(text + at, bytes - at, "%s%s=%.40s", at > 0 ? ", " : "", names[i], value);
        at = strlen(text);
        differs = differs || strcmp(value, number) != 0;
    }
    return differs;
}

int launch_exit_code(int exit_code) {
    const bool launched = getenv(LAUNCH_LAUNCHER) != NULL;
    return launched && exit_code == 1 ? LAUNCH_CODE_UNEXPECTED : exit_code;
}

void launch_tell_failure(int exit_code) {
    char text[64];
    if (getenv(LAUNCH_LAUNCHER) == NULL) return;
    const int bytes = snprintf(text, sizeof text, "%s%d\n", LAUNCH_FAILED, exit_code);
    if (write(STDERR_FILENO, text, (size_t)bytes) < 0) return; // then mpirun's end must do
}

static int lost(const char *what, int signal_number) {
    if (signal_number > 0) {
        LOG(ERROR, "run: exit code 142: %s was ended by signal %d (%s)", what, signal_number,
            strsignal(signal_number));
    } else {
        LOG(ERROR, "run: exit code 142: %s; the lines above say more", what);
    }
    return 142;
}

// The ranks have said what is wrong; this says what the shell will hear, after whatever mpirun said.
static int own_word(int code) {
    enum status meaning = STATUS_OK;
    if (code == 0) return code;
    while (status_exit_code(meaning) != code && meaning != STATUS_STOPPED) {
        meaning = (enum status)(meaning + 1);
    }
    if (meaning == STATUS_AGAIN) meaning = STATUS_UNEXPECTED; // they share a code
    if (code == status_exit_code(STATUS_STOPPED)) {
        LOG(INFO, "run: exit code %d: %s", code, status_text(STATUS_STOPPED));
    } else if (status_exit_code(meaning) == code) {
        LOG(ERROR, "run: exit code %d: %s; the lines above say more", code, status_text(meaning));
    } else {
        LOG(ERROR, "run: exit code %d; the lines above say more", code);
    }
    return code;
}

int launch_outcome(int wait_status, bool forced, int failed) {
    if (forced) {
        LOG(ERROR,
            "run: exit code %d: the ranks were ended by force; what they had not committed "
            "will be done again",
            STOP_AT_ONCE);
        return STOP_AT_ONCE;
    }
    if (failed > 0) return own_word(failed);
    if (WIFSIGNALED(wait_status)) return lost("mpirun", WTERMSIG(wait_status));
    const int code = WEXITSTATUS(wait_status);
    if (code == LAUNCH_CODE_UNEXPECTED) return own_word(1);
    if (code == STOP_AT_ONCE) {
        LOG(ERROR, "run: exit code %d: a rank was ended at once by a second signal", code);
        return code;
    }
    if (code == 0 || (code >= 2 && code <= 6) || (code >= 140 && code <= 143)) {
        // 139 and below 140 are 128 + a signal; 140 to 143 are ours, for no rank of ours dies of
        // the signals 12 to 15 unnoticed: it handles SIGTERM, and the others end it with a message.
        return own_word(code);
    }
    if (code > 128 && code <= 128 + 64) return lost("a rank", code - 128);
    if (code == 1 || code == MPIRUN_LOST_MACHINE) {
        return lost("mpirun lost a rank or a machine, or could not start", 0);
    }
    LOG(ERROR, "run: exit code 1: mpirun ended with %d, which no rank gives", code);
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
