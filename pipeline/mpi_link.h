#pragma once
// The ranks of an MPI job as links: one over all (the world), one over this rank's group.

#include "pipeline/link.h"

struct mpi_job;

// Collective. MPI_Init_thread, the world's size checked against what the launcher promised (its own
// OMPI_COMM_WORLD_SIZE, and LONGSCAN_WORLD for manifests to set), groups of group_size ranks (it must
// divide the world; 0: one group). stop: has a signal asked this process to stop? NULL: none can.
// If any rank finds a setting wrong, all return USAGE. Errors: USAGE, PEER.
enum status mpi_job_open(int32_t group_size, bool (*stop)(void), struct mpi_job **opened);
struct link *mpi_job_world(struct mpi_job *job);        // borrowed
struct link *mpi_job_group(struct mpi_job *job);        // borrowed
int32_t mpi_job_local_ranks(const struct mpi_job *job); // ranks of the job on this machine
int32_t mpi_job_local_rank(const struct mpi_job *job);  // which of them this is
// Collective. All leave together; if not all come within a minute, the job is stopped with 142. So
// after a failure call abort of the world's link instead, with the exit code the job shall have.
// Accepts NULL.
void mpi_job_close(struct mpi_job *job);

// True if this process was started by an MPI launcher (asks the environment, touches no MPI).
bool mpi_launched(void);
