// pipeline/worker_states.c: which layers of a move start at which place of the step before.

#include "pipeline/worker_inner.h"
#include "tests/host_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LAYERS_MOST = 67, LAYER_BYTES = 96, SSM_BYTES = 64, KEY_OUT = 7, KEY_IN = 8 };

// A transport that notes what it is told.
struct notes {
    struct transport base;
    int32_t left;                       // layers whose state the step has written, so far
    int32_t written[TRANSPORT_BATCHES]; // as many were when the batch was passed
    const char *slot[2];                // of what comes and of what goes
    int32_t posted[2];                  // receives and sends of layers, since the last flush
    int32_t flushed;                    // batches
    int32_t layers;                     // in them
};

static struct notes *notes_of(struct transport *transport) {
    return (struct notes *)transport;
}

static void note_posted(struct notes *notes, bool out, const char *data, size_t bytes) {
    const int32_t layer = notes->layers + notes->posted[out]++;
    assert_int_equal(bytes, LAYER_BYTES);
    if (layer == 0) notes->slot[out] = data;
    assert_ptr_equal(data, notes->slot[out] + (size_t)layer * LAYER_BYTES);
}

static enum status send(struct transport *transport, enum channel channel, int32_t peer,
                        uint32_t tag, const void *data, size_t bytes, struct transfer **transfer) {
    (void)tag;
    assert_int_equal(channel, CHANNEL_MOVES);
    assert_int_equal(peer, 2);
    note_posted(notes_of(transport), true, data, bytes);
    *transfer = NULL;
    return STATUS_OK;
}

static enum status receive(struct transport *transport, enum channel channel, int32_t peer,
                           uint32_t tag, void *data, size_t bytes, struct transfer **transfer) {
    (void)tag;
    assert_int_equal(channel, CHANNEL_MOVES);
    assert_int_equal(peer, 0);
    note_posted(notes_of(transport), false, data, bytes);
    *transfer = NULL;
    return STATUS_OK;
}

static enum status passed(struct transport *transport, int32_t batch) {
    struct notes *notes = notes_of(transport);
    assert_in_range(batch, 0, TRANSPORT_BATCHES - 1);
    notes->written[batch] = notes->left;
    return STATUS_OK;
}

// What the batch sends has been written where it may start, and not a layer more.
static enum status flush(struct transport *transport, int32_t batch) {
    struct notes *notes = notes_of(transport);
    assert_int_equal(batch, notes->flushed++);
    assert_int_equal(notes->posted[0], notes->posted[1]);
    notes->layers += notes->posted[0];
    if (notes->posted[0] > 0) assert_int_equal(notes->written[batch], notes->layers);
    notes->posted[0] = 0;
    notes->posted[1] = 0;
    return STATUS_OK;
}

static enum status finish(struct transport *transport, struct transfer **transfer) {
    (void)transport;
    (void)transfer;
    return STATUS_OK;
}

static const struct transport_table notes_table = {
    .send = send, .receive = receive, .passed = passed, .flush = flush, .finish = finish};

static void run_layers(struct worker *w, struct notes *notes) {
    for (int32_t layer = 0; layer < w->info->layers; layer++) {
        assert_int_equal(worker_leave(&w->boundary, layer, STATE_CONV), STATUS_OK);
        notes->left++; // the next call says that its other part is there too
        assert_int_equal(worker_leave(&w->boundary, layer, STATE_SSM), STATUS_OK);
    }
}

static void free_flight(struct worker *w, struct flight *flight) {
    assert_int_equal(worker_finish_sends(w, flight), STATUS_OK);
    assert_int_equal(worker_finish_incoming(w, flight), STATUS_OK);
    free(flight->incoming);
    free(flight->moving);
    free(flight->sends.transfers);
    free(flight->sends.loans.lent);
}

static void try_layers(int32_t layers) {
    static const struct step_move moves[] = {
        {.key = KEY_OUT, .source = KEY_OUT, .peer = 2, .out = 1},
        {.key = KEY_IN,      .peer = 0                      }
    };
    const struct model_info info = {
        .layers = layers, .layer_bytes = LAYER_BYTES, .ssm_bytes = SSM_BYTES};
    const struct worker_settings settings = {.rank = 1, .ranks = 3};
    const struct slots_settings store = {.slot_bytes = (size_t)layers * LAYER_BYTES,
                                         .device_slots = 2};
    struct backend backend = host_backend();
    struct notes notes = {.base.table = &notes_table};
    struct flight before =
                      {
                          0
    },
                  flight = {.step = {.move_count = 2, .moves = moves}};
    struct worker w = {.settings = &settings, .transport = &notes.base, .info = &info};
    char *state = NULL;
    assert_int_equal(slots_open(&backend, &store, &w.slots), STATUS_OK);
    assert_int_equal(slots_make(w.slots, &state), STATUS_OK);
    assert_int_equal(slots_keep(w.slots, KEY_OUT, state), STATUS_OK);
    w.queueing = &before;
    run_layers(&w, &notes);
    w.queueing = &flight;
    assert_int_equal(worker_begin_transfers(&w, &flight), STATUS_OK);
    assert_int_equal(notes.flushed, TRANSPORT_BATCHES);
    assert_int_equal(notes.layers, layers);
    slots_free(w.slots, flight.incoming[0].slot);
    free_flight(&w, &flight);
    slots_close(w.slots);
}

static void a_move_starts_where_its_layers_are_written(void **state) {
    (void)state;
    for (int32_t layers = 1; layers <= LAYERS_MOST; layers++) {
        try_layers(layers);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_move_starts_where_its_layers_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
