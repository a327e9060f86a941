// One step, in order:
//
//   1. drop the states nobody needs any more
//   2. post every receive (the line's from the left, the moves'), queue the moves' sends
//   3. run the model; its boundary orders the queue behind what arrives, layer by layer, and
//      sends what leaves
//   4. wait for the queue; finish this step's receives and the *previous* step's sends, so that
//      a slow right neighbour costs nothing until it is a whole step behind
//   5. keep the new states under their keys, answer the leader
//
// After a failure the same waits release everything, at once, since the communication has failed.
//
// A span never reads and writes the same slot: the state it starts from leaves the store, the one
// it ends with is a new slot. So a send may go on while the next step runs.

#include "pipeline/worker.h"

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "pipeline/step.h"

#include <string.h>

#define TURN_MS 1000

// Sends under way out of slots that are free once they are done.
struct sends {
    struct transfer **transfers;
    size_t count, room;
    char **slots;
    size_t slot_count, slot_room;
};

struct incoming { // a state on its way to us
    uint64_t key;
    char *slot;
    struct transfer **transfers; // [layers * STATE_PARTS]; a move uses a layer's first
};

struct worker {
    struct boundary boundary; // first: the model gives it back to us
    const struct worker_settings *settings;
    struct comm *comm;
    struct transport *transport;
    struct backend *backend;
    struct model *model;
    const struct model_info *info;
    struct slots *slots;

    struct step step;
    char *line_out; // the slot of the state that goes right in this step, or NULL
    struct incoming *incoming;
    size_t incoming_count, incoming_room;
    struct sends sends[2]; // of this step and of the one before
    struct model_span *spans;
    size_t spans_room;
    char **taken; // slots that spans of this step start from
    size_t taken_count, taken_room;
    int32_t *target;
    size_t target_room;
    int64_t next_idle_ms; // when states are looked through for idle ones
};

// What a transfer is, equal on both sides: which step, layer and part.
static uint32_t tag_of(const struct worker *w, int32_t layer, enum state_part part) {
    const uint64_t turn = w->step.number % 64;
    return (uint32_t)((turn * (uint64_t)w->info->layers + (uint64_t)layer) * STATE_PARTS + part);
}

static size_t part_offset(const struct worker *w, int32_t layer, enum state_part part) {
    return (size_t)layer * w->info->layer_bytes + (part == STATE_CONV ? w->info->ssm_bytes : 0);
}

static size_t part_bytes(const struct worker *w, enum state_part part) {
    return part == STATE_CONV ? w->info->layer_bytes - w->info->ssm_bytes : w->info->ssm_bytes;
}

static struct sends *sends_now(struct worker *w) {
    return &w->sends[w->step.number % 2];
}

static enum status queue_send(struct worker *w, enum channel channel, int32_t peer, uint32_t tag,
                              const char *data, size_t bytes) {
    struct sends *sends = sends_now(w);
    if (bytes == 0) return STATUS_OK;
    TRY(room_for((void **)&sends->transfers, &sends->room, sends->count + 1,
                 sizeof *sends->transfers));
    TRY(w->transport->table->send(w->transport, channel, peer, tag, data, bytes,
                                  &sends->transfers[sends->count]));
    sends->count++;
    return STATUS_OK;
}

// The slot is free for others once the sends queued so far in this step are done.
static enum status free_after_sends(struct worker *w, char *slot) {
    struct sends *sends = sends_now(w);
    TRY(room_for((void **)&sends->slots, &sends->slot_room, sends->slot_count + 1,
                 sizeof *sends->slots));
    sends->slots[sends->slot_count++] = slot;
    return STATUS_OK;
}

static enum status finish_sends(struct worker *w, struct sends *sends) {
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sends->count; i++) {
        const enum status finished =
            w->transport->table->finish(w->transport, &sends->transfers[i]);
        if (status == STATUS_OK) status = finished;
    }
    for (size_t i = 0; i < sends->slot_count; i++) {
        slots_free(w->slots, sends->slots[i]);
    }
    sends->count = 0;
    sends->slot_count = 0;
    return status;
}

// Post all receives of one state at once: nothing of it depends on what we compute.
static enum status post_incoming(struct worker *w, enum channel channel, int32_t peer, uint64_t key,
                                 bool whole_layers) {
    const size_t most = (size_t)w->info->layers * STATE_PARTS;
    TRY(room_for((void **)&w->incoming, &w->incoming_room, w->incoming_count + 1,
                 sizeof *w->incoming));
    struct incoming *in = &w->incoming[w->incoming_count];
    *in = (struct incoming){.key = key};
    in->transfers = calloc(most, sizeof(struct transfer *));
    if (in->transfers == NULL) return FAIL(NO_MEMORY, "%zu transfers", most);
    w->incoming_count++;
    TRY(slots_make(w->slots, &in->slot));
    for (int32_t layer = 0; layer < w->info->layers; layer++) {
        for (enum state_part part = 0; part < STATE_PARTS; part++) {
            size_t offset = part_offset(w, layer, part);
            size_t bytes = part_bytes(w, part);
            if (whole_layers) {
                if (part != STATE_CONV) continue;
                offset = (size_t)layer * w->info->layer_bytes;
                bytes = w->info->layer_bytes;
            }
            if (bytes == 0) continue;
            TRY(w->transport->table->receive(w->transport, channel, peer, tag_of(w, layer, part),
                                             in->slot + offset, bytes,
                                             &in->transfers[layer * STATE_PARTS + (int32_t)part]));
        }
    }
    return STATUS_OK;
}

// Queue the sends of a whole state, layer by layer.
static enum status queue_move(struct worker *w, const struct step_move *move) {
    char *slot = NULL;
    TRY(slots_take(w->slots, move->key, &slot));
    for (int32_t layer = 0; layer < w->info->layers; layer++) {
        TRY(queue_send(w, CHANNEL_MOVES, move->peer, tag_of(w, layer, STATE_CONV),
                       slot + (size_t)layer * w->info->layer_bytes, w->info->layer_bytes));
    }
    return free_after_sends(w, slot);
}

static enum status arrive(struct boundary *boundary, int32_t layer, enum state_part part) {
    struct worker *w = (struct worker *)boundary;
    for (size_t i = 0; i < w->incoming_count; i++) {
        struct transfer *transfer = w->incoming[i].transfers[layer * STATE_PARTS + (int32_t)part];
        if (transfer == NULL) continue;
        TRY(w->transport->table->order(w->transport, transfer));
    }
    return STATUS_OK;
}

static enum status leave(struct boundary *boundary, int32_t layer, enum state_part part) {
    struct worker *w = (struct worker *)boundary;
    if (w->line_out == NULL) return STATUS_OK;
    return queue_send(w, CHANNEL_LINE, w->settings->rank + 1, tag_of(w, layer, part),
                      w->line_out + part_offset(w, layer, part), part_bytes(w, part));
}

static enum status finish_incoming(struct worker *w) {
    const int32_t transfers = w->info->layers * STATE_PARTS;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < w->incoming_count; i++) {
        for (int32_t t = 0; t < transfers; t++) {
            if (w->incoming[i].transfers[t] == NULL) continue;
            const enum status finished =
                w->transport->table->finish(w->transport, &w->incoming[i].transfers[t]);
            if (status == STATUS_OK) status = finished;
        }
        free(w->incoming[i].transfers);
        if (w->incoming[i].slot != NULL) slots_free(w->slots, w->incoming[i].slot);
    }
    w->incoming_count = 0;
    return status;
}

static enum status check_step(const struct worker *w) {
    const struct step *step = &w->step;
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
    return STATUS_OK;
}

static enum status find_incoming(const struct worker *w, uint64_t key, const char **state) {
    for (size_t i = 0; i < w->incoming_count; i++) {
        if (w->incoming[i].key == key) {
            *state = w->incoming[i].slot;
            return STATUS_OK;
        }
    }
    return FAIL(PEER, "step %llu has a span whose state nobody sends",
                (unsigned long long)w->step.number);
}

// Slots and targets of the step's spans.
static enum status prepare_spans(struct worker *w) {
    const struct step *step = &w->step;
    int64_t row = 0;
    TRY(room_for((void **)&w->spans, &w->spans_room, (size_t)step->span_count, sizeof *w->spans));
    TRY(room_for((void **)&w->taken, &w->taken_room, (size_t)step->span_count, sizeof *w->taken));
    TRY(room_for((void **)&w->target, &w->target_room, (size_t)step->rows, sizeof *w->target));
    w->taken_count = 0;
    w->line_out = NULL;
    for (int64_t i = 0; i < step->span_count; i++) {
        const struct step_span *from = &step->spans[i];
        struct model_span *span = &w->spans[i];
        *span = (struct model_span){.rows = from->count};
        if (from->from == FROM_SLOT) {
            char *slot = NULL;
            TRY(slots_take(w->slots, from->key, &slot));
            w->taken[w->taken_count++] = slot;
            span->state_in = slot;
        } else if (from->from != FROM_ZERO) {
            TRY(find_incoming(w, from->key, &span->state_in));
        }
        if (from->to != TO_NOWHERE) TRY(slots_make(w->slots, &span->state_out));
        if (from->to == TO_RIGHT) w->line_out = span->state_out;
        memcpy(w->target + row, step->token + row + 1,
               (size_t)(from->count - 1) * sizeof *w->target);
        w->target[row + from->count - 1] = from->lookahead;
        row += from->count;
    }
    return STATUS_OK;
}

static enum status begin_transfers(struct worker *w) {
    const struct step *step = &w->step;
    if (step->span_count > 0 && step->spans[0].from == FROM_LEFT) {
        TRY(post_incoming(w, CHANNEL_LINE, w->settings->rank - 1, step->spans[0].key, false));
    }
    for (int64_t i = 0; i < step->move_count; i++) {
        const struct step_move *move = &step->moves[i];
        if (move->out) {
            TRY(queue_move(w, move));
        } else {
            TRY(post_incoming(w, CHANNEL_MOVES, move->peer, move->key, true));
        }
    }
    return STATUS_OK;
}

static enum status keep_states(struct worker *w) {
    const struct step *step = &w->step;
    for (size_t i = 0; i < w->taken_count; i++) {
        slots_free(w->slots, w->taken[i]);
    }
    for (int64_t i = 0; i < step->span_count; i++) {
        if (step->spans[i].to == TO_SLOT) {
            TRY(slots_keep(w->slots, step->spans[i].key, w->spans[i].state_out));
        }
    }
    if (w->line_out != NULL) TRY(free_after_sends(w, w->line_out));
    return STATUS_OK;
}

static enum status run_step(struct worker *w, float *nll) {
    const struct step *step = &w->step;
    TRY(check_step(w));
    for (int64_t i = 0; i < step->drop_count; i++) {
        slots_drop(w->slots, step->drops[i]);
    }
    TRY(begin_transfers(w));
    TRY(prepare_spans(w));
    if (step->rows > 0) {
        const struct model_step run = {.rows = step->rows,
                                       .token = step->token,
                                       .target = w->target,
                                       .spans = w->spans,
                                       .span_count = step->span_count,
                                       .boundary = &w->boundary,
                                       .nll = nll};
        TRY(model_run(w->model, &run));
    }
    TRY(w->backend->table->wait(w->backend));
    TRY(w->transport->table->health(w->transport)); // or what was computed is void
    TRY(finish_incoming(w));
    TRY(keep_states(w));
    return finish_sends(w, &w->sends[(step->number + 1) % 2]);
}

// Nothing more will come or be taken: said to all, so no wait is a long one. Then nothing queued
// uses this step any more.
static void give_up(struct worker *w, enum status status) {
    comm_fail(w->comm, status_exit_code(status));
    (void)!w->backend->table->wait(w->backend);
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

static enum status next_step(struct worker *w, struct message *message) {
    enum status status = STATUS_AGAIN;
    while (status == STATUS_AGAIN) {
        TRY(spill_idle(w));
        status = comm_next(w->comm, MESSAGE_STEP, turn_ms(w), message);
    }
    return status;
}

static enum status take_step(struct worker *w, struct worker_counts *counts, bool *stop) {
    struct message message = {.kind = MESSAGE_STEP};
    struct message answer = {.kind = MESSAGE_RESULT};
    float *nll = NULL;
    enum status status = STATUS_OK;
    int64_t came_ns = 0;
    const int64_t begin_ns = clock_ns();
    TRY_OUT(status, next_step(w, &message));
    came_ns = clock_ns();

    TRY_OUT(status, step_read(&message, &w->step));
    *stop = w->step.stop;
    if (*stop) goto out;
    // between steps: before the first one the leader may still be opening its source
    if (counts->steps > 0) counts->wait_ns += came_ns - begin_ns;
    TRY_OUT(status, step_result_make(w->step.number, w->step.rows, &answer, &nll));
    TRY_OUT(status, run_step(w, nll));
    counts->steps++;
    counts->rows += w->step.rows;
    counts->compute_ns += clock_ns() - came_ns;
    answer.peer = w->settings->leader;
    TRY_OUT(status, comm_send(w->comm, &answer));
out:
    if (status != STATUS_OK) give_up(w, status);
    free(message.data);
    free(answer.data); // NULL once it is comm's
    return status;
}

enum status worker_run(const struct worker_settings *settings, struct comm *comm,
                       struct transport *transport, struct backend *backend, struct model *model,
                       struct slots *slots, struct worker_counts *counts) {
    struct worker w = {
        .boundary = {.arrive = arrive, .leave = leave},
        .settings = settings,
        .comm = comm,
        .transport = transport,
        .backend = backend,
        .model = model,
        .info = model_info(model),
        .slots = slots
    };
    enum status status = STATUS_OK;
    bool stop = false;
    *counts = (struct worker_counts){0};
    while (status == STATUS_OK && !stop) {
        status = take_step(&w, counts, &stop);
    }
    for (int i = 0; i < 2; i++) {
        const enum status finished = finish_sends(&w, &w.sends[i]);
        if (status == STATUS_OK) status = finished;
    }
    (void)!finish_incoming(&w);
    free(w.incoming);
    for (int i = 0; i < 2; i++) {
        free(w.sends[i].transfers);
        free(w.sends[i].slots);
    }
    free(w.spans);
    free(w.taken);
    free(w.target);
    return status;
}
