#pragma once
// The command line that starts ranks with whichever mpirun is installed.

#include "src/settings.h"

#include <stddef.h>

struct mpirun {
    int version;     // 4 or 5 of Open MPI
    bool one_host;   // all ranks run here
    char folder[64]; // shared memory of this job; "" for none
    char **argument; // terminated by NULL
    size_t count, room;
};

// Finds mpirun, makes the job's shared memory folder, builds the command for `self` and what
// follows. mpirun_close releases all of it.
// Errors: USAGE (no mpirun, or one that is not Open MPI's), NO_MEMORY.
enum status mpirun_open(const struct settings *settings, const char *self, struct mpirun *mpirun);
// In the child that is to become mpirun: what the ranks are to see in the environment.
void mpirun_set_environment(const struct mpirun *mpirun, const struct settings *settings);
// Removes the folder with what a killed mpirun left in it.
void mpirun_close(struct mpirun *mpirun);
