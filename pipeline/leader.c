// The leader's loop: records to documents, scores to the sink, cuts to the source.
#include "pipeline/leader.h"

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "pipeline/leader_inner.h"
#include "pipeline/step.h"

#define IDLE_MS     5 // longest nap while nothing is there to do
#define PROGRESS_MS 1000

#define RECORDS_A_TURN  1024
#define RECORDS_QUEUED  4096                        // between reader and leader
#define HELD_BYTES_MOST ((int64_t)64 * 1024 * 1024) // of results that wait for their turn

// Is there room for more? Open chunks do not count: the records that close them must get through.
// Nor do documents, but where they wait for those before them to leave. Those are read to their
// end, so they leave for sure.
static bool has_room(const struct leader *l) {
    const struct documents *d = &l->documents;
    const bool moving = l->sent > l->landed || d->ready_documents > 0;
    if (d->settings.ordered && moving && d->held_bytes >= HELD_BYTES_MOST) return false;
    return d->ready_tokens < l->settings->queue_tokens;
}

// A bounded number of records, since what they bring may be nothing to wait for, as duplicates and
// empty documents, and steps and results must not wait for the last of those.
static enum status take_in(struct leader *l, int32_t timeout_ms, bool *busy) {
    for (int i = 0; i < RECORDS_A_TURN && !l->input_ended && has_room(l); i++) {
        struct record *record = NULL;
        enum status status = reader_next(l->reader, timeout_ms, &record);
        if (status == STATUS_AGAIN) return STATUS_OK;
        if (status == STATUS_END) {
            l->input_ended = true;
            return STATUS_OK;
        }
        if (status != STATUS_OK) return status;
        status = documents_accept(&l->documents, record);
        record_free(record);
        if (status != STATUS_OK) return status;
        *busy = true;
        timeout_ms = 0;
    }
    return STATUS_OK;
}

// Note what could be committed now; it is once the results before it are safe.
static enum status note_cuts(struct leader *l) {
    for (size_t i = l->documents.partition_turn; i < l->documents.partition_count; i++) {
        struct partition_state *partition = &l->documents.partitions[i];
        const int64_t offset = partition_safe_offset(partition);
        if (offset <= partition->committed_offset) continue;
        TRY(room_for((void **)&l->cuts, &l->cut_room, l->cut_count + 1, sizeof *l->cuts));
        l->cuts[l->cut_count++] =
            (struct pending_cut){partition->index, offset, l->documents.handed_over};
        partition->committed_offset = offset;
    }
    return STATUS_OK;
}

static enum status commit_cut(struct leader *l, const struct pending_cut *cut) {
    CHECK(l->source->table->commit != NULL); // or no cut would have been noted
    return l->source->table->commit(l->source, cut->partition, cut->offset, "");
}

static enum status commit_cuts(struct leader *l) {
    int64_t confirmed = 0;
    size_t kept = 0;
    TRY(l->sink->table->confirmed(l->sink, &confirmed));
    for (size_t i = 0; i < l->cut_count; i++) {
        if (l->cuts[i].handed_over > confirmed) {
            l->cuts[kept++] = l->cuts[i];
            continue;
        }
        TRY(commit_cut(l, &l->cuts[i]));
    }
    l->cut_count = kept;
    return STATUS_OK;
}

// Each interval the sink is asked what is safe even if there is nothing to commit: then it writes
// what it has gathered, for those who wait for it.
static enum status keep_cuts(struct leader *l) {
    const int64_t now = clock_ms();
    const bool due = now >= l->next_commit_ms;
    if (due) l->next_commit_ms = now + l->settings->commit_interval_ms;
    if (due && l->source->table->commit != NULL) TRY(note_cuts(l));
    return due || l->cut_count > 0 ? commit_cuts(l) : STATUS_OK;
}

static void tell_progress(struct leader *l, bool now) {
    struct source_progress progress = {.total = -1, .lag = -1};
    if (l->settings->progress == NULL) return;
    if (!now && clock_ms() < l->next_progress_ms) return;
    l->next_progress_ms = clock_ms() + PROGRESS_MS;
    l->source->table->progress(l->source, &progress);
    l->settings->progress(l->settings->listener, &l->documents.counts, &progress);
}

static enum status turn(struct leader *l, bool *done) {
    bool busy = false;
    if (!l->stopped && comm_stop_asked(l->comm)) {
        l->stopped = true;
        LOG(INFO, "stopping: finishing the steps that are under way");
        reader_stop(l->reader);
    }
    if (!l->stopped) {
        TRY(take_in(l, 0, &busy));
        TRY(leader_send_next(l, &busy));
    }
    TRY(leader_take_answers(l, 0, &busy));
    TRY(documents_emit(&l->documents, l->sink));
    TRY(keep_cuts(l));
    tell_progress(l, false);
    // what waits for a step when a stop comes is read again by the next run
    *done = l->sent == l->landed &&
            (l->stopped || (l->input_ended && l->documents.ready_documents == 0));
    if (busy || *done) return STATUS_OK;
    // nap where the next thing will come from
    if (l->sent > l->landed) return leader_take_answers(l, IDLE_MS, &busy);
    TRY(comm_health(l->comm));
    return take_in(l, IDLE_MS, &busy);
}

static enum status stop_ranks(struct leader *l) {
    const struct step stop = {.number = l->sent, .stop = true};
    for (int32_t rank = 0; rank < l->settings->plan.ranks; rank++) {
        struct step_arrays arrays;
        struct message message;
        TRY(step_make(&stop, &message, &arrays));
        message.peer = rank;
        TRY(comm_send(l->comm, &message));
    }
    return STATUS_OK;
}

static void free_leader(struct leader *l) {
    for (int i = 0; i < STEPS_AHEAD; i++) {
        for (int32_t rank = 0; l->flights[i].answers != NULL && rank < l->settings->plan.ranks;
             rank++) {
            free(l->flights[i].answers[rank].data);
        }
        free(l->flights[i].answers);
        free(l->flights[i].documents);
        free(l->flights[i].spans);
    }
    reader_close(l->reader);
    documents_close(&l->documents);
    plan_free(&l->plan);
    plan_pins_close(&l->pins);
    free(l->waiting);
    free(l->candidates);
    free(l->served);
    free(l->cuts);
}

enum status leader_run(const struct leader_settings *settings, struct comm *comm,
                       struct source *source, struct sink *sink, struct leader_counts *counts) {
    const struct reader_settings reading = {.tokens_most = settings->queue_tokens,
                                            .records_most = RECORDS_QUEUED};
    struct leader l = {.settings = settings,
                       .comm = comm,
                       .source = source,
                       .sink = sink,
                       .counts = counts,
                       .next_commit_ms = clock_ms() + settings->commit_interval_ms,
                       .next_progress_ms = clock_ms() + PROGRESS_MS};
    enum status status = STATUS_OK;
    bool done = false;
    *counts = (struct leader_counts){0};
    TRY_OUT(status, documents_open(&l.documents, &settings->documents));
    TRY_OUT(status, plan_pins_open(settings->plan.ranks, &l.pins));
    for (int i = 0; i < STEPS_AHEAD; i++) {
        l.flights[i].answers = calloc((size_t)settings->plan.ranks, sizeof *l.flights[i].answers);
        if (l.flights[i].answers == NULL) {
            status = FAIL(NO_MEMORY, "answers of %d ranks", settings->plan.ranks);
            goto out;
        }
    }
    TRY_OUT(status, reader_open(source, &reading, &l.reader));
    while (!done) {
        TRY_OUT(status, turn(&l, &done));
    }
    TRY_OUT(status, stop_ranks(&l));
    if (source->table->commit != NULL) TRY_OUT(status, note_cuts(&l));
    l.documents.counts.open = documents_open_count(&l.documents);
    tell_progress(&l, true);
out:
    // the sink is closed, and so confirmed, before the last cuts are committed
    if (status == STATUS_OK) {
        status = sink->table->close(sink, true);
    } else {
        (void)!sink->table->close(sink, false);
    }
    for (size_t i = 0; status == STATUS_OK && i < l.cut_count; i++) {
        status = commit_cut(&l, &l.cuts[i]);
    }
    counts->documents = l.documents.counts;
    if (status == STATUS_OK && l.stopped) status = STATUS_STOPPED;
    free_leader(&l);
    return status;
}
