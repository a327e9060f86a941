// The loop of a group's rank 0 over branches: from the driver to the ranks, and back to it.
#include "ops/base/clock.h"
#include "pipeline/branches_inner.h"

#include <time.h>

#define IDLE_MS     5 // longest nap while nothing is there to do
#define PROGRESS_MS 1000
#define STEPS_LEAST 4 // of all ranks: when fewer wait the driver is asked for more
#define STEPS_MOST  8 // up to so many

static enum status ask_for_more(struct branches *b) {
    const int64_t step = b->steps.settings.step_tokens * b->steps.settings.ranks;
    if (b->ended || b->waiting_tokens >= STEPS_LEAST * step) return STATUS_OK;
    return b->driver->table->more(b->driver, b, STEPS_MOST * step - b->waiting_tokens, &b->ended);
}

static enum status tell_progress(struct branches *b) {
    const int64_t now_ms = clock_ms();
    if (now_ms < b->next_progress_ms) return STATUS_OK;
    b->next_progress_ms = now_ms + PROGRESS_MS;
    return b->driver->table->progress(b->driver);
}

static enum status turn(struct branches *b, bool *over) {
    const struct steps *steps = &b->steps;
    bool busy = false;
    if (!b->stopped && comm_stop_asked(steps->comm)) {
        b->stopped = true;
        LOG(INFO, "stopping: finishing the steps that are under way");
    }
    if (!b->stopped) {
        TRY(ask_for_more(b));
        TRY(steps_send_next(&b->steps, &busy));
    }
    TRY(steps_take_answers(&b->steps, 0, &busy));
    TRY(tell_progress(b));
    *over = steps->sent == steps->landed && (b->stopped || (b->ended && b->waiting_tokens == 0));
    if (busy || *over) return STATUS_OK;
    // nap where the next thing will come from
    if (steps->sent > steps->landed) return steps_take_answers(&b->steps, IDLE_MS, &busy);
    nanosleep(&(struct timespec){.tv_nsec = IDLE_MS * 1000000}, NULL);
    return comm_health(steps->comm);
}

static enum status check_sealed(const struct branches *b) {
    for (const struct node *node = b->all; node != NULL && !b->stopped; node = node->after) {
        if (node->sealed) continue;
        return FAIL(UNEXPECTED, "the branch of %lld tokens at %lld was never sealed",
                    (long long)node->branch.count, (long long)node->branch.first);
    }
    return STATUS_OK;
}

static void fill_counts(const struct branches *b, struct branches_counts *counts) {
    const struct steps_counts *steps = &b->steps.counts;
    *counts = b->counts;
    counts->steps = steps->steps;
    counts->moves = steps->moves;
    counts->hand_overs = steps->hand_overs;
    counts->plan_ns = steps->plan_ns;
    counts->run_ns = steps->run_ns;
}

// The ranks are told what is left to drop.
static enum status end(struct branches *b) {
    TRY(check_sealed(b));
    TRY(branches_tell_drops(b));
    TRY(steps_stop(&b->steps));
    TRY(b->driver->table->progress(b->driver));
    return b->stopped ? STATUS_STOPPED : STATUS_OK;
}

static enum status told_stop(struct branches *b) {
    TRY(steps_stop(&b->steps));
    return STATUS_STOPPED;
}

enum status branches_run(const struct branches_settings *settings, struct comm *comm,
                         struct branch_driver *driver, struct branches_counts *counts) {
    struct branches b = {.work.table = &branches_work_table,
                         .driver = driver,
                         .asked_most = settings->asked_most < settings->plan.step_tokens
                                           ? settings->asked_most
                                           : INT64_MAX,
                         .next_progress_ms = clock_ms() + PROGRESS_MS};
    enum status status = STATUS_OK;
    bool over = false;
    TRY_OUT(status, steps_open(&settings->plan, settings->slots, comm, &b.work, &b.steps));
    while (!over && status == STATUS_OK) {
        status = turn(&b, &over);
    }
    if (status == STATUS_OK) status = end(&b);
    // a driver that a stop keeps from waiting any longer leaves work behind, but no rank
    else if (status == STATUS_STOPPED)
        TRY_OUT(status, told_stop(&b));
out:
    fill_counts(&b, counts);
    branches_free(&b);
    return status;
}
