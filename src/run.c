// Verb `run`: starts ranks through mpirun, hands signals on in a form that lets them finish, and
// gives the shell the exit code that the ranks agreed on.
//
// mpirun answers SIGTERM by killing its ranks a moment later and always leaves with 1. SIGUSR1 it
// passes on at once and otherwise ignores. So the first request to stop becomes SIGUSR1, and the
// ranks drain, commit and leave with 143; a second SIGTERM or SIGINT becomes SIGTERM, a third SIGKILL.

#include "ops/base/clock.h"
#include "src/banner.h"
#include "src/launch.h"
#include "src/mpirun.h"
#include "src/option_table.h"
#include "src/options.h"
#include "src/stop.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

struct watch {
    pid_t mpirun;
    bool asked;         // to stop
    int64_t counted_ms; // when the last request came that is not SIGUSR1; 0: none yet
    int forced;         // how often since
    int64_t failed_ms;  // when a rank was seen to have failed; 0: none was
    int failed;         // its exit code, once mpirun has been ended for it
    int wait_status;
};

static const int watched[] = {SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGCHLD};
// After a rank has failed, mpirun needs a second or two to end all of them. One that waits for a
// machine that is gone, or stopped, would wait for a quarter of an hour, or for ever.
#define HANGING_MS 5000
#define KILL_MS    3000

#define WATCHED (sizeof watched / sizeof watched[0])

// In the child. SIGUSR1 is ignored until mpirun has set itself up, for it would end it; the
// others are as a shell would leave them.
__attribute__((noreturn)) static void become_mpirun(const struct mpirun *mpirun,
                                                    const struct settings *settings,
                                                    const struct banner_pipe *errors, pid_t parent,
                                                    const sigset_t *mask) {
    setpgid(0, 0); // so that a terminal's Ctrl-C reaches us only
    mpirun_set_environment(mpirun,
                           settings); // says what our standard error is: before it is a pipe
    banner_pipe_use(errors);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);
    for (size_t i = 0; i < WATCHED; i++) {
        if (watched[i] == SIGHUP) continue; // nohup may have had it ignored
        signal(watched[i], watched[i] == SIGUSR1 ? SIG_IGN : SIG_DFL);
    }
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(mpirun->argument[0], mpirun->argument);
    _exit(127);
}

// SIGUSR1 asks, however often it comes. What comes twice at once was meant once, see src/stop.h.
static void on_request(struct watch *watch, int number) {
    const int64_t now = clock_ms();
    if (!watch->asked) {
        LOG(INFO, "run: %s: the ranks finish and commit; once more ends them at once",
            strsignal(number));
        kill(watch->mpirun, SIGUSR1);
    }
    watch->asked = true;
    if (number == SIGUSR1) return;
    const bool again = watch->counted_ms != 0;
    if (again && now - watch->counted_ms < STOP_TWICE_MS) return;
    watch->counted_ms = now;
    if (!again) return;
    if (watch->forced++ == 0) LOG(WARN, "run: ending the ranks by force");
    kill(watch->mpirun, watch->forced == 1 ? SIGTERM : SIGKILL);
}

static void end_if_hanging(struct watch *watch, int failed) {
    const int64_t now = clock_ms();
    if (failed == 0 || watch->forced > 0) return;
    if (watch->failed_ms == 0) watch->failed_ms = now;
    if (now - watch->failed_ms < HANGING_MS) return;
    if (watch->failed == 0) {
        LOG(WARN, "run: mpirun does not end, though a rank has failed: a machine may be gone");
        kill(watch->mpirun, SIGTERM);
        watch->failed = failed;
    } else if (now - watch->failed_ms >= HANGING_MS + KILL_MS) {
        kill(watch->mpirun, SIGKILL);
    }
}

// Until mpirun has ended. The first request is repeated, ever more seldom, since mpirun or a rank
// may not have been listening yet.
static enum status watch_mpirun(struct watch *watch, const sigset_t *signals,
                                struct banner_pipe *errors) {
    const struct timespec second = {.tv_sec = 1};
    int64_t seconds = 0; // since the first request
    while (true) {
        const pid_t ended = waitpid(watch->mpirun, &watch->wait_status, WNOHANG);
        if (ended == watch->mpirun) return STATUS_OK;
        if (ended < 0 && errno != EINTR) {
            return FAIL(UNEXPECTED, "run: waiting for mpirun: %s", strerror(errno));
        }
        end_if_hanging(watch, atomic_load(&errors->banner.failed));
        const int number = sigtimedwait(signals, NULL, &second);
        if (number < 0) {
            if (!watch->asked || watch->forced > 0) continue;
            seconds++;
            // After 1, 2, 4, 8, ... seconds.
            if ((seconds & (seconds - 1)) == 0) kill(watch->mpirun, SIGUSR1);
        } else if (number != SIGCHLD) {
            on_request(watch, number);
        }
    }
}

static void watched_signals(sigset_t *signals) {
    struct sigaction hangup;
    sigemptyset(signals);
    for (size_t i = 0; i < WATCHED; i++) {
        sigaddset(signals, watched[i]);
    }
    // Under nohup it is to stay without effect, and a blocked signal is not ignored.
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler == SIG_IGN) {
        sigdelset(signals, SIGHUP);
    }
}

// Before a line of ours: a rank's bar may stand there. The rank draws it anew.
static void clear_bar(void) {
    fputs("\r\033[K", stderr);
}

static enum status start(const struct mpirun *mpirun, const struct settings *settings,
                         int *exit_code) {
    enum status status = STATUS_OK;
    struct watch watch = {0};
    struct banner_pipe errors;
    sigset_t signals;
    sigset_t before;
    watched_signals(&signals);
    sigprocmask(SIG_BLOCK, &signals, &before);
    const pid_t self = getpid();
    if (launch_error_is_terminal() && strcmp(settings->log_format, "text") == 0) {
        log_set_screen(clear_bar, NULL);
    }
    if (!banner_pipe_open(&errors)) LOG(WARN, "run: no pipe for what mpirun says");
    if (stop_requested()) {
        status = STATUS_STOPPED;
        goto out;
    }
    watch.mpirun = fork();
    if (watch.mpirun == 0) become_mpirun(mpirun, settings, &errors, self, &before);
    if (watch.mpirun < 0) {
        status = FAIL(UNEXPECTED, "run: fork: %s", strerror(errno));
        goto out;
    }
    banner_pipe_started(&errors);
    TRY_OUT(status, watch_mpirun(&watch, &signals, &errors));
    banner_pipe_close(&errors); // so that the last word is ours
    if (WIFEXITED(watch.wait_status) && WEXITSTATUS(watch.wait_status) == 127) {
        status = FAIL(USAGE, "run: mpirun could not be started: install openmpi-bin");
        goto out;
    }
    *exit_code = launch_outcome(watch.wait_status, watch.forced > 0, watch.failed);
out:
    banner_pipe_close(&errors);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return status;
}

// What the ranks would be told is read here first: a wrong option is said once, not by every
// rank. *alone: it asks for no work, so that this process answers it.
static enum status check_inner(const struct settings *settings, bool *alone,
                               int64_t *peer_timeout_ms) {
    enum status status = STATUS_OK;
    struct options *options = NULL;
    const struct settings *inner = NULL;
    const char *verb = settings->arguments[0];
    // The array holds borrowed texts that the parser does not write to.
    char *arguments[RUN_ARGUMENTS_MOST];
    const int count = (int)settings->argument_count - 1;
    if ((option_verb_bit(verb) & VERBS_OVER_RANKS) == 0) {
        return FAIL(USAGE, "run: %s does not spread over ranks; start it without run", verb);
    }
    memcpy(arguments, settings->arguments + 1, (size_t)count * sizeof arguments[0]);
    TRY_OUT(status, options_open(verb, count, arguments, &options));
    inner = options_settings(options);
    *peer_timeout_ms = inner->peer_timeout_ms;
    *alone = inner->help || inner->version || inner->show_config || inner->dry_run;
    if (*alone) goto out;
    TRY_OUT(status, options_check(options));
    if (inner->ranks > 1) {
        status = FAIL(USAGE, "run: -n %" PRId64 " and --ranks %" PRId64 " do not go together",
                      settings->run_ranks, inner->ranks);
        goto out;
    }
    if (inner->group_size > 0 && settings->run_ranks % inner->group_size != 0) {
        status = FAIL(USAGE, "run: --group-size %" PRId64 " does not divide -n %" PRId64,
                      inner->group_size, settings->run_ranks);
    }
out:
    options_close(options);
    return status;
}

// Becomes the verb itself, as if `run -n N` had not been there.
static enum status become_inner(const struct settings *settings, const char *self) {
    char *arguments[RUN_ARGUMENTS_MOST + 2] = {NULL};
    char name[] = "longscan";
    arguments[0] = name;
    memcpy(arguments + 1, settings->arguments,
           (size_t)settings->argument_count * sizeof arguments[0]);
    execv(self, arguments);
    return FAIL(UNEXPECTED, "run: cannot start %s: %s", self, strerror(errno));
}

enum status verb_run(const struct settings *settings, int *exit_code) {
    enum status status = STATUS_OK;
    struct mpirun mpirun = {0};
    bool alone = false;
    int64_t peer_timeout_ms = 0;
    char self[4096];
    const ssize_t bytes = readlink("/proc/self/exe", self, sizeof self - 1);
    if (bytes < 0) return FAIL(UNEXPECTED, "run: /proc/self/exe: %s", strerror(errno));
    self[bytes] = '\0';
    // the file serves the verb too, unless that has one of its own
    if (settings->config != NULL && setenv("LONGSCAN_CONFIG", settings->config, 1) != 0) {
        return FAIL(NO_MEMORY, "run: environment");
    }
    TRY(check_inner(settings, &alone, &peer_timeout_ms));
    if (alone) return become_inner(settings, self);
#ifndef LONGSCAN_WITH_MPI // each rank would be a world of its own, and do all the work
    return FAIL(USAGE,
                "run: this build has no MPI; use longscan %s --ranks N for ranks as threads, "
                "or install libopenmpi-dev and build again",
                settings->arguments[0]);
#endif
    TRY_OUT(status, mpirun_open(settings, peer_timeout_ms, self, &mpirun));
    if (settings->dry_run) {
        mpirun_print(&mpirun, settings, stdout);
    } else {
        status = start(&mpirun, settings, exit_code);
    }
out:
    mpirun_close(&mpirun);
    return status;
}
