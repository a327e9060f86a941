#pragma once
// A team of threads that share out one loop at a time. Not OpenMP: docs/adr/0002 says why.
//
//   1. The caller is worker 0 and takes part; a team of one starts no thread.
//   2. Which worker runs an index is not fixed, so results must not depend on it.
//   3. Every worker computes with flush-to-zero: threads for life, the caller inside team_run.
//   4. An idle worker spins for some microseconds, then sleeps.

#include "ops/base/status.h"

#include <stdint.h>

// One turn of the loop: 0 <= index < count, 0 <= worker < team_workers.
typedef void team_function(int64_t index, int64_t worker, const void *argument);

struct team;

// Owns:   the caller gives the team back with team_close.
// Errors: NO_MEMORY, UNEXPECTED (no thread could be started).
enum status team_open(int64_t workers, struct team **opened);
void team_close(struct team *team); // accepts NULL

int64_t team_workers(const struct team *team);

// Runs function(index, worker, argument) for every index in [0, count) and returns when all are
// done. A worker takes a run of neighbouring indices in ascending order, then helps the others.
// Thread: one caller at a time; not from inside a team_function.
void team_run(struct team *team, int64_t count, team_function *function, const void *argument);
