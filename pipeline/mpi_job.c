// Start and end of an MPI job: what the launcher promised is compared with what MPI says, and nobody
// leaves alone.

#include "pipeline/mpi_inner.h"

#include <inttypes.h>
#include <stdlib.h>

#define TAGS_LEAST ((1 << 20) - 1) // live tags that differ must stay different
enum { START_MS = 60000, CLOSE_MS = 60000, LOST_EXIT_CODE = 142 };

bool mpi_launched(void) {
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMI_SIZE") != NULL ||
           getenv("PMIX_RANK") != NULL;
}

// A launcher that reaches only one of its machines, or another MPI than this program was built
// with, gives worlds smaller than asked for, which would do the work several times or in part.
static enum status world_check(const char *variable, const char *advice, int ranks) {
    const char *text = getenv(variable);
    char *end = NULL;
    if (text == NULL) return STATUS_OK;
    const long promised = strtol(text, &end, 10);
    if (end == text || *end != '\0' || promised != ranks) {
        return FAIL(USAGE, "%s promises %s ranks, but the MPI world has %d: %s", variable, text,
                    ranks, advice);
    }
    return STATUS_OK;
}

static enum status link_open(struct mpi_job *job, MPI_Comm all, struct mpi_link *link) {
    int rank = 0, ranks = 0;
    link->job = job;
    link->all = all;
    link->waiting = MPI_MESSAGE_NULL;
    MPI_TRY(MPI_Comm_set_errhandler(all, MPI_ERRORS_RETURN), "setting up");
    MPI_TRY(MPI_Comm_rank(all, &rank), "setting up");
    MPI_TRY(MPI_Comm_size(all, &ranks), "setting up");
    link->base = (struct link){.table = &mpi_table, .rank = rank, .ranks = ranks};
    for (int c = 0; c < LINK_CHANNELS; c++) {
        MPI_TRY(MPI_Comm_dup(all, &link->channel[c]), "setting up a communicator");
        MPI_TRY(MPI_Comm_set_errhandler(link->channel[c], MPI_ERRORS_RETURN), "setting up");
    }
    return STATUS_OK;
}

static enum status settings_check(struct mpi_job *job, int threads, int32_t group_size) {
    int ranks = 0, found = 0;
    int *most = NULL;
    MPI_TRY(MPI_Comm_size(MPI_COMM_WORLD, &ranks), "setting up");
    TRY(world_check("OMPI_COMM_WORLD_SIZE",
                    "was it started by the mpirun of another MPI than it was built with?", ranks));
    TRY(world_check("LONGSCAN_WORLD",
                    "did mpirun use only some of the machines? Check its host file and -n", ranks));
    if (threads < MPI_THREAD_SERIALIZED) {
        return FAIL(USAGE, "this MPI allows calls from the main thread only (level %d)", threads);
    }
    if (group_size < 0 || (group_size > 0 && ranks % group_size != 0)) {
        return FAIL(USAGE, "--group-size %" PRId32 " does not divide the world of %d ranks",
                    group_size, ranks);
    }
    MPI_TRY(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &most, &found), "asking for tags");
    if (!found || *most < TAGS_LEAST) {
        return FAIL(USAGE, "this MPI allows tags up to %d, at least %d are needed",
                    found ? *most : 0, TAGS_LEAST);
    }
    job->tag_most = TAGS_LEAST;
    while (job->tag_most <= (*most - 1) / 2) {
        job->tag_most = 2 * job->tag_most + 1;
    }
    return STATUS_OK;
}

static enum status links_open(struct mpi_job *job, int32_t group_size) {
    int rank = 0, local = 0, local_rank = 0;
    MPI_Comm world = MPI_COMM_NULL, group = MPI_COMM_NULL, machine = MPI_COMM_NULL;
    MPI_TRY(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "setting up");
    MPI_TRY(MPI_Comm_dup(MPI_COMM_WORLD, &world), "setting up");
    TRY(link_open(job, world, &job->world));
    MPI_TRY(MPI_Comm_split(world, group_size > 0 ? rank / group_size : 0, rank, &group),
            "splitting the world into groups");
    TRY(link_open(job, group, &job->group));
    MPI_TRY(MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &machine),
            "counting the ranks of a machine");
    MPI_TRY(MPI_Comm_size(machine, &local), "counting the ranks of a machine");
    MPI_TRY(MPI_Comm_rank(machine, &local_rank), "counting the ranks of a machine");
    job->local_ranks = local;
    job->local_rank = local_rank;
    MPI_TRY(MPI_Comm_free(&machine), "counting the ranks of a machine");
    return STATUS_OK;
}

enum status mpi_job_open(int32_t group_size, bool (*stop)(void), struct mpi_job **opened) {
    int threads = 0, mine = 0, worst = 0;
    MPI_Request request = MPI_REQUEST_NULL;
    struct mpi_job *job = calloc(1, sizeof *job);
    if (job == NULL) return FAIL(NO_MEMORY, "MPI job");
    job->stop = stop;
    // MULTIPLE where it can be had: abort may come from any thread while another is in a call.
    const int error = MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &threads);
    if (error != MPI_SUCCESS) {
        free(job);
        return FAIL(PEER, "MPI_Init_thread failed with %d", error);
    }
    (void)MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    // Whatever one rank finds wrong all of them learn, and leave together.
    mine = (int)settings_check(job, threads, group_size);
    enum status status = STATUS_OK;
    const int asked = MPI_Iallreduce(&mine, &worst, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD, &request);
    status = asked != MPI_SUCCESS ? mpi_error(asked, "the start")
                                  : mpi_wait(NULL, &request, START_MS, "the start");
    if (status == STATUS_OK && worst == STATUS_OK) status = links_open(job, group_size);
    if (status != STATUS_OK) (void)MPI_Abort(MPI_COMM_WORLD, LOST_EXIT_CODE);
    if (worst != STATUS_OK) {
        (void)MPI_Finalize();
        free(job);
        return mine != STATUS_OK ? (enum status)mine : (enum status)worst;
    }
    *opened = job;
    return STATUS_OK;
}

struct link *mpi_job_world(struct mpi_job *job) {
    return &job->world.base;
}

struct link *mpi_job_group(struct mpi_job *job) {
    return &job->group.base;
}

int32_t mpi_job_local_ranks(const struct mpi_job *job) {
    return job->local_ranks;
}

int32_t mpi_job_local_rank(const struct mpi_job *job) {
    return job->local_rank;
}

static void link_free(struct mpi_link *link) {
    for (int c = 0; c < LINK_CHANNELS; c++) {
        (void)MPI_Comm_free(&link->channel[c]);
    }
    (void)MPI_Comm_free(&link->all);
    mpi_requests_free(link);
}

void mpi_job_close(struct mpi_job *job) {
    MPI_Request request = MPI_REQUEST_NULL;
    if (job == NULL) return;
    // MPI_Finalize waits for every rank, without a deadline: first see that they are all there.
    const bool together = !job->failed && MPI_Ibarrier(job->world.all, &request) == MPI_SUCCESS &&
                          mpi_wait(NULL, &request, CLOSE_MS, "leaving together") == STATUS_OK;
    if (!together) {
        LOG(ERROR, "MPI: the ranks cannot leave together; stopping them all");
        (void)MPI_Abort(MPI_COMM_WORLD, LOST_EXIT_CODE);
    }
    link_free(&job->group);
    link_free(&job->world);
    (void)MPI_Finalize();
    free(job);
}
