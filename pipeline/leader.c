#include "pipeline/leader.h"

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "pipeline/step.h"

#include <string.h>

#define IDLE_MS     5 // longest nap while nothing is there to do
#define PROGRESS_MS 1000

#define RECORDS_A_TURN  1024
#define RECORDS_QUEUED  4096                        // between reader and leader
#define HELD_BYTES_MOST ((int64_t)64 * 1024 * 1024) // of results that wait for their turn

// A step on its way: which documents its rows belong to, and what has come back.
struct flight {
    uint64_t number;
    struct document **documents; // [span_count], as the plan's spans
    struct plan_span *spans;
    int64_t span_count;
    size_t documents_room, spans_room;
    struct message *answers; // [ranks]
    int32_t answered;
};

// An offset that may be committed once `handed_over` results are safe.
struct pending_cut {
    int32_t partition;
    int64_t offset, handed_over;
};

struct leader {
    const struct leader_settings *settings;
    struct comm *comm;
    struct source *source;
    struct sink *sink;
    struct reader *reader;
    struct documents documents;
    struct leader_counts *counts;

    struct plan plan;
    struct plan_pins pins;
    struct plan_document *waiting; // the front of the ready queue, as the planner sees it
    struct document **candidates;  // the same, as documents
    size_t waiting_room, candidates_room;
    struct document **served;
    size_t served_room;

    struct flight flights[STEPS_AHEAD];
    uint64_t sent, landed; // steps
    struct pending_cut *cuts;
    size_t cut_count, cut_room;
    bool input_ended, stopped;
    int64_t next_commit_ms, next_progress_ms, first_step_ns;
};

static int64_t capacity(const struct leader *l) {
    return l->settings->plan.step_tokens * l->settings->plan.ranks;
}

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

// The front of the ready queue for the planner. More than could possibly be served is not looked at.
static enum status gather_waiting(struct leader *l, int64_t *count) {
    const int64_t most = l->settings->plan.spans_most * l->settings->plan.ranks;
    int64_t tokens = 0;
    size_t n = 0;
    for (struct document *doc = l->documents.ready_first;
         doc != NULL && (int64_t)n < most && tokens < 4 * capacity(l); doc = doc->next_ready) {
        bool closes = false;
        TRY(room_for((void **)&l->waiting, &l->waiting_room, n + 1, sizeof *l->waiting));
        TRY(room_for((void **)&l->candidates, &l->candidates_room, n + 1, sizeof *l->candidates));
        const int64_t ready = document_ready(doc, &closes);
        l->candidates[n] = doc;
        l->waiting[n++] = (struct plan_document){
            .first = doc->planned, .ready = ready, .closes = closes, .holder = doc->holder};
        tokens += ready < CHUNK_TOKENS ? ready : CHUNK_TOKENS; // each gets a chunk before more
    }
    *count = (int64_t)n;
    return STATUS_OK;
}

static void count_for_rank(const struct leader *l, int32_t rank, struct step *step) {
    for (int64_t i = 0; i < l->plan.span_count; i++) {
        if (l->plan.spans[i].rank != rank) continue;
        step->span_count++;
        step->rows += l->plan.spans[i].count;
    }
    for (int64_t i = 0; i < l->plan.move_count; i++) {
        step->move_count += l->plan.moves[i].from == rank || l->plan.moves[i].to == rank;
    }
    for (size_t i = 0; i < l->documents.drop_count; i++) {
        step->drop_count += l->documents.drops[i].rank == rank;
    }
}

static void fill_moves_and_drops(const struct leader *l, int32_t rank,
                                 const struct step_arrays *arrays) {
    int64_t moves = 0;
    int64_t drops = 0;
    for (int64_t i = 0; i < l->plan.move_count; i++) {
        const struct plan_move *move = &l->plan.moves[i];
        if (move->from != rank && move->to != rank) continue;
        arrays->moves[moves++] =
            (struct step_move){.key = l->candidates[move->document]->key,
                               .peer = move->from == rank ? move->to : move->from,
                               .out = move->from == rank};
    }
    for (size_t i = 0; i < l->documents.drop_count; i++) {
        if (l->documents.drops[i].rank == rank) arrays->drops[drops++] = l->documents.drops[i].key;
    }
}

// One rank's message. Spans are in the plan by rank, in the order of rows, so a document's tokens
// are taken in the order of their positions.
static enum status send_step(struct leader *l, int32_t rank) {
    struct step step = {.number = l->sent};
    struct step_arrays arrays;
    struct message message;
    int64_t row = 0;
    int64_t n = 0;
    count_for_rank(l, rank, &step);
    TRY(step_make(&step, &message, &arrays));
    fill_moves_and_drops(l, rank, &arrays);
    for (int64_t i = 0; i < l->plan.span_count; i++) {
        const struct plan_span *span = &l->plan.spans[i];
        if (span->rank != rank) continue;
        struct document *doc = l->candidates[span->document];
        struct step_span *out = &arrays.spans[n++];
        CHECK(span->first == doc->planned);
        *out = (struct step_span){.key = doc->key,
                                  .first = span->first,
                                  .count = span->count,
                                  .from = (int32_t)span->from,
                                  .to = (int32_t)span->to};
        documents_take(&l->documents, doc, span->count, arrays.token + row, &out->lookahead);
        doc->holder = span->to == TO_NOWHERE ? -1 : rank;
        row += span->count;
        l->counts->hand_overs += span->to == TO_RIGHT;
    }
    message.peer = rank;
    return comm_send(l->comm, &message);
}

static enum status remember_flight(struct leader *l, struct flight *flight) {
    const size_t spans = (size_t)l->plan.span_count;
    TRY(room_for((void **)&flight->documents, &flight->documents_room, spans,
                 sizeof *flight->documents));
    TRY(room_for((void **)&flight->spans, &flight->spans_room, spans, sizeof *flight->spans));
    TRY(room_for((void **)&l->served, &l->served_room, spans, sizeof *l->served));
    memcpy(flight->spans, l->plan.spans, spans * sizeof *flight->spans);
    for (size_t i = 0; i < spans; i++) {
        flight->documents[i] = l->candidates[flight->spans[i].document];
    }
    flight->span_count = (int64_t)spans;
    flight->number = l->sent;
    flight->answered = 0;
    return STATUS_OK;
}

// Plan and send the next step, if there is one to send. While a step runs the next one is only
// sent when it is full: what arrives meanwhile makes it fuller.
static enum status send_next(struct leader *l, bool *busy) {
    const uint64_t ahead = l->sent - l->landed;
    int64_t count = 0;
    if (ahead >= STEPS_AHEAD || l->documents.ready_documents == 0) return STATUS_OK;
    if (ahead > 0 && l->documents.ready_tokens < capacity(l)) return STATUS_OK;

    const int64_t begin_ns = clock_ns();
    TRY(gather_waiting(l, &count));
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): what gather_waiting made is freed with the leader
    TRY(plan_build_in_slots(l->waiting, count, &l->settings->plan, l->settings->slots, &l->pins,
                            &l->plan));
    if (l->plan.span_count == 0) {
        return FAIL(UNEXPECTED, "%lld documents are ready and none can be planned",
                    (long long)count);
    }
    TRY(remember_flight(l, &l->flights[l->sent % STEPS_AHEAD]));
    for (int32_t rank = 0; rank < l->settings->plan.ranks; rank++) {
        TRY(send_step(l, rank));
    }
    size_t served = 0;
    for (int64_t i = 0; i < l->plan.span_count; i++) {
        struct document *doc = l->candidates[l->plan.spans[i].document];
        if (l->plan.spans[i].to != TO_RIGHT) l->served[served++] = doc; // once a document
    }
    documents_requeue(&l->documents, l->served, served);
    l->documents.drop_count = 0;
    if (l->sent == 0) l->first_step_ns = begin_ns;
    l->sent++;
    l->counts->steps++;
    l->counts->moves += l->plan.move_count;
    l->counts->plan_ns += clock_ns() - begin_ns;
    *busy = true;
    return STATUS_OK;
}

// Hand the step's NLLs to its documents, in the order of the plan, which is theirs of positions.
static enum status land(struct leader *l, struct flight *flight) {
    int64_t i = 0;
    for (int32_t rank = 0; rank < l->settings->plan.ranks; rank++) {
        struct step_result result;
        int64_t row = 0;
        TRY(step_result_read(&flight->answers[rank], &result));
        for (; i < flight->span_count && flight->spans[i].rank == rank; i++) {
            const struct plan_span *span = &flight->spans[i];
            if (row + span->count > result.rows) {
                return FAIL(PEER, "rank %d answered %lld rows to step %llu", rank,
                            (long long)result.rows, (unsigned long long)flight->number);
            }
            TRY(documents_answer(&l->documents, flight->documents[i], span->first, result.nll + row,
                                 span->count));
            row += span->count;
        }
        free(flight->answers[rank].data);
        flight->answers[rank] = (struct message){0};
    }
    l->landed++;
    l->counts->run_ns = clock_ns() - l->first_step_ns;
    return STATUS_OK;
}

static enum status take_answers(struct leader *l, int32_t timeout_ms, bool *busy) {
    while (l->landed < l->sent) {
        struct message message = {.kind = MESSAGE_RESULT};
        struct step_result result;
        enum status status = comm_next(l->comm, MESSAGE_RESULT, timeout_ms, &message);
        if (status == STATUS_AGAIN) return STATUS_OK;
        if (status != STATUS_OK) return status;
        *busy = true;
        timeout_ms = 0;
        status = step_result_read(&message, &result);
        struct flight *flight = &l->flights[result.number % STEPS_AHEAD];
        if (status != STATUS_OK || result.number < l->landed || result.number >= l->sent ||
            message.peer < 0 || message.peer >= l->settings->plan.ranks ||
            flight->answers[message.peer].data != NULL) {
            free(message.data);
            return FAIL(PEER, "rank %d sent an answer nobody asked for", message.peer);
        }
        flight->answers[message.peer] = message;
        flight->answered++;
        flight = &l->flights[l->landed % STEPS_AHEAD];
        while (l->landed < l->sent && flight->answered == l->settings->plan.ranks) {
            TRY(land(l, flight));
            flight = &l->flights[l->landed % STEPS_AHEAD];
        }
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

static enum status commit_cuts(struct leader *l) {
    int64_t confirmed = 0;
    size_t kept = 0;
    TRY(l->sink->table->confirmed(l->sink, &confirmed));
    for (size_t i = 0; i < l->cut_count; i++) {
        if (l->cuts[i].handed_over > confirmed) {
            l->cuts[kept++] = l->cuts[i];
            continue;
        }
        CHECK(l->source->table->commit != NULL); // or no cut would have been noted
        TRY(l->source->table->commit(l->source, l->cuts[i].partition, l->cuts[i].offset, ""));
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
    if (l->settings->stop != NULL && l->settings->stop() && !l->stopped) {
        l->stopped = true;
        LOG(INFO, "stopping: finishing what is begun");
        reader_stop(l->reader);
    }
    TRY(take_in(l, 0, &busy));
    TRY(send_next(l, &busy));
    TRY(take_answers(l, 0, &busy));
    TRY(documents_emit(&l->documents, l->sink));
    TRY(keep_cuts(l));
    tell_progress(l, false);
    *done = l->input_ended && l->sent == l->landed && l->documents.ready_documents == 0;
    if (busy || *done) return STATUS_OK;
    // nap where the next thing will come from
    if (l->sent > l->landed) return take_answers(l, IDLE_MS, &busy);
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
        status = source->table->commit(source, l.cuts[i].partition, l.cuts[i].offset, "");
    }
    counts->documents = l.documents.counts;
    if (status == STATUS_OK && l.stopped) status = STATUS_STOPPED;
    free_leader(&l);
    return status;
}
