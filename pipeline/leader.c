// The leader's loop: records to documents, scores to the sink, cuts to the source.
#include "pipeline/leader.h"

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "pipeline/leader_inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_MS     5 // longest nap while nothing is there to do
#define PROGRESS_MS 1000

#define RECORDS_A_TURN  1024
#define RECORDS_QUEUED  4096                        // between reader and leader
#define HELD_BYTES_MOST ((int64_t)64 * 1024 * 1024) // of results that wait for their turn
#define LETTERS_MOST    ((int64_t)16 * 1024 * 1024) // bytes of dead letters, which leave each turn

// Is there room for more? Open chunks do not count: the records that close them must get through.
// Nor do documents, but where they wait for those before them to leave. Those are read to their
// end, so they leave for sure.
static bool has_room(const struct leader *l) {
    const struct documents *d = &l->documents;
    const bool moving = l->steps.sent > l->steps.landed || d->ready_documents > 0;
    if (d->settings.ordered && moving && d->held_bytes >= HELD_BYTES_MOST) return false;
    if (d->letters.bytes >= LETTERS_MOST) return false;
    return d->ready_tokens < l->settings->queue_tokens;
}

static enum status take_record(struct leader *l, const struct record *record) {
    TRY(leader_meet_partition(l, record->partition));
    return documents_accept(&l->documents, record);
}

static void end_input(struct leader *l) {
    l->input_ended = true;
    if (l->settings->close_open) documents_close_open(&l->documents);
}

// A bounded number of records, since what they bring may be nothing to wait for, as duplicates and
// empty documents, and steps and results must not wait for the last of those.
static enum status take_in(struct leader *l, int32_t timeout_ms, bool *busy) {
    for (int i = 0; i < RECORDS_A_TURN && !l->input_ended && has_room(l); i++) {
        struct record *record = NULL;
        enum status status = reader_next(l->reader, timeout_ms, &record);
        if (status == STATUS_AGAIN) return STATUS_OK;
        if (status == STATUS_END) {
            end_input(l);
            return STATUS_OK;
        }
        if (status != STATUS_OK) return status;
        status = take_record(l, record);
        record_free(record);
        if (status != STATUS_OK) return status;
        *busy = true;
        timeout_ms = 0;
    }
    return STATUS_OK;
}

// Tokens that were read, between reader and leader, ready, or on the ranks.
static int64_t waiting_tokens(const struct leader *l) {
    return reader_waiting(l->reader) + l->documents.ready_tokens + steps_under_way(&l->steps);
}

static void tell_progress(struct leader *l, bool now) {
    struct source_progress progress = {.total = -1, .lag = -1};
    if (l->settings->progress == NULL) return;
    if (!now && clock_ms() < l->next_progress_ms) return;
    l->next_progress_ms = clock_ms() + PROGRESS_MS;
    l->source->table->progress(l->source, &progress);
    progress.waiting = waiting_tokens(l);
    l->settings->progress(l->settings->listener, &l->documents.counts, &progress);
}

// Results and letters to their sinks.
static enum status give_away(struct leader *l) {
    TRY(documents_emit(&l->documents, l->sink));
    if (l->letters == NULL) return STATUS_OK;
    return letters_emit(&l->documents.letters, l->letters, &l->letters_handed_over);
}

// Nanoseconds since *then_ns, which becomes now.
static int64_t since(int64_t *then_ns) {
    const int64_t now = clock_ns();
    const int64_t spent = now - *then_ns;
    *then_ns = now;
    return spent;
}

static enum status turn(struct leader *l, bool *done) {
    bool busy = false;
    if (!l->stopped && comm_stop_asked(l->comm)) {
        l->stopped = true;
        LOG(INFO, "stopping: finishing the steps that are under way");
        reader_stop(l->reader);
    }
    int64_t then_ns = clock_ns();
    if (!l->stopped) {
        TRY(take_in(l, 0, &busy));
        l->counts->ingest_ns += since(&then_ns);
        TRY(steps_send_next(&l->steps, &busy)); // keeps time itself
        then_ns = clock_ns();
    }
    TRY(steps_take_answers(&l->steps, 0, &busy));
    TRY(give_away(l));
    l->counts->emit_ns += since(&then_ns);
    TRY(leader_keep_cuts(l));
    l->counts->commit_ns += since(&then_ns);
    tell_progress(l, false);
    // what waits for a step when a stop comes is read again by the next run
    *done = l->steps.sent == l->steps.landed &&
            (l->stopped || (l->input_ended && l->documents.ready_documents == 0));
    if (busy || *done) return STATUS_OK;
    // nap where the next thing will come from
    if (l->steps.sent > l->steps.landed) return steps_take_answers(&l->steps, IDLE_MS, &busy);
    TRY(comm_health(l->comm));
    return take_in(l, IDLE_MS, &busy);
}

static void free_leader(struct leader *l) {
    steps_close(&l->steps);
    reader_close(l->reader);
    documents_close(&l->documents);
    free(l->cuts);
}

// A failure before this one stays the one that is told.
static enum status close_sink(struct sink *sink, enum status status) {
    const enum status closed = sink->table->close(sink, status == STATUS_OK);
    return status == STATUS_OK ? closed : status;
}

enum status leader_run(const struct leader_settings *settings, struct comm *comm,
                       struct source *source, struct sink *sink, struct sink *letters,
                       struct leader_counts *counts) {
    const struct reader_settings reading = {.tokens_most = settings->queue_tokens,
                                            .records_most = RECORDS_QUEUED};
    struct leader l = {.settings = settings,
                       .comm = comm,
                       .source = source,
                       .sink = sink,
                       .letters = letters,
                       .counts = counts,
                       .next_commit_ms = clock_ms() + settings->commit_interval_ms,
                       .next_progress_ms = clock_ms() + PROGRESS_MS};
    enum status status = STATUS_OK;
    bool done = false;
    *counts = (struct leader_counts){0};
    TRY_OUT(status, documents_open(&l.documents, &settings->documents));
    TRY_OUT(status,
            steps_open(&settings->plan, settings->slots, comm, &l.documents.work, &l.steps));
    TRY_OUT(status, reader_open(source, &reading, &l.reader));
    while (!done && status == STATUS_OK) {
        status = turn(&l, &done);
    }
    // A sink that a stop keeps from waiting any longer leaves results behind, but no rank.
    if (status == STATUS_OK || status == STATUS_STOPPED) {
        const enum status told = steps_stop(&l.steps);
        if (told != STATUS_OK) status = told;
    }
    if (status != STATUS_OK) goto out;
    if (source->table->commit != NULL) TRY_OUT(status, leader_note_cuts(&l));
    leader_tell_uncommitted(&l);
    l.documents.counts.open = documents_open_count(&l.documents);
out:
    // the sinks are closed, and so confirmed, before the last cuts are committed
    status = close_sink(sink, status);
    if (letters != NULL) status = close_sink(letters, status);
    for (size_t i = 0; status == STATUS_OK && i < l.cut_count; i++) {
        status = leader_commit_cut(&l, &l.cuts[i]);
    }
    if (status == STATUS_OK) tell_progress(&l, true);
    counts->documents = l.documents.counts;
    counts->steps = l.steps.counts.steps;
    counts->moves = l.steps.counts.moves;
    counts->hand_overs = l.steps.counts.hand_overs;
    counts->plan_ns = l.steps.counts.plan_ns;
    counts->run_ns = l.steps.counts.run_ns;
    if (status == STATUS_OK && l.stopped) status = STATUS_STOPPED;
    free_leader(&l);
    return status;
}
