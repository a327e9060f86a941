// States on their way from rank to rank. A span never reads and writes the same slot: the state it
// starts from is borrowed, the one it ends with is a new slot. So a send may go on while the next step
// runs.

#include "ops/base/room.h"
#include "pipeline/worker_inner.h"

#include <stdlib.h>

// What a transfer is, equal on both sides: which step, layer and part.
static uint32_t tag_of(const struct worker *w, const struct flight *flight, int32_t layer,
                       enum state_part part) {
    const uint64_t turn = flight->step.number % 64;
    return (uint32_t)((turn * (uint64_t)w->info->layers + (uint64_t)layer) * STATE_PARTS + part);
}

static size_t part_offset(const struct worker *w, int32_t layer, enum state_part part) {
    return (size_t)layer * w->info->layer_bytes + (part == STATE_CONV ? w->info->ssm_bytes : 0);
}

static size_t part_bytes(const struct worker *w, enum state_part part) {
    return part == STATE_CONV ? w->info->layer_bytes - w->info->ssm_bytes : w->info->ssm_bytes;
}

static enum status queue_send(struct worker *w, struct flight *flight, enum channel channel,
                              int32_t peer, uint32_t tag, const char *data, size_t bytes) {
    struct sends *sends = &flight->sends;
    if (bytes == 0) return STATUS_OK;
    TRY(room_for((void **)&sends->transfers, &sends->room, sends->count + 1,
                 sizeof *sends->transfers));
    TRY(w->transport->table->send(w->transport, channel, peer, tag, data, bytes,
                                  &sends->transfers[sends->count]));
    sends->count++;
    return STATUS_OK;
}

enum status worker_borrow(struct worker *w, struct loans *loans, uint64_t source, bool stays,
                          const char **state) {
    TRY(room_for((void **)&loans->lent, &loans->room, loans->count + 1, sizeof *loans->lent));
    TRY(slots_borrow(w->slots, source, &loans->lent[loans->count], state));
    loans->count++;
    if (!stays) slots_drop(w->slots, source);
    return STATUS_OK;
}

void worker_give_back(struct worker *w, struct loans *loans) {
    while (loans->count > 0) {
        slots_return(w->slots, loans->lent[--loans->count]);
    }
}

enum status worker_finish_sends(struct worker *w, struct flight *flight) {
    struct sends *sends = &flight->sends;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sends->count; i++) {
        const enum status finished =
            w->transport->table->finish(w->transport, &sends->transfers[i]);
        if (status == STATUS_OK) status = finished;
    }
    worker_give_back(w, &sends->loans);
    if (sends->line != NULL) slots_free(w->slots, sends->line);
    sends->line = NULL;
    sends->count = 0;
    return status;
}

static enum status add_incoming(struct worker *w, struct flight *flight, enum channel channel,
                                int32_t peer, uint64_t key) {
    const size_t most = (size_t)w->info->layers * STATE_PARTS;
    TRY(room_for((void **)&flight->incoming, &flight->incoming_room, flight->incoming_count + 1,
                 sizeof *flight->incoming));
    struct incoming *in = &flight->incoming[flight->incoming_count];
    *in = (struct incoming){.key = key, .channel = channel, .peer = peer};
    in->transfers = calloc(most, sizeof(struct transfer *));
    if (in->transfers == NULL) return FAIL(NO_MEMORY, "%zu transfers", most);
    flight->incoming_count++;
    return slots_make(w->slots, &in->slot);
}

static enum status receive(struct worker *w, struct flight *flight, struct incoming *in,
                           int32_t layer, enum state_part part, size_t offset, size_t bytes) {
    if (bytes == 0) return STATUS_OK;
    return w->transport->table->receive(w->transport, in->channel, in->peer,
                                        tag_of(w, flight, layer, part), in->slot + offset, bytes,
                                        &in->transfers[layer * STATE_PARTS + (int32_t)part]);
}

// All receives of the line's state at once: nothing of it depends on what we compute.
static enum status receive_line(struct worker *w, struct flight *flight, uint64_t key) {
    TRY(add_incoming(w, flight, CHANNEL_LINE, w->settings->rank - 1, key));
    struct incoming *in = &flight->incoming[flight->incoming_count - 1];
    for (int32_t layer = 0; layer < w->info->layers; layer++) {
        for (enum state_part part = 0; part < STATE_PARTS; part++) {
            TRY(receive(w, flight, in, layer, part, part_offset(w, layer, part),
                        part_bytes(w, part)));
        }
    }
    return STATUS_OK;
}

// Slots for the step's moves, in the order of its list: those that come are incoming, those that go are
// in `moving`.
static enum status prepare_moves(struct worker *w, struct flight *flight) {
    const struct step *step = &flight->step;
    TRY(room_for((void **)&flight->moving, &flight->moving_room, (size_t)step->move_count,
                 sizeof *flight->moving));
    for (int64_t i = 0; i < step->move_count; i++) {
        const struct step_move *move = &step->moves[i];
        flight->moving[i] = NULL;
        if (move->out) {
            TRY(worker_borrow(w, &flight->sends.loans, move->source, move->stays,
                              &flight->moving[i]));
        } else {
            TRY(add_incoming(w, flight, CHANNEL_MOVES, move->peer, move->key));
        }
    }
    return STATUS_OK;
}

static enum status post_layer(struct worker *w, struct flight *flight, int32_t layer) {
    const struct step *step = &flight->step;
    const size_t bytes = w->info->layer_bytes, offset = (size_t)layer * bytes;
    struct incoming *in = flight->incoming; // only moves yet
    for (int64_t i = 0; i < step->move_count; i++) {
        const struct step_move *move = &step->moves[i];
        if (move->out) {
            TRY(queue_send(w, flight, CHANNEL_MOVES, move->peer,
                           tag_of(w, flight, layer, STATE_CONV), flight->moving[i] + offset,
                           bytes));
            continue;
        }
        TRY(receive(w, flight, in, layer, STATE_CONV, offset, bytes));
        in++;
    }
    return STATUS_OK;
}

// The layer after a batch's last.
static int32_t batch_end(const struct worker *w, int32_t batch) {
    return (int32_t)((int64_t)(batch + 1) * w->info->layers / TRANSPORT_BATCHES);
}

static enum status begin_moves(struct worker *w, struct flight *flight) {
    int32_t layer = 0;
    if (flight->step.move_count == 0) return STATUS_OK;
    TRY(prepare_moves(w, flight));
    for (int32_t batch = 0; batch < TRANSPORT_BATCHES; batch++) {
        for (; layer < batch_end(w, batch); layer++) {
            TRY(post_layer(w, flight, layer));
        }
        TRY(w->transport->table->flush(w->transport, batch));
    }
    return STATUS_OK;
}

enum status worker_begin_transfers(struct worker *w, struct flight *flight) {
    const struct step *step = &flight->step;
    TRY(begin_moves(w, flight));
    if (step->span_count == 0 || step->spans[0].from != FROM_LEFT) return STATUS_OK;
    return receive_line(w, flight, step->spans[0].key);
}

enum status worker_find_incoming(const struct flight *flight, uint64_t key, const char **state) {
    for (size_t i = 0; i < flight->incoming_count; i++) {
        if (flight->incoming[i].key == key) {
            *state = flight->incoming[i].slot;
            return STATUS_OK;
        }
    }
    return FAIL(PEER, "step %llu has a span whose state nobody sends",
                (unsigned long long)flight->step.number);
}

enum status worker_arrive(struct boundary *boundary, int32_t layer, enum state_part part) {
    struct worker *w = (struct worker *)boundary;
    const struct flight *flight = w->queueing;
    for (size_t i = 0; i < flight->incoming_count; i++) {
        struct transfer *transfer =
            flight->incoming[i].transfers[layer * STATE_PARTS + (int32_t)part];
        if (transfer == NULL) continue;
        TRY(w->transport->table->order(w->transport, transfer));
    }
    return STATUS_OK;
}

enum status worker_leave(struct boundary *boundary, int32_t layer, enum state_part part) {
    struct worker *w = (struct worker *)boundary;
    struct flight *flight = w->queueing;
    if (flight->line_out != NULL) {
        TRY(queue_send(w, flight, CHANNEL_LINE, w->settings->rank + 1,
                       tag_of(w, flight, layer, part),
                       flight->line_out + part_offset(w, layer, part), part_bytes(w, part)));
    }
    // the layer's other part left before
    for (int32_t batch = 0; batch < TRANSPORT_BATCHES && part == STATE_SSM; batch++) {
        if (batch_end(w, batch) != layer + 1) continue;
        TRY(w->transport->table->passed(w->transport, batch));
    }
    return STATUS_OK;
}

enum status worker_finish_incoming(struct worker *w, struct flight *flight) {
    const int32_t transfers = w->info->layers * STATE_PARTS;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < flight->incoming_count; i++) {
        struct incoming *in = &flight->incoming[i];
        for (int32_t t = 0; t < transfers; t++) {
            if (in->transfers[t] == NULL) continue;
            const enum status finished =
                w->transport->table->finish(w->transport, &in->transfers[t]);
            if (status == STATUS_OK) status = finished;
        }
        free(in->transfers);
    }
    flight->incoming_count = 0;
    return status;
}
