#include "src/mpirun.h"

#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "src/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

// After a rank has left with an error or was lost, the others have this long to leave by
// themselves before mpirun sends SIGTERM, and as long again before SIGKILL. mpirun waits that
// long even when all have left, so errors cost a second; with 0 it would kill ranks that are
// about to say why.
#define KILL_SECONDS "1"

#define MPIRUN_SAYS_MS 20000 // how long its version may take, on a machine that is busy

static enum status add(struct mpirun *mpirun, const char *text) {
    void *items = mpirun->argument;
    TRY(room_for(&items, &mpirun->room, mpirun->count + 2, sizeof *mpirun->argument));
    mpirun->argument = items;
    mpirun->argument[mpirun->count] = strdup(text);
    if (mpirun->argument[mpirun->count] == NULL) return FAIL(NO_MEMORY, "arguments of mpirun");
    mpirun->argument[++mpirun->count] = NULL;
    return STATUS_OK;
}

static enum status add_all(struct mpirun *mpirun, const char *const *texts) {
    for (; *texts != NULL; texts++) {
        TRY(add(mpirun, *texts));
    }
    return STATUS_OK;
}

// In the child.
static void become_mpirun_version(int out) {
    const int null = open("/dev/null", O_RDWR);
    (void)setpgid(0, 0); // a script and what it waits for end together
    if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDERR_FILENO) >= 0 &&
        dup2(out, STDOUT_FILENO) >= 0) {
        execlp("mpirun", "mpirun", "--version", (char *)NULL);
    }
    _exit(127);
}

// Bytes of its first line, or of all that came; -1: no end of it within the time.
static ptrdiff_t read_first_line(int from, char *line, size_t bytes) {
    const int64_t until_ms = clock_ms() + MPIRUN_SAYS_MS;
    size_t count = 0;
    while (count + 1 < bytes && memchr(line, '\n', count) == NULL) {
        struct pollfd readable = {.fd = from, .events = POLLIN};
        const int64_t left_ms = until_ms - clock_ms();
        if (left_ms <= 0) return -1;
        if (poll(&readable, 1, (int)left_ms) <= 0) continue;
        const ssize_t got = read(from, line + count, bytes - 1 - count);
        if (got == 0 || (got < 0 && errno != EINTR)) break;
        if (got > 0) count += (size_t)got;
    }
    line[count] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
    return (ptrdiff_t)count;
}

enum status mpirun_says(char *line, size_t bytes) {
    int pipes[2];
    if (pipe(pipes) != 0) {
        return FAIL(UNEXPECTED, "mpirun --version: no pipe: %s", strerror(errno));
    }
    const pid_t child = fork();
    if (child == 0) become_mpirun_version(pipes[1]);
    close(pipes[1]);
    const ptrdiff_t got = child < 0 ? 0 : read_first_line(pipes[0], line, bytes);
    close(pipes[0]);
    if (child < 0) return FAIL(UNEXPECTED, "mpirun --version: no process: %s", strerror(errno));
    (void)setpgid(child, child); // if it has not come to it itself
    (void)kill(-child, SIGKILL); // it has said what was wanted
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
    if (got > 0) return STATUS_OK;
    if (got == 0) return STATUS_END;
    return FAIL(PEER, "mpirun --version says nothing within %d ms: try it by hand", MPIRUN_SAYS_MS);
}

static enum status find_version(int *version) {
    char line[256] = "";
    const enum status status = mpirun_says(line, sizeof line);
    if (status == STATUS_END) {
        return FAIL(USAGE, "run: mpirun was not found: install openmpi-bin, or do without MPI: "
                           "longscan score --ranks N");
    }
    if (status != STATUS_OK) return status;
    const char *number = strstr(line, "(Open MPI) ");
    *version = number == NULL ? 0 : (int)strtol(number + strlen("(Open MPI) "), NULL, 10);
    if (*version >= 4) return STATUS_OK;
    return FAIL(USAGE, "run: mpirun is \"%s\", but Open MPI 4 or later is needed", line);
}

// A host file or a batch system's allocation may mean other machines.
static bool is_one_host(const char *extra) {
    static const char *const names[] = {"OMPI_MCA_orte_default_hostfile",
                                        "PRTE_MCA_prte_default_hostfile",
                                        "SLURM_JOB_ID",
                                        "PBS_NODEFILE",
                                        "LSB_HOSTS",
                                        "PE_HOSTFILE"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (getenv(names[i]) != NULL) return false;
    }
    return extra == NULL || (strstr(extra, "host") == NULL && strstr(extra, "-H") == NULL);
}

// On one machine the ranks talk through shared memory; that starts in 0.1 s instead of 0.3, for
// no network is looked for. Its files, and mpirun's, go to a folder of this job, so that none is
// left behind when mpirun is killed.
static enum status add_shared_memory(struct mpirun *mpirun) {
    static const char *const texts[] = {"--mca", "pml", "ob1", "--mca", "btl", "vader,self", NULL};
    if (getenv("OMPI_MCA_pml") != NULL || getenv("OMPI_MCA_btl") != NULL) return STATUS_OK;
    TRY(add_all(mpirun, texts));
    if (mpirun->dry_run) return STATUS_OK;
    job_folder_open(&mpirun->folder);
    if (mpirun->folder.path[0] == '\0') return STATUS_OK; // Open MPI then chooses a place itself
    const char *const places[] = {"--mca",
                                  "btl_vader_backing_directory",
                                  mpirun->folder.path,
                                  "--mca",
                                  "orte_tmpdir_base",
                                  mpirun->folder.path,
                                  NULL};
    return add_all(mpirun, places);
}

// mpirun and its daemons are to find each other's machines gone before the ranks do, not after a quarter
// of an hour: what has been sent to a machine that is gone hides it.
static enum status add_keepalive(struct mpirun *mpirun) {
    char seconds[32]; // until the first of three probes, and between them
    snprintf(seconds, sizeof seconds, "%" PRId64,
             mpirun->peer_timeout_ms >= 20000 ? mpirun->peer_timeout_ms / 10000 : 1);
    const char *const texts[] = {
        "--mca", "oob_tcp_keepalive_time",   seconds, "--mca", "oob_tcp_keepalive_intvl", seconds,
        "--mca", "oob_tcp_keepalive_probes", "3",     NULL};
    return add_all(mpirun, texts);
}

static enum status add_version_4(struct mpirun *mpirun) {
    static const char *const always[] = {"--mca", "odls_base_sigkill_timeout", KILL_SECONDS, NULL};
    TRY(add_all(mpirun, always));
    if (!mpirun->one_host) return add_keepalive(mpirun);
    TRY(add(mpirun, "--oversubscribe"));
    return add_shared_memory(mpirun);
}

// Open MPI 5 starts ranks with PRRTE: other names, and its transports need no help.
static enum status add_version_5(struct mpirun *mpirun) {
    static const char *const oversubscribe[] = {"--map-by", ":OVERSUBSCRIBE", NULL};
    return mpirun->one_host ? add_all(mpirun, oversubscribe) : STATUS_OK;
}

// The name of a variable that the ranks are to see as we do; "" for others.
static void passed_on(const char *variable, char *name, size_t name_bytes) {
    static const char *const ours[] = {LAUNCH_MPIRUN_ARGS, LAUNCH_WORLD, LAUNCH_TERMINAL,
                                       LAUNCH_LAUNCHER};
    const size_t bytes = strcspn(variable, "=");
    *name = '\0';
    if (strncmp(variable, "LONGSCAN_", 9) != 0 || bytes >= name_bytes) return;
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        if (strlen(ours[i]) == bytes && memcmp(ours[i], variable, bytes) == 0) return;
    }
    snprintf(name, name_bytes, "%.*s", (int)bytes, variable);
}

// Ranks on other machines see only what is named here.
static enum status add_environment(struct mpirun *mpirun) {
    static const char *const ours[] = {"-x", LAUNCH_WORLD, "-x", LAUNCH_TERMINAL, NULL};
    static const char *const launcher[] = {"-x", LAUNCH_LAUNCHER, NULL};
    TRY(add_all(mpirun, ours));
    if (!mpirun->dry_run) TRY(add_all(mpirun, launcher));
    for (char **variable = environ; *variable != NULL; variable++) {
        char name[128];
        passed_on(*variable, name, sizeof name);
        if (*name == '\0') continue;
        TRY(add(mpirun, "-x"));
        TRY(add(mpirun, name));
    }
    return STATUS_OK;
}

// LONGSCAN_MPIRUN_ARGS, cut at spaces.
static enum status add_extra(struct mpirun *mpirun, const char *extra) {
    while (extra != NULL && *extra != '\0') {
        char word[1024];
        extra += strspn(extra, " \t\n");
        const size_t bytes = strcspn(extra, " \t\n");
        if (bytes >= sizeof word) {
            return FAIL(USAGE, "%s: a word of more than %zu bytes", LAUNCH_MPIRUN_ARGS,
                        sizeof word - 1);
        }
        if (bytes == 0) break;
        snprintf(word, sizeof word, "%.*s", (int)bytes, extra);
        TRY(add(mpirun, word));
        extra += bytes;
    }
    return STATUS_OK;
}

void mpirun_set_environment(const struct mpirun *mpirun, const struct settings *settings) {
    char text[64];
    snprintf(text, sizeof text, "%" PRId64, settings->run_ranks);
    setenv(LAUNCH_WORLD, text, 1);
    snprintf(text, sizeof text, "%d %d %d", launch_output_is_terminal() ? 1 : 0,
             launch_error_is_terminal() ? 1 : 0, (int)launch_columns());
    setenv(LAUNCH_TERMINAL, text, 1);
    setenv(LAUNCH_LAUNCHER, "run", 1);
    if (mpirun->version >= 5) setenv("PRTE_MCA_odls_base_sigkill_timeout", KILL_SECONDS, 0);
}

// A word as a shell reads it back.
static void print_word(const char *word, FILE *out) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-+=./,:@%";
    if (*word != '\0' && strspn(word, plain) == strlen(word)) {
        fputs(word, out);
        return;
    }
    fputc('\'', out);
    for (; *word != '\0'; word++) {
        if (*word == '\'') {
            fputs("'\\''", out);
        } else {
            fputc(*word, out);
        }
    }
    fputc('\'', out);
}

// Properties may hold passwords: those stay in the environment.
static bool is_private(const char *name) {
    return strcmp(name, "LONGSCAN_PROPERTY") == 0;
}

void mpirun_print(const struct mpirun *mpirun, const struct settings *settings, FILE *out) {
    fprintf(out, "env %s=%" PRId64 " %s='0 0 80'", LAUNCH_WORLD, settings->run_ranks,
            LAUNCH_TERMINAL);
    if (mpirun->version >= 5) fputs(" PRTE_MCA_odls_base_sigkill_timeout=" KILL_SECONDS, out);
    for (char **variable = environ; *variable != NULL; variable++) {
        char name[128];
        passed_on(*variable, name, sizeof name);
        if (*name == '\0' || is_private(name)) continue;
        fprintf(out, " %s=", name);
        print_word(strchr(*variable, '=') + 1, out);
    }
    for (size_t i = 0; i < mpirun->count; i++) {
        fputc(' ', out);
        print_word(mpirun->argument[i], out);
    }
    fputc('\n', out);
}

enum status mpirun_open(const struct settings *settings, int64_t peer_timeout_ms, const char *self,
                        struct mpirun *mpirun) {
    const char *extra = getenv(LAUNCH_MPIRUN_ARGS);
    char ranks[32];
    *mpirun = (struct mpirun){.one_host = is_one_host(extra),
                              .peer_timeout_ms = peer_timeout_ms,
                              .dry_run = settings->dry_run,
                              .folder.lock = -1};
    TRY(find_version(&mpirun->version));
    snprintf(ranks, sizeof ranks, "%" PRId64, settings->run_ranks);
    const char *const first[] = {"mpirun", "-n", ranks, "--bind-to", "none", NULL};
    TRY(add_all(mpirun, first));
    if (geteuid() == 0) TRY(add(mpirun, "--allow-run-as-root"));
    TRY(mpirun->version == 4 ? add_version_4(mpirun) : add_version_5(mpirun));
    TRY(add_environment(mpirun));
    TRY(add_extra(mpirun, extra));
    TRY(add(mpirun, self));
    for (int64_t i = 0; i < settings->argument_count; i++) {
        TRY(add(mpirun, settings->arguments[i]));
    }
    return STATUS_OK;
}

void mpirun_close(struct mpirun *mpirun) {
    job_folder_close(&mpirun->folder);
    for (size_t i = 0; i < mpirun->count; i++) {
        free(mpirun->argument[i]);
    }
    free(mpirun->argument);
    *mpirun = (struct mpirun){.folder.lock = -1};
}
