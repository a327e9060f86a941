// One step is queued while the one before it runs, so that a device is never without work:
//
//   queue a step
//     1. wait for the sends of the last but one: a slow right neighbour costs nothing until it is
//        that far behind
//     2. drop the states nobody needs any more
//     3. queue the moves' sends, post every receive (the moves', the line's from the left)
//     4. queue the model; its boundary orders the queue behind what arrives, layer by layer, and
//        sends what leaves
//     5. mark the place in the queue; keep the new states under their keys
//   when the queue has come to the mark
//     6. finish the step's receives, answer the leader
//
// A backend that runs at once has reached its mark when the step is queued, so there the steps follow
// each other. Slots are used again when the queue has passed all that uses them (pipeline/slots.h).
// After a failure the same waits release everything, at once, since the communication has failed.

#include "pipeline/worker.h"

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "pipeline/worker_inner.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TURN_MS 1000
#define NAP_NS  100000 // from look to look at a queue under way, whose steps take milliseconds

// What the model takes for granted.
static bool rows_fit(const struct worker *w, const struct step *step) {
    const int32_t vocab = w->info->vocab_size;
    if (step->rows > w->settings->step_tokens) return false;
    for (int64_t i = 0; i < step->rows; i++) {
        if (step->token[i] < 0 || step->token[i] >= vocab) return false;
    }
    for (int64_t i = 0; i < step->span_count; i++) {
        if (step->spans[i].lookahead < -1 || step->spans[i].lookahead >= vocab) return false;
    }
    return true;
}

static enum status check_step(const struct worker *w, const struct step *step) {
    const int32_t rank = w->settings->rank;
    const int32_t ranks = w->settings->ranks;
    for (int64_t i = 0; i < step->move_count; i++) {
        const struct step_move *move = &step->moves[i];
        if (move->peer < 0 || move->peer >= ranks || move->peer == rank) {
            return FAIL(PEER, "step %llu moves a state to rank %d",
                        (unsigned long long)step->number, move->peer);
        }
    }
    if (step->span_count > 0 &&
        ((step->spans[0].from == FROM_LEFT && rank == 0) ||
         (step->spans[step->span_count - 1].to == TO_RIGHT && rank == ranks - 1))) {
        return FAIL(PEER, "step %llu hands a state over the end of the line",
                    (unsigned long long)step->number);
    }
    if (!rows_fit(w, step)) {
        return FAIL(PEER, "step %llu has more rows than %lld, or tokens that the model has not",
                    (unsigned long long)step->number, (long long)w->settings->step_tokens);
    }
    if (step->asked > w->settings->asked_most) {
        return FAIL(PEER, "step %llu asks about %lld rows, more than the %lld there is room for",
                    (unsigned long long)step->number, (long long)step->asked,
                    (long long)w->settings->asked_most);
    }
    return STATUS_OK;
}

// The backend's host memory for at least so many rows, which may hold others now.
static enum status answer_room(struct worker *w, int64_t need, size_t row_bytes, void **rows,
                               int64_t *room) {
    const struct backend_table *table = w->backend->table;
    int64_t most = *room > 0 ? *room : CHUNK_TOKENS;
    void *memory = NULL;
    if (*room >= need) return STATUS_OK;
    while (most < need) {
        most *= 2;
    }
    TRY(table->host_alloc(w->backend, (size_t)most * row_bytes, &memory));
    table->host_release(w->backend, *rows);
    *rows = memory;
    *room = most;
    return STATUS_OK;
}

static enum status make_room(struct worker *w, struct flight *flight) {
    const struct step *step = &flight->step;
    TRY(answer_room(w, step->rows, sizeof *flight->nll, (void **)&flight->nll, &flight->nll_rows));
    TRY(answer_room(w, step->asked, sizeof *flight->best, (void **)&flight->best,
                    &flight->best_rows));
    TRY(room_for((void **)&flight->spans, &flight->spans_room, (size_t)step->span_count,
                 sizeof *flight->spans));
    TRY(room_for((void **)&flight->target, &flight->target_room, (size_t)step->rows,
                 sizeof *flight->target));
    return room_for((void **)&flight->asked, &flight->asked_room, (size_t)step->asked,
                    sizeof *flight->asked);
}

// Where the span's state is and where it will be.
static enum status prepare_states(struct worker *w, struct flight *flight,
                                  const struct step_span *from, struct model_span *span) {
    if (from->from == FROM_SLOT) {
        TRY(worker_borrow(w, &flight->loans, from->source, from->stays, &span->state_in));
    } else if (from->from != FROM_ZERO) {
        TRY(worker_find_incoming(flight, from->key, &span->state_in));
    }
    if (from->to != TO_NOWHERE) TRY(slots_make(w->slots, &span->state_out));
    if (from->to == TO_RIGHT) flight->line_out = span->state_out;
    return STATUS_OK;
}

// Slots and targets of the step's spans, and the rows that are asked.
static enum status prepare_spans(struct worker *w, struct flight *flight) {
    const struct step *step = &flight->step;
    int64_t row = 0, asked = 0;
    TRY(make_room(w, flight));
    flight->line_out = NULL;
    for (int64_t i = 0; i < step->span_count; i++) {
        const struct step_span *from = &step->spans[i];
        struct model_span *span = &flight->spans[i];
        *span = (struct model_span){.rows = from->count};
        TRY(prepare_states(w, flight, from, span));
        memcpy(flight->target + row, step->token + row + 1,
               (size_t)(from->count - 1) * sizeof *flight->target);
        flight->target[row + from->count - 1] = from->lookahead;
        row += from->count;
        for (int64_t before = from->asked; before > 0; before--) {
            flight->asked[asked++] = (int32_t)(row - before);
        }
    }
    return STATUS_OK;
}

// Once the step is queued: what it starts from is free when it is done, what it ends with is there for
// the next.
static enum status keep_states(struct worker *w, struct flight *flight) {
    const struct step *step = &flight->step;
    worker_give_back(w, &flight->loans);
    for (size_t i = 0; i < flight->incoming_count; i++) {
        slots_free(w->slots, flight->incoming[i].slot);
    }
    for (int64_t i = 0; i < step->span_count; i++) {
        if (step->spans[i].to == TO_SLOT) {
            TRY(slots_keep(w->slots, step->spans[i].key, flight->spans[i].state_out));
        }
    }
    flight->sends.line = flight->line_out;
    return STATUS_OK;
}

static void drop_states(struct worker *w, const struct step *step) {
    for (int64_t i = 0; i < step->drop_count; i++) {
        slots_drop(w->slots, step->drops[i]);
    }
}

static enum status queue_step(struct worker *w, struct flight *flight) {
    const struct step *step = &flight->step;
    TRY(check_step(w, step));
    drop_states(w, step);
    w->queueing = flight;
    TRY(worker_begin_transfers(w, flight));
    TRY(prepare_spans(w, flight));
    if (step->rows > 0) {
        const struct model_step run = {.rows = step->rows,
                                       .token = step->token,
                                       .target = flight->target,
                                       .spans = flight->spans,
                                       .span_count = step->span_count,
                                       .boundary = &w->boundary,
                                       .nll = flight->nll,
                                       .asked = flight->asked,
                                       .asked_count = step->asked,
                                       .best = flight->best};
        TRY(model_run(w->model, &run));
    }
    TRY(w->backend->table->mark(w->backend, (int32_t)(w->queued % WORKER_FLIGHTS)));
    w->queued++;
    slots_queued(w->slots, w->queued);
    return keep_states(w, flight);
}

static enum status answer_leader(struct worker *w, const struct flight *flight) {
    struct message answer = {.kind = MESSAGE_RESULT};
    const struct step *step = &flight->step;
    const struct step_result counts = {
        .number = step->number, .rows = step->rows, .asked = step->asked};
    struct step_result_arrays out;
    TRY(step_result_make(&counts, &answer, &out));
    if (step->rows > 0) memcpy(out.nll, flight->nll, (size_t)step->rows * sizeof *out.nll);
    if (step->asked > 0) memcpy(out.best, flight->best, (size_t)step->asked * sizeof *out.best);
    answer.peer = w->settings->leader;
    return comm_send(w->comm, &answer); // which owns it, also on failure
}

// The oldest step under way, if the queue has passed it.
static enum status finish_step(struct worker *w, bool *finished) {
    struct flight *flight = &w->flights[w->done % WORKER_FLIGHTS];
    const struct backend_table *table = w->backend->table;
    *finished = false;
    TRY(table->reached(w->backend, (int32_t)(w->done % WORKER_FLIGHTS), finished));
    if (!*finished) return comm_health(w->comm);
    TRY(w->transport->table->health(w->transport)); // or what was computed is void
    TRY(worker_finish_incoming(w, flight));
    w->done++;
    slots_reached(w->slots, w->done);
    const int64_t now_ns = clock_ns();
    const int64_t begin_ns = flight->came_ns > w->done_ns ? flight->came_ns : w->done_ns;
    w->counts->compute_ns += now_ns - begin_ns;
    w->counts->steps++;
    w->counts->rows += flight->step.rows;
    w->done_ns = now_ns;
    TRY(answer_leader(w, flight));
    free(flight->message.data);
    flight->message.data = NULL;
    return STATUS_OK;
}

// A step waits for at most so long, then idle states are seen to.
static int32_t turn_ms(const struct worker *w) {
    const int64_t idle_ms = w->settings->idle_ms;
    return idle_ms > 0 && idle_ms < TURN_MS ? (int32_t)idle_ms : TURN_MS;
}

// There is memory for idle states until others need it, so a full disk is no reason to end.
static enum status spill_idle(struct worker *w) {
    const int64_t now_ms = clock_ms();
    if (w->settings->idle_ms == 0 || now_ms < w->next_idle_ms) return STATUS_OK;
    const enum status status = slots_spill_idle(w->slots, w->settings->idle_ms);
    w->next_idle_ms = now_ms + turn_ms(w);
    if (status != STATUS_IO) return status;
    LOG(WARN, "idle states stay in memory; the next try is in a minute");
    w->next_idle_ms = now_ms + 60000;
    return STATUS_OK;
}

// *came: there was one. Waits for it if nothing is under way.
static enum status take_step(struct worker *w, bool *came) {
    struct flight *flight = &w->flights[w->queued % WORKER_FLIGHTS];
    const bool idle = w->queued == w->done;
    struct message message = {.kind = MESSAGE_STEP};
    *came = false;
    TRY(spill_idle(w));
    const enum status status = comm_next(w->comm, MESSAGE_STEP, idle ? turn_ms(w) : 0, &message);
    if (status == STATUS_AGAIN) return STATUS_OK;
    TRY(status);
    *came = true;
    flight->message = message;
    flight->came_ns = clock_ns();
    TRY(step_read(&flight->message, &flight->step));
    w->stop = flight->step.stop;
    if (w->stop) drop_states(w, &flight->step);
    if (w->stop) return STATUS_OK;
    // between steps: before the first one the leader may still be opening its source
    if (idle && w->counts->steps > 0) w->counts->wait_ns += flight->came_ns - w->done_ns;
    if (!idle) w->counts->ahead++;
    TRY(worker_finish_sends(w, flight));
    return queue_step(w, flight);
}

static enum status turn(struct worker *w) {
    bool moved = false;
    if (w->queued > w->done) TRY(finish_step(w, &moved));
    if (moved) return STATUS_OK;
    if (!w->stop && w->queued - w->done < WORKER_FLIGHTS) TRY(take_step(w, &moved));
    if (!moved && w->queued > w->done) nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    return STATUS_OK;
}

// Nothing more will come or be taken: said to all, so no wait is a long one. Then nothing queued
// uses a step any more.
static void give_up(struct worker *w, enum status status) {
    comm_fail(w->comm, status_exit_code(status));
    (void)!w->backend->table->wait(w->backend);
}

static void free_flight(struct worker *w, struct flight *flight) {
    worker_give_back(w, &flight->loans);
    free(flight->loans.lent);
    free(flight->message.data);
    free(flight->incoming);
    free(flight->moving);
    free(flight->sends.transfers);
    free(flight->sends.loans.lent);
    free(flight->spans);
    free(flight->target);
    free(flight->asked);
    w->backend->table->host_release(w->backend, flight->nll);
    w->backend->table->host_release(w->backend, flight->best);
}

enum status worker_run(const struct worker_settings *settings, struct comm *comm,
                       struct transport *transport, struct backend *backend, struct model *model,
                       struct slots *slots, struct worker_counts *counts) {
    struct worker w = {
        .boundary = {.arrive = worker_arrive, .leave = worker_leave},
        .settings = settings,
        .counts = counts,
        .comm = comm,
        .transport = transport,
        .backend = backend,
        .model = model,
        .info = model_info(model),
        .slots = slots
    };
    enum status status = STATUS_OK;
    *counts = (struct worker_counts){0};
    while (status == STATUS_OK && !(w.stop && w.queued == w.done)) {
        status = turn(&w);
    }
    if (status != STATUS_OK) give_up(&w, status);
    for (int i = 0; i < WORKER_FLIGHTS; i++) {
        const enum status finished = worker_finish_sends(&w, &w.flights[i]);
        if (status == STATUS_OK) status = finished;
    }
    for (int i = 0; i < WORKER_FLIGHTS; i++) {
        (void)!worker_finish_incoming(&w, &w.flights[i]);
        free_flight(&w, &w.flights[i]);
    }
    return status;
}
