// Which ranks there are (MPI processes, or threads of this one), for the verbs that spread over
// them, and the exit code that all of them agree on. Verb `score`: what each does is in
// score_rank.c.

#include "ops/base/check.h"
#include "pipeline/link.h"
#include "src/launch.h"
#include "src/score_rank.h"

#ifdef LONGSCAN_WITH_MPI
#    include "pipeline/mpi_link.h"
#endif

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct rank_thread {
    const struct settings *settings;
    rank_work *work;
    struct score_place place;
    struct score_totals totals;
    pthread_t thread;
    enum status status;
};

static void *run_rank(void *argument) {
    struct rank_thread *rank = argument;
    if (rank->place.world->ranks > 1) log_set_rank(rank->place.world->rank);
    rank->status = rank->work(rank->settings, &rank->place, &rank->totals);
    return NULL;
}

// Ranks as threads: a world of links, and a set of links for each group.
static enum status open_loopback(int32_t ranks, int32_t group_size, struct link **world,
                                 struct link **groups) {
    const struct loopback_settings plain = {.rendezvous = false};
    TRY(loopback_links_open(ranks, &plain, world));
    for (int32_t first = 0; first < ranks; first += group_size) {
        TRY(loopback_links_open(group_size, &plain, groups + first));
    }
    return STATUS_OK;
}

// The failure that explains the others: not "another rank was lost", if there is a better one.
static enum status first_cause(const struct rank_thread *threads, int32_t ranks,
                               struct score_totals *totals) {
    enum status status = STATUS_OK;
    *totals = threads[0].totals;
    for (int32_t i = 0; i < ranks; i++) {
        const enum status other = threads[i].status;
        if (other != STATUS_OK && (status == STATUS_OK || status == STATUS_PEER)) {
            status = other;
            totals->exit_code = threads[i].totals.exit_code;
        }
    }
    return status;
}

static enum status run_on_threads(const struct settings *settings, rank_work *work,
                                  struct score_totals *totals) {
    const int32_t ranks = (int32_t)settings->ranks;
    const int32_t group_size = settings->group_size > 0 ? (int32_t)settings->group_size : ranks;
    enum status status = STATUS_OK;
    CHECK(ranks >= 1);
    if (ranks % group_size != 0) {
        return FAIL(USAGE, "--group-size %d does not divide --ranks %d", group_size, ranks);
    }
    struct link **world = calloc((size_t)ranks, sizeof(struct link *));
    struct link **groups = calloc((size_t)ranks, sizeof(struct link *));
    struct rank_thread *threads = calloc((size_t)ranks, sizeof *threads);
    if (world == NULL || groups == NULL || threads == NULL) {
        status = FAIL(NO_MEMORY, "%d ranks", ranks);
        goto out;
    }
    TRY_OUT(status, open_loopback(ranks, group_size, world, groups));
    for (int32_t i = 0; i < ranks; i++) {
        threads[i] = (struct rank_thread){
            .settings = settings,
            .work = work,
            .place = {world[i], groups[i], i / group_size, ranks / group_size, ranks, i}
        };
    }
    for (int32_t i = 1; i < ranks; i++) {
        if (pthread_create(&threads[i].thread, NULL, run_rank, &threads[i]) != 0) {
            // ranks already started would wait for this one
            world[0]->table->abort(world[0], status_exit_code(STATUS_UNEXPECTED));
            threads[i].status = FAIL(UNEXPECTED, "cannot start the thread of rank %d", i);
            threads[i].totals.exit_code = status_exit_code(STATUS_UNEXPECTED);
            threads[i].thread = pthread_self();
        }
    }
    run_rank(&threads[0]);
    for (int32_t i = 1; i < ranks; i++) {
        if (!pthread_equal(threads[i].thread, pthread_self()))
            pthread_join(threads[i].thread, NULL);
    }
    status = first_cause(threads, ranks, totals);
out:
    for (int32_t i = 0; i < ranks; i++) {
        if (world != NULL && world[i] != NULL) world[i]->table->close(world[i]);
        if (groups != NULL && groups[i] != NULL) groups[i]->table->close(groups[i]);
    }
    free(threads);
    free(groups);
    free(world);
    return status;
}

#ifdef LONGSCAN_WITH_MPI
static struct link *stop_link; // the world, for a CHECK that fails in any thread

static void stop_world(void) {
    stop_link->table->abort(stop_link, status_exit_code(STATUS_UNEXPECTED));
}

static enum status run_on_processes(const struct settings *settings, rank_work *work,
                                    struct score_totals *totals) {
    struct mpi_job *job = NULL;
    TRY(mpi_job_open((int32_t)settings->group_size, stop_requested, &job));
    struct link *world = mpi_job_world(job);
    struct link *group = mpi_job_group(job);
    const struct score_place place = {.world = world,
                                      .group = group,
                                      .group_index = world->rank / group->ranks,
                                      .groups = world->ranks / group->ranks,
                                      .local_ranks = mpi_job_local_ranks(job),
                                      .local_rank = mpi_job_local_rank(job)};
    stop_link = world;
    check_set_stop(stop_world);
    log_set_rank(world->rank);
    const enum status status = work(settings, &place, totals);
    if (status != STATUS_OK) {
        // does not return: every rank ends, and mpirun gives this code
        world->table->abort(world, totals->exit_code);
    }
    mpi_job_close(job);
    return status;
}

static bool wants_mpi(const struct settings *settings) {
    return strcmp(settings->transport, "loopback") != 0 && settings->ranks == 1 && mpi_launched();
}
#else
static enum status run_on_processes(const struct settings *settings, rank_work *work,
                                    struct score_totals *totals) {
    char text[160];
    (void)settings;
    (void)work;
    (void)totals;
    if (launch_promises(1, text, sizeof text)) {
        return FAIL(USAGE,
                    "%s: this build has no MPI, so every process would do all the work; use "
                    "--ranks N for ranks as threads of one",
                    text);
    }
    return FAIL(USAGE,
                "--transport mpi: this build has no MPI; use --ranks N for ranks as threads");
}

static bool wants_mpi(const struct settings *settings) {
    char text[160];
    return strcmp(settings->transport, "mpi") == 0 ||
           (strcmp(settings->transport, "loopback") != 0 && settings->ranks == 1 &&
            launch_promises(1, text, sizeof text));
}
#endif

enum status ranks_run(const struct settings *settings, rank_work *work,
                      struct score_totals *totals) {
    *totals = (struct score_totals){0};
    if (wants_mpi(settings)) return run_on_processes(settings, work, totals);
    if (strcmp(settings->transport, "mpi") == 0) {
        totals->exit_code = status_exit_code(STATUS_USAGE);
        return FAIL(USAGE, "--transport mpi needs ranks started by `longscan run -n N VERB ...`");
    }
    return run_on_threads(settings, work, totals);
}

enum status verb_score(const struct settings *settings, int *exit_code) {
    struct score_totals totals = {0};
    const enum status status = ranks_run(settings, score_on_rank, &totals);
    *exit_code =
        status == STATUS_OK || totals.exit_code != 0 ? totals.exit_code : status_exit_code(status);
    return status;
}
