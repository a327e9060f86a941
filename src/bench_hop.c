// How long one layer's state takes to the next rank: there on the line, back as a move, halved.

#include "ops/base/clock.h"
#include "src/bench.h"

#include <stdlib.h>

#define TRIPS 50
#define WARM  5 // trips that are not counted

struct hop {
    struct backend *backend;
    struct transport *transport;
    char *state;
    size_t bytes;
};

// Moves go in batches, here of one each, and this one may start now.
static enum status flush(const struct hop *hop, enum channel channel) {
    if (channel != CHANNEL_MOVES) return STATUS_OK;
    TRY(hop->transport->table->passed(hop->transport, 0));
    return hop->transport->table->flush(hop->transport, 0);
}

// Until the peer has it; the queue is empty before and after.
static enum status give(const struct hop *hop, enum channel channel, int32_t peer, uint32_t tag) {
    const struct transport_table *table = hop->transport->table;
    struct transfer *transfer = NULL;
    TRY(table->send(hop->transport, channel, peer, tag, hop->state, hop->bytes, &transfer));
    TRY(flush(hop, channel));
    return table->finish(hop->transport, &transfer);
}

static enum status take(const struct hop *hop, enum channel channel, int32_t peer, uint32_t tag) {
    const struct transport_table *table = hop->transport->table;
    struct transfer *transfer = NULL;
    TRY(table->receive(hop->transport, channel, peer, tag, hop->state, hop->bytes, &transfer));
    TRY(flush(hop, channel));
    TRY(table->order(hop->transport, transfer));
    TRY(hop->backend->table->wait(hop->backend));
    return table->finish(hop->transport, &transfer);
}

static int rising(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static enum status go_and_return(const struct hop *hop, double *median) {
    double seconds[TRIPS];
    for (int i = -WARM; i < TRIPS; i++) {
        const int64_t begin = clock_ns();
        TRY(give(hop, CHANNEL_LINE, 1, (uint32_t)(i + WARM)));
        TRY(take(hop, CHANNEL_MOVES, 1, (uint32_t)(i + WARM)));
        if (i >= 0) seconds[i] = (double)(clock_ns() - begin) * 1e-9;
    }
    qsort(seconds, TRIPS, sizeof *seconds, rising);
    *median = seconds[TRIPS / 2] / 2;
    return STATUS_OK;
}

static enum status send_back(const struct hop *hop) {
    for (uint32_t i = 0; i < WARM + TRIPS; i++) {
        TRY(take(hop, CHANNEL_LINE, 0, i));
        TRY(give(hop, CHANNEL_MOVES, 0, i));
    }
    return STATUS_OK;
}

static bool peer_was_lost(void *comm) {
    return comm_health(comm) != STATUS_OK;
}

static enum status open_transport(const struct bench *bench, const struct link *link,
                                  const struct transport_choice *choice, struct comm *comm,
                                  struct transport **opened) {
    const struct transport_settings direct = {.rank = link->rank,
                                              .ranks = link->ranks,
                                              .ids = choice->ids,
                                              .peer_timeout_ms =
                                                  (int32_t)bench->settings->peer_timeout_ms,
                                              .lost = peer_was_lost,
                                              .context = comm};
    if (choice->ids == NULL) return host_transport_open(comm, bench->backend, opened);
    return bench->backend->table->transport_open(bench->backend, &direct, opened);
}

// The backend's own transport asks comm whether peers are lost; from what the host's has staged comm
// may still read and write.
static void close_all(struct transport *transport, struct comm *comm, bool direct, bool failed) {
    if (transport != NULL && direct) transport->table->close(transport);
    if (comm != NULL) comm_close(comm, failed);
    if (transport != NULL && !direct) transport->table->close(transport);
}

enum status bench_measure_hop(const struct bench *bench, struct link *link, double *seconds) {
    const int32_t timeout_ms = (int32_t)bench->settings->peer_timeout_ms;
    const struct comm_settings talking = {.peer_timeout_ms = timeout_ms, .stop = stop_requested};
    struct hop hop = {.backend = bench->backend, .bytes = model_info(bench->model)->ssm_bytes};
    struct transport_choice choice = {0};
    struct comm *comm = NULL;
    void *state = NULL;
    enum status status = STATUS_OK;
    *seconds = 0;
    TRY_OUT(status, transport_choose(link, bench->backend, score_transport(bench->settings),
                                     timeout_ms, &choice));
    TRY_OUT(status, comm_open(link, &talking, &comm));
    TRY_OUT(status, open_transport(bench, link, &choice, comm, &hop.transport));
    TRY_OUT(status, bench->backend->table->alloc(bench->backend, hop.bytes, &state));
    hop.state = state;
    TRY_OUT(status, bench->backend->table->wait(bench->backend)); // for its zeros
    if (link->rank == 0) status = go_and_return(&hop, seconds);
    if (link->rank == 1) status = send_back(&hop);
out:
    if (status != STATUS_OK && comm != NULL) comm_fail(comm, status_exit_code(status));
    close_all(hop.transport, comm, choice.ids != NULL, status != STATUS_OK);
    transport_choice_free(&choice);
    bench->backend->table->release(bench->backend, state);
    return status;
}
