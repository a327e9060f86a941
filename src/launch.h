#pragma once
// What `longscan run` tells the ranks through the environment, and what they tell it back.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAUNCH_WORLD       "LONGSCAN_WORLD"       // ranks that were asked for
#define LAUNCH_LAUNCHER    "LONGSCAN_LAUNCHER"    // set: `longscan run` reads the exit code
#define LAUNCH_TERMINAL    "LONGSCAN_TERMINAL"    // "OUT ERR COLUMNS": what run's streams are
#define LAUNCH_MPIRUN_ARGS "LONGSCAN_MPIRUN_ARGS" // further arguments for mpirun

// What a rank that fails writes to standard error for `longscan run`, which does not show it, with
// its exit code and a line's end: mpirun may hang when a machine is gone, and then run ends it.
#define LAUNCH_FAILED "\x1elongscan-failed "

// mpirun itself ends with 1 when it loses a rank, so a rank that means 1 says this instead.
#define LAUNCH_CODE_UNEXPECTED 101

// What the environment promises of the number of ranks, launchers' own variables and ours:
// "OMPI_COMM_WORLD_SIZE=4, LONGSCAN_WORLD=4". Returns whether one of them says another number.
bool launch_promises(int32_t ranks, char *text, size_t bytes);

// The code to leave with, in the language of whoever started this process.
int launch_exit_code(int exit_code);
// This rank fails with this code, and is about to stop all others.
void launch_tell_failure(int exit_code);
// The code `longscan run` leaves with, and says, given mpirun's wait status. forced: the ranks were
// killed on request. failed: what a rank has told, if mpirun had to be killed for it; or 0.
int launch_outcome(int wait_status, bool forced, int failed);

// Are standard output and standard error a terminal to the user? Under mpirun a rank's own output
// always is one (Open MPI gives ranks a pseudo terminal), even when it ends in a file.
bool launch_is_through_mpirun(void);
bool launch_output_is_terminal(void);
bool launch_error_is_terminal(void);
int32_t launch_columns(void); // of that terminal; 80 if unknown
