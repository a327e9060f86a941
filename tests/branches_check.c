// Random trees of branches over MPI, for mpirun with any number of ranks; 0 if all is right. The toy
// model stands in for ops/model, as in the pipeline's tests.

#include "pipeline/mpi_link.h"
#include "tests/branches_trial.h"

static enum status run_rank_of(struct link *link, struct tree *tree, const char *folder,
                               struct pipeline_counts *counts, int *exit_code) {
    const struct model_settings sizes = {.step_tokens = 2 * CHUNK_TOKENS, .asked_most = 1000};
    const struct pipeline_settings settings = {.step_tokens = sizes.step_tokens,
                                               .move_tokens = 20,
                                               .asked_most = sizes.asked_most,
                                               .peer_timeout_ms = 30000,
                                               .host_slots_bytes = 1 << 20,
                                               .spill_folder = folder};
    struct pipeline_rank rank = {.group = link, .driver = link->rank == 0 ? &tree->base : NULL};
    TRY(queue_backend_open(NULL, 1 + (uint64_t)link->rank, 50, &rank.backend));
    TRY(model_open("toy:layers=3,layer_bytes=65536", rank.backend, &sizes, &rank.model));
    const enum status status = pipeline_run(&settings, &rank, counts, exit_code);
    model_close(rank.model);
    rank.backend->table->close(rank.backend);
    return status;
}

static bool all_right(const struct tree *tree, const struct link *link,
                      const struct pipeline_counts *counts) {
    const struct slots_counts *slots = &counts->slots;
    if (slots->device + slots->host + slots->file != 0) return false;
    return link->rank != 0 || (tree->wrong == 0 && tree->done == tree->count);
}

int main(void) {
    const struct tree_shape shape = {
        .roots = 12, .depth = 4, .children = 4, .count_most = 6000, .chain = 10};
    struct pipeline_counts counts = {0};
    struct mpi_job *job = NULL;
    struct temp_folder folder;
    int exit_code = 0;
    log_setup(LOG_ERROR, LOG_TEXT);
    alarm(120);
    enum status status = mpi_job_open(0, NULL, &job);
    if (status != STATUS_OK) return status_exit_code(status);
    struct link *link = mpi_job_group(job);
    struct tree *tree = tree_make(&shape, 1000, 5);
    log_set_rank(link->rank);
    temp_folder_make(&folder);
    status = run_rank_of(link, tree, folder.path, &counts, &exit_code);
    if (status != STATUS_OK) mpi_job_world(job)->table->abort(mpi_job_world(job), exit_code);
    const bool right = all_right(tree, link, &counts);
    if (link->rank == 0) {
        printf("%d branches on %d ranks: %lld steps, %lld moves, %lld handed over: %s\n",
               tree->done, link->ranks, (long long)counts.branches.steps,
               (long long)counts.branches.moves, (long long)counts.branches.hand_overs,
               right ? "right" : "WRONG");
    }
    temp_folder_remove(&folder);
    tree_free(tree);
    mpi_job_close(job);
    return right ? 0 : 1;
}
