#pragma once
// What mpi_job.c (start and end of a job) and mpi_link.c (everything between) share.

#include "pipeline/mpi_link.h"

#include <mpi.h>

struct mpi_link {
    struct link base;
    struct mpi_job *job;
    MPI_Comm all; // what the channels are duplicated from
    MPI_Comm channel[LINK_CHANNELS];
    struct link_request *spare;
    // A probed control message, which only the receive of it can take.
    MPI_Message waiting;
    int waiting_peer, waiting_tag;
    size_t waiting_bytes;
};

struct mpi_job {
    struct mpi_link world, group;
    int32_t local_ranks, local_rank;
    int tag_most;               // a power of two less one
    bool failed;                // some rank may be gone: leaving together is not possible any more
    bool (*stop)(void);         // has a signal asked this process to stop? NULL: none can
    bool stop_asked, stop_told; // by any rank; by this one, to all
};

extern const struct link_table mpi_table;

// Logs what failed and why.
enum status mpi_error(int error, const char *what);

#define MPI_TRY(call, what)                                              \
    do {                                                                 \
        const int mpi_try_ = (call);                                     \
        if (mpi_try_ != MPI_SUCCESS) return mpi_error(mpi_try_, (what)); \
    } while (0)

// Tests with sleeps that grow to a millisecond; link: passes a stop on meanwhile, NULL: does not.
// Errors: PEER, after timeout_ms.
enum status mpi_wait(struct mpi_link *link, MPI_Request *request, int32_t timeout_ms,
                     const char *what);
void mpi_requests_free(struct mpi_link *link); // those kept to be used again
