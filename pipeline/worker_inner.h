#pragma once
// What worker.c, the loop over steps, and worker_states.c, the states that come and go, share.

#include "pipeline/step.h"
#include "pipeline/worker.h"

#define WORKER_FLIGHTS 2 // steps queued at once: one that runs, and one behind it
_Static_assert(WORKER_FLIGHTS <= MODEL_MARK, "the model's marks come behind the worker's");

// States that are read until they are given back.
struct loans {
    struct entry **lent;
    size_t count, room;
};

// Sends under way. Once they are done the line's slot is free, and the moved states are given back.
struct sends {
    struct transfer **transfers;
    size_t count, room;
    char *line; // NULL: nothing went right
    struct loans loans;
};

struct incoming { // a state on its way to us
    uint64_t key;
    enum channel channel;
    int32_t peer;
    char *slot;
    struct transfer **transfers; // [layers * STATE_PARTS]; a move uses a layer's first
};

// A step from its message to its answer, and then until its sends are done.
struct flight {
    struct message message; // which the step points into
    struct step step;
    char *line_out; // the slot of the state that goes right, or NULL
    struct incoming *incoming;
    size_t incoming_count, incoming_room;
    const char **moving; // the states that are moved away, as the step's moves
    size_t moving_room;
    struct sends sends;
    struct model_span *spans;
    size_t spans_room;
    struct loans loans; // what spans start from, until the step is queued
    int32_t *target, *asked;
    size_t target_room, asked_room;
    float *nll; // [nll_rows], the backend's host memory
    int64_t nll_rows;
    struct best_token *best; // [best_rows], likewise
    int64_t best_rows;
    int64_t came_ns;
};

struct worker {
    struct boundary boundary; // first: the model gives it back to us
    const struct worker_settings *settings;
    struct worker_counts *counts;
    struct comm *comm;
    struct transport *transport;
    struct backend *backend;
    struct model *model;
    const struct model_info *info;
    struct slots *slots;

    struct flight flights[WORKER_FLIGHTS];
    struct flight *queueing; // the one that the boundary is asked for
    uint64_t queued, done;   // steps
    int64_t done_ns;         // when the last one was
    int64_t next_idle_ms;    // when states are looked through for idle ones
    bool stop;               // the leader has no more steps
};

// Post the receives of a step and the sends of what moves away; a batch of layers of all moves together,
// so that moves in a circle do not wait for each other and the first layers do not wait for the last.
// Moves before the line: making a slot may wait for all that is on the device, and a receive there that
// waits for the left neighbour, which waits for a move of ours, would never end.
enum status worker_begin_transfers(struct worker *w, struct flight *flight);
enum status worker_find_incoming(const struct flight *flight, uint64_t key, const char **state);
// The seam of the model, for w->queueing.
enum status worker_arrive(struct boundary *boundary, int32_t layer, enum state_part part);
enum status worker_leave(struct boundary *boundary, int32_t layer, enum state_part part);
// The state kept under `source`, to be read until the loans are given back. stays: under its name.
enum status worker_borrow(struct worker *w, struct loans *loans, uint64_t source, bool stays,
                          const char **state);
void worker_give_back(struct worker *w, struct loans *loans);
// Wait for them. The queue has passed the step, or all has failed.
enum status worker_finish_incoming(struct worker *w, struct flight *flight);
enum status worker_finish_sends(struct worker *w, struct flight *flight);
