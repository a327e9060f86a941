#pragma once
// The command line that starts ranks with whichever mpirun is installed.

#include "src/job_folder.h"
#include "src/settings.h"

#include <stddef.h>
#include <stdio.h>

struct mpirun {
    int version;             // 4 or 5 of Open MPI
    bool one_host;           // all ranks run here
    int64_t peer_timeout_ms; // of the ranks
    bool dry_run;            // for mpirun_print: no folder is made
    struct job_folder folder;
    char **argument; // terminated by NULL
    size_t count, room;
};

// The first line of `mpirun --version`, "mpirun (Open MPI) 4.1.4". Errors: END (there is no mpirun; not
// logged), PEER (it does not answer), UNEXPECTED.
enum status mpirun_says(char *line, size_t bytes);
// Finds mpirun, makes the job's shared memory folder (and removes those of jobs that were killed),
// builds the command for `self` and what follows. mpirun_close releases all of it.
// Errors: USAGE (no mpirun, or one that is not Open MPI's), NO_MEMORY.
enum status mpirun_open(const struct settings *settings, int64_t peer_timeout_ms, const char *self,
                        struct mpirun *mpirun);
// In the child that is to become mpirun, with its streams as they were: what the ranks are to see in
// the environment.
void mpirun_set_environment(const struct mpirun *mpirun, const struct settings *settings);
// The command as a shell takes it, with the environment it needs; what it starts behaves as if its
// output went to files.
void mpirun_print(const struct mpirun *mpirun, const struct settings *settings, FILE *out);
// Removes the folder with what a killed mpirun left in it.
void mpirun_close(struct mpirun *mpirun);
