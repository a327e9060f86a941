#include "pipeline/pipeline.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS_AT_ONCE_BYTES ((size_t)4 << 30)

struct leader_thread {
    const struct pipeline_settings *settings;
    const struct pipeline_rank *rank;
    struct comm *comm;
    struct pipeline_counts *counts;
    int32_t log_rank;
    enum status status;
};

// The slots that a step of whole chunks can pin: each may go on from one slot into another, as may
// each state that a move brings or takes, beside the line's two; sends of the step before still hold
// theirs. Steps with more states than that, as of many documents that end, are made smaller.
static int64_t slots_needed(const struct pipeline_settings *settings) {
    return 4 * (settings->step_tokens / CHUNK_TOKENS) + 8;
}

static int64_t slots_of(const struct pipeline_settings *settings) {
    return settings->device_slots > 0 ? settings->device_slots : slots_needed(settings);
}

static struct plan_settings plan_settings(const struct pipeline_settings *settings,
                                          const struct pipeline_rank *rank) {
    return (struct plan_settings){.ranks = rank->group->ranks,
                                  .step_tokens = settings->step_tokens,
                                  .move_tokens = settings->move_tokens,
                                  .spans_most = settings->step_tokens};
}

static enum status lead_branches(const struct leader_thread *leader) {
    const struct pipeline_settings *settings = leader->settings;
    const struct branches_settings leading = {.plan = plan_settings(settings, leader->rank),
                                              .slots = slots_of(settings),
                                              .asked_most = settings->asked_most};
    return branches_run(&leading, leader->comm, leader->rank->driver, &leader->counts->branches);
}

static enum status lead_documents(const struct leader_thread *leader) {
    const struct pipeline_settings *settings = leader->settings;
    const struct pipeline_rank *rank = leader->rank;
    struct leader_settings leading = {
        .plan = plan_settings(settings, rank),
        .documents = settings->documents,
        .queue_tokens = settings->queue_tokens,
        .slots = slots_of(settings),
        .commit_interval_ms = settings->commit_interval_ms,
        .mark = settings->mark,
        .close_open = settings->close_open,
        .progress = settings->progress,
        .listener = settings->listener,
    };
    leading.documents.vocab_size = model_info(rank->model)->vocab_size;
    leading.documents.letters = rank->letters != NULL;
    leading.documents.source = rank->source;
    return leader_run(&leading, leader->comm, rank->source, rank->sink, rank->letters,
                      &leader->counts->leader);
}

static void *lead(void *argument) {
    struct leader_thread *leader = argument;
    log_set_rank(leader->log_rank);
    leader->status = leader->rank->driver != NULL ? lead_branches(leader) : lead_documents(leader);
    // the ranks, ours too, are not to wait for steps that will never come
    if (leader->status != STATUS_OK && leader->status != STATUS_STOPPED) {
        comm_fail(leader->comm, status_exit_code(leader->status));
    }
    return NULL;
}

// A GPU's allocations take milliseconds a state and wait for what is queued, so as many as steps can
// need are made before the first, within bounds: ranks may share the GPU.
static enum status slots_at_once(const struct pipeline_settings *settings, struct backend *backend,
                                 size_t slot_bytes, int64_t *count) {
    size_t left = 0;
    *count = 0;
    if (backend->table->memory_left == NULL) return STATUS_OK;
    TRY(backend->table->memory_left(backend, &left));
    const size_t bytes = left / 2 < SLOTS_AT_ONCE_BYTES ? left / 2 : SLOTS_AT_ONCE_BYTES;
    const int64_t most = (int64_t)(bytes / slot_bytes), need = slots_needed(settings);
    *count = need < most ? need : most;
    return STATUS_OK;
}

static enum status open_slots(const struct pipeline_settings *settings,
                              const struct pipeline_rank *rank, struct slots **slots) {
    const struct model_info *info = model_info(rank->model);
    const size_t slot_bytes = (size_t)info->layers * info->layer_bytes;
    struct slots_settings store = {
        .slot_bytes = slot_bytes,
        .device_slots = slots_of(settings),
        .host_bytes = settings->host_slots_bytes,
        .folder = settings->spill_folder,
    };
    TRY(slots_at_once(settings, rank->backend, slot_bytes, &store.at_once));
    return slots_open(rank->backend, &store, slots);
}

enum status pipeline_check(const struct pipeline_settings *settings) {
    const int64_t need = slots_needed(settings);
    if (settings->step_tokens % CHUNK_TOKENS != 0) {
        return FAIL(USAGE, "--step-tokens %lld is not a multiple of %d",
                    (long long)settings->step_tokens, CHUNK_TOKENS);
    }
    if (slots_of(settings) < need) {
        return FAIL(USAGE, "--slots %lld is too few: a step of %lld tokens needs %lld",
                    (long long)slots_of(settings), (long long)settings->step_tokens,
                    (long long)need);
    }
    if (settings->idle_ms > 0 && settings->spill_folder == NULL) {
        return FAIL(USAGE, "--idle needs a folder for idle states: give --spill DIR");
    }
    if (settings->spill_folder != NULL && access(settings->spill_folder, W_OK) != 0) {
        return FAIL(USAGE, "--spill %s: %s", settings->spill_folder, strerror(errno));
    }
    return STATUS_OK;
}

static bool peer_was_lost(void *context) {
    return comm_health(context) != STATUS_OK;
}

static enum status open_transport(const struct pipeline_settings *settings,
                                  const struct pipeline_rank *rank,
                                  const struct transport_choice *choice, struct comm *comm,
                                  struct transport **opened) {
    const struct transport_settings direct = {.rank = rank->group->rank,
                                              .ranks = rank->group->ranks,
                                              .ids = choice->ids,
                                              .peer_timeout_ms = settings->peer_timeout_ms,
                                              .lost = peer_was_lost,
                                              .context = comm};
    if (choice->ids == NULL) return host_transport_open(comm, rank->backend, opened);
    return rank->backend->table->transport_open(rank->backend, &direct, opened);
}

// The backend's own transport asks comm whether peers are lost; from what the host's has staged comm
// may still read and write.
static void close_communication(const struct transport_choice *choice, struct transport *transport,
                                struct comm *comm, bool failed) {
    const bool direct = choice->ids != NULL;
    if (transport != NULL && direct) transport->table->close(transport);
    comm_close(comm, failed);
    if (transport != NULL && !direct) transport->table->close(transport);
}

enum status pipeline_run(const struct pipeline_settings *settings, const struct pipeline_rank *rank,
                         struct pipeline_counts *counts, int *exit_code) {
    const bool leads = rank->group->rank == 0;
    const struct comm_settings talking = {.peer_timeout_ms = settings->peer_timeout_ms,
                                          .stop = settings->stop};
    const struct worker_settings working = {.rank = rank->group->rank,
                                            .ranks = rank->group->ranks,
                                            .step_tokens = settings->step_tokens,
                                            .idle_ms = settings->idle_ms,
                                            .asked_most = settings->asked_most};
    struct leader_thread leader = {
        .settings = settings, .rank = rank, .counts = counts, .log_rank = log_rank()};
    struct transport_choice choice = {0};
    struct comm *comm = NULL;
    struct transport *transport = NULL;
    struct slots *slots = NULL;
    pthread_t thread;
    bool leading = false;
    enum status status = STATUS_OK;
    *counts = (struct pipeline_counts){0};
    *exit_code = 0;

    TRY_OUT(status, pipeline_check(settings));
    TRY_OUT(status, transport_choose(rank->group, rank->backend, settings->transport,
                                     settings->peer_timeout_ms, &choice));
    TRY_OUT(status, comm_open(rank->group, &talking, &comm));
    TRY_OUT(status, open_transport(settings, rank, &choice, comm, &transport));
    TRY_OUT(status, open_slots(settings, rank, &slots));
    if (leads) {
        leader.comm = comm;
        leading = pthread_create(&thread, NULL, lead, &leader) == 0;
        if (!leading) {
            status = FAIL(UNEXPECTED, "cannot start the leader thread");
            goto out;
        }
    }
    status =
        worker_run(&working, comm, transport, rank->backend, rank->model, slots, &counts->worker);
    counts->slots = slots_counts(slots);
out:
    if (status != STATUS_OK && comm != NULL) comm_fail(comm, status_exit_code(status));
    if (leading) {
        pthread_join(thread, NULL);
        // what the leader failed with is why the worker saw a failure
        if (leader.status != STATUS_OK && (status == STATUS_OK || status == STATUS_PEER)) {
            status = leader.status;
        }
    } else if (leads && rank->driver == NULL) {
        (void)!rank->sink->table->close(rank->sink, false);
        if (rank->letters != NULL) (void)!rank->letters->table->close(rank->letters, false);
    }
    if (status != STATUS_OK) {
        *exit_code = status == STATUS_PEER && comm != NULL && comm_failure(comm) != 0
                         ? comm_failure(comm)
                         : status_exit_code(status);
    }
    close_communication(&choice, transport, comm, status != STATUS_OK && status != STATUS_STOPPED);
    transport_choice_free(&choice);
    slots_close(slots);
    return status;
}

static enum status differs(int32_t rank, const char *what) {
    return FAIL(MISMATCH,
                "rank %d differs from rank 0 in its %s; all ranks must run the same "
                "program on the same model with the same settings",
                rank, what);
}

enum status pipeline_agree(struct link *link, const struct pipeline_identity *mine,
                           int32_t timeout_ms) {
    struct pipeline_identity *all = calloc((size_t)link->ranks, sizeof *all);
    enum status status = STATUS_OK;
    if (all == NULL) return FAIL(NO_MEMORY, "identities of %d ranks", link->ranks);
    TRY_OUT(status, link->table->gather(link, mine, sizeof *mine, all, timeout_ms));
    for (int32_t rank = 1; rank < link->ranks && status == STATUS_OK; rank++) {
        const struct pipeline_identity *other = &all[rank];
        if (other->program != all[0].program) {
            status = differs(rank, "program version");
        } else if (other->model != all[0].model || other->layer_bytes != all[0].layer_bytes) {
            status = differs(rank, "model");
        } else if (other->settings != all[0].settings) {
            status = differs(rank, "settings");
        } else if (other->step_tokens != all[0].step_tokens) {
            status = differs(rank, "--step-tokens");
        } else if (memcmp(other->numerics, all[0].numerics, sizeof all[0].numerics) != 0) {
            status = differs(rank, "numerics");
        }
    }
out:
    free(all);
    return status;
}
