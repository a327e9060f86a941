// The leader's steps: what waits becomes a plan and a message to each rank, answers become NLLs of
// documents.
#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "pipeline/leader_inner.h"
#include "pipeline/step.h"

#include <string.h>

#define FETCH_AHEAD 16 // documents; a step may have thousands, which lie all over the memory

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// What is asked for soon is on its way meanwhile.
static void fetch(const struct document *doc) {
    if (doc == NULL) return;
    __builtin_prefetch(&doc->token);
    __builtin_prefetch(&doc->queued);
}

static int64_t capacity(const struct leader *l) {
    return l->settings->plan.step_tokens * l->settings->plan.ranks;
}

// The front of the ready queue for the planner. More than could possibly be served is not looked at.
static enum status gather_waiting(struct leader *l, int64_t *count) {
    const struct documents *d = &l->documents;
    const int64_t room =
        least(d->ready_documents, l->settings->plan.spans_most * l->settings->plan.ranks);
    int64_t tokens = 0, n = 0;
    TRY(room_for((void **)&l->waiting, &l->waiting_room, (size_t)room, sizeof *l->waiting));
    TRY(room_for((void **)&l->candidates, &l->candidates_room, (size_t)room,
                 sizeof *l->candidates));
    for (; n < room && tokens < 4 * capacity(l); n++) {
        struct document *doc = documents_ready_at(d, n);
        bool closes = false;
        fetch(documents_ready_at(d, n + FETCH_AHEAD));
        const int64_t ready = document_ready(doc, &closes);
        l->candidates[n] = doc;
        l->waiting[n] = (struct plan_document){
            .first = doc->planned, .ready = ready, .closes = closes, .holder = doc->holder};
        tokens += least(ready, CHUNK_TOKENS); // each gets a chunk before more
    }
    *count = n;
    return STATUS_OK;
}

// What of the plan is the rank's: its spans begin at `at`, as they are by rank.
static void count_for_rank(const struct leader *l, int32_t rank, int64_t at, struct step *step) {
    for (; at < l->plan.span_count && l->plan.spans[at].rank == rank; at++) {
        step->span_count++;
        step->rows += l->plan.spans[at].count;
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

// One rank's message, of the spans from *at on. Spans are in the plan by rank, in the order of rows, so
// a document's tokens are taken in the order of their positions.
static enum status send_to_rank(struct leader *l, int32_t rank, int64_t *at) {
    struct step step = {.number = l->sent};
    struct step_arrays arrays;
    struct message message;
    int64_t row = 0;
    count_for_rank(l, rank, *at, &step);
    TRY(step_make(&step, &message, &arrays));
    fill_moves_and_drops(l, rank, &arrays);
    for (int64_t i = 0; i < step.span_count; i++) {
        const struct plan_span *span = &l->plan.spans[*at + i];
        struct document *doc = l->candidates[span->document];
        struct step_span *out = &arrays.spans[i];
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
    *at += step.span_count;
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

enum status leader_plan_step(struct leader *l) {
    int64_t count = 0;
    TRY(gather_waiting(l, &count));
    TRY(plan_build_in_slots(l->waiting, count, &l->settings->plan, l->settings->slots, &l->pins,
                            &l->plan));
    if (l->plan.span_count > 0) return STATUS_OK;
    return FAIL(UNEXPECTED, "%lld documents are ready and none can be planned", (long long)count);
}

enum status leader_send_step(struct leader *l) {
    TRY(remember_flight(l, &l->flights[l->sent % STEPS_AHEAD]));
    int64_t at = 0;
    for (int32_t rank = 0; rank < l->settings->plan.ranks; rank++) {
        TRY(send_to_rank(l, rank, &at));
    }
    CHECK(at == l->plan.span_count);
    size_t served = 0;
    for (int64_t i = 0; i < l->plan.span_count; i++) {
        struct document *doc = l->candidates[l->plan.spans[i].document];
        if (l->plan.spans[i].to != TO_RIGHT) l->served[served++] = doc; // once a document
    }
    documents_requeue(&l->documents, l->served, served);
    l->documents.drop_count = 0;
    l->sent++;
    l->counts->steps++;
    l->counts->moves += l->plan.move_count;
    return STATUS_OK;
}

// While a step runs the next one is only sent when it is full: what arrives meanwhile makes it fuller.
enum status leader_send_next(struct leader *l, bool *busy) {
    const uint64_t ahead = l->sent - l->landed;
    if (ahead >= STEPS_AHEAD || l->documents.ready_documents == 0) return STATUS_OK;
    if (ahead > 0 && l->documents.ready_tokens < capacity(l)) return STATUS_OK;

    const int64_t begin_ns = clock_ns();
    if (l->sent == 0) l->first_step_ns = begin_ns;
    TRY(leader_plan_step(l));
    TRY(leader_send_step(l));
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

enum status leader_take_answers(struct leader *l, int32_t timeout_ms, bool *busy) {
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
