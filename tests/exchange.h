#pragma once
// What ranks do to each other in a step, with states that tell where they come from: random moves
// and the line at once. For loopback (tests/comm_test.c) and MPI (tests/mpi_link_check.c).

#include "ops/base/clock.h"
#include "pipeline/comm.h"
#include "tests/host_backend.h"
#include "tests/rank_threads.h"

static uint64_t draw(uint64_t *random) {
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static struct comm *comm_of(struct rank_thread *self, int32_t peer_timeout_ms) {
    struct comm *comm = NULL;
    const struct comm_settings settings = {.peer_timeout_ms = peer_timeout_ms};
    EXPECT(self, comm_open(self->link, &settings, &comm) == STATUS_OK);
    return comm;
}

enum { STATE_BYTES = 4 << 20, STEPS = 6, LAYERS = 2, MOVES = 8 };
enum { STRIDE = 7 }; // of the words written and looked at: no cache line is left out

struct move {
    int32_t from, to;
};

static void fill(uint64_t *words, uint64_t seed) {
    for (size_t i = 0; i < STATE_BYTES / 8; i += STRIDE) {
        words[i] = seed * 0x9e3779b97f4a7c15u + i;
    }
}

static bool filled(const uint64_t *words, uint64_t seed, uint64_t plus) {
    for (size_t i = 0; i < STATE_BYTES / 8; i += STRIDE) {
        if (words[i] != seed * 0x9e3779b97f4a7c15u + i + plus) return false;
    }
    return true;
}

static void add_one(void *argument) {
    uint64_t *words = argument;
    for (size_t i = 0; i < STATE_BYTES / 8; i += STRIDE) {
        words[i]++;
    }
}

struct exchange {
    struct rank_thread *self;
    struct transport *transport;
    struct backend *backend;
    uint64_t *line[LAYERS], *in[MOVES], *out[MOVES];
    struct transfer *line_in[LAYERS], *line_out[LAYERS], *moves_in[MOVES], *moves_out[MOVES];
};

// The moves of a step: from random ranks to others, the same list on all ranks.
static void exchange_moves(struct exchange *x, const struct move *moves, uint64_t step) {
    const struct transport_table *t = x->transport->table;
    struct rank_thread *self = x->self;
    for (int32_t m = 0; m < MOVES; m++) {
        const uint32_t tag = (uint32_t)(step * MOVES) + (uint32_t)m;
        if (moves[m].to == self->link->rank) {
            EXPECT(self, t->receive(x->transport, CHANNEL_MOVES, moves[m].from, tag, x->in[m],
                                    STATE_BYTES, &x->moves_in[m]) == STATUS_OK);
        } else if (moves[m].from == self->link->rank) {
            fill(x->out[m], tag);
            EXPECT(self, t->send(x->transport, CHANNEL_MOVES, moves[m].to, tag, x->out[m],
                                 STATE_BYTES, &x->moves_out[m]) == STATUS_OK);
        }
    }
}

// From `first` on, each rank adds one to the state of its left neighbour and gives it on.
static void exchange_line(struct exchange *x, int32_t first, uint64_t step) {
    const struct transport_table *t = x->transport->table;
    struct rank_thread *self = x->self;
    const int32_t rank = self->link->rank, last = self->link->ranks - 1;
    for (int32_t l = 0; l < LAYERS && rank > first; l++) {
        EXPECT(self, t->receive(x->transport, CHANNEL_LINE, rank - 1, (uint32_t)l, x->line[l],
                                STATE_BYTES, &x->line_in[l]) == STATUS_OK);
    }
    for (int32_t l = 0; l < LAYERS && rank >= first; l++) {
        if (rank == first) fill(x->line[l], step + (uint64_t)l);
        if (rank > first) EXPECT(self, t->order(x->transport, x->line_in[l]) == STATUS_OK);
        EXPECT(self, x->backend->table->call(x->backend, add_one, x->line[l]) == STATUS_OK);
        if (rank == last) continue;
        EXPECT(self, t->send(x->transport, CHANNEL_LINE, rank + 1, (uint32_t)l, x->line[l],
                             STATE_BYTES, &x->line_out[l]) == STATUS_OK);
    }
}

static void exchange_finish(struct exchange *x, const struct move *moves, int32_t first,
                            uint64_t step) {
    const struct transport_table *t = x->transport->table;
    struct rank_thread *self = x->self;
    const int32_t rank = self->link->rank, last = self->link->ranks - 1;
    // Transfers may be finished before the queue comes to what waits for them, or after.
    if (step % 2 == 0) EXPECT(self, x->backend->table->wait(x->backend) == STATUS_OK);
    for (int32_t l = 0; l < LAYERS && rank >= first; l++) {
        if (rank > first) EXPECT(self, t->finish(x->transport, &x->line_in[l]) == STATUS_OK);
        if (rank < last) EXPECT(self, t->finish(x->transport, &x->line_out[l]) == STATUS_OK);
    }
    EXPECT(self, x->backend->table->wait(x->backend) == STATUS_OK);
    for (int32_t l = 0; l < LAYERS && rank >= first; l++) {
        EXPECT(self, filled(x->line[l], step + (uint64_t)l, (uint64_t)(rank - first + 1)));
    }
    for (int32_t m = 0; m < MOVES; m++) {
        if (moves[m].to == rank) {
            EXPECT(self, t->order(x->transport, x->moves_in[m]) == STATUS_OK);
            EXPECT(self, x->backend->table->wait(x->backend) == STATUS_OK);
            EXPECT(self, t->finish(x->transport, &x->moves_in[m]) == STATUS_OK);
            EXPECT(self, filled(x->in[m], step * MOVES + (uint64_t)m, 0));
        } else if (moves[m].from == rank) {
            EXPECT(self, t->finish(x->transport, &x->moves_out[m]) == STATUS_OK);
        }
    }
}

// STEPS of it, with a backend whose memory is the host's. Leaves comm open.
static void exchange_states(struct rank_thread *self, struct comm *comm, struct backend *backend) {
    struct exchange x = {.self = self, .backend = backend};
    uint64_t random = 77; // the same on every rank
    EXPECT(self, host_transport_open(comm, backend, &x.transport) == STATUS_OK);
    for (int i = 0; i < LAYERS; i++) {
        x.line[i] = calloc(1, STATE_BYTES);
    }
    for (int i = 0; i < MOVES; i++) {
        x.in[i] = calloc(1, STATE_BYTES);
        x.out[i] = calloc(1, STATE_BYTES);
    }
    for (uint64_t step = 0; step < STEPS; step++) {
        struct move moves[MOVES];
        const int32_t first = (int32_t)(draw(&random) % (uint64_t)self->link->ranks);
        for (int m = 0; m < MOVES; m++) {
            moves[m].from = (int32_t)(draw(&random) % (uint64_t)self->link->ranks);
            moves[m].to = (int32_t)(draw(&random) % (uint64_t)(self->link->ranks - 1));
            if (moves[m].to >= moves[m].from) moves[m].to++;
        }
        exchange_moves(&x, moves, step);
        exchange_line(&x, first, step);
        exchange_finish(&x, moves, first, step);
    }
    EXPECT(self, x.transport->table->health(x.transport) == STATUS_OK);
    x.transport->table->close(x.transport);
    for (int i = 0; i < LAYERS; i++) {
        free(x.line[i]);
    }
    for (int i = 0; i < MOVES; i++) {
        free(x.in[i]);
        free(x.out[i]);
    }
}

// A token goes back and forth between ranks 0 and 1: how long is a hop when nothing else happens?
static void ping_pong(struct rank_thread *self, struct comm *comm) {
    enum { ROUNDS = 300 };
    struct backend backend = host_backend();
    struct transport *transport = NULL;
    const int32_t peer = 1 - self->link->rank;
    uint64_t in = 0, out = 0;
    EXPECT(self, host_transport_open(comm, &backend, &transport) == STATUS_OK);
    const int64_t start = clock_ns();
    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct transfer *receive = NULL, *send = NULL;
        EXPECT(self, transport->table->receive(transport, CHANNEL_LINE, peer, i, &in, sizeof in,
                                               &receive) == STATUS_OK);
        if (self->link->rank == 1) EXPECT(self, transport->table->finish(transport, &receive) == 0);
        out = in + 1;
        EXPECT(self, transport->table->send(transport, CHANNEL_LINE, peer, i, &out, sizeof out,
                                            &send) == STATUS_OK);
        if (self->link->rank == 0) EXPECT(self, transport->table->finish(transport, &receive) == 0);
        EXPECT(self, transport->table->finish(transport, &send) == STATUS_OK);
    }
    if (self->link->rank == 0) {
        EXPECT(self, in == 2 * (uint64_t)ROUNDS);
        printf("hop: %.1f us\n", (double)(clock_ns() - start) / 2e3 / ROUNDS);
    }
    transport->table->close(transport);
}
