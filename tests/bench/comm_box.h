#pragma once
// In place of pipeline/comm.c: a box on the leader's own thread that takes the step messages, and gives
// an answer of the right size to each.

#include "ops/base/check.h"
#include "pipeline/step.h"

#include <stdlib.h>

enum { RANKS = 64 };

struct comm {
    struct message held[RANKS];
    int32_t count, given;
};

enum status comm_send(struct comm *comm, struct message *message) {
    CHECK(comm->count < RANKS);
    comm->held[comm->count++] = *message;
    message->data = NULL;
    return STATUS_OK;
}

enum status comm_next(struct comm *comm, enum message_kind kind, int32_t timeout_ms,
                      struct message *message) {
    (void)kind;
    (void)timeout_ms;
    if (comm->given == comm->count) return STATUS_AGAIN;
    *message = comm->held[comm->given++];
    return STATUS_OK;
}

// Each step message becomes its answer.
static inline void answer(struct comm *comm) {
    for (int32_t i = 0; i < comm->count; i++) {
        struct message *message = &comm->held[i];
        const int32_t rank = message->peer;
        struct step step;
        if (step_read(message, &step) != STATUS_OK) abort();
        free(message->data);
        const struct step_result counts = {.number = step.number, .rows = step.rows};
        struct step_result_arrays arrays;
        if (step_result_make(&counts, message, &arrays) != STATUS_OK) abort();
        for (int64_t row = 0; row < step.rows; row++) {
            arrays.nll[row] = 1.5f;
        }
        message->peer = rank;
    }
}
