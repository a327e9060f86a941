// The communication thread over loopback links: messages, states under stress, and every way in
// which ranks end.

#include "pipeline/comm.h"

#include "ops/base/clock.h"
#include "tests/exchange.h"
#include "tests/queue_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

enum { RANKS = 8, PATIENT_MS = 60000, SHORT_MS = 1000 };

static const struct loopback_settings rough = {.rendezvous = true, .delay_us = 500, .seed = 1};

static enum status send_number(struct comm *comm, enum message_kind kind, int32_t peer,
                               int64_t number, size_t bytes) {
    struct message message = {.kind = kind, .peer = peer, .bytes = bytes, .data = malloc(bytes)};
    if (message.data == NULL) return STATUS_NO_MEMORY;
    memset(message.data, (int)(number & 127), bytes);
    memcpy(message.data, &number, sizeof number);
    return comm_send(comm, &message);
}

static int64_t number_of(struct rank_thread *self, struct message *message, size_t bytes) {
    int64_t number = -1;
    EXPECT(self, message->bytes == bytes);
    if (message->bytes >= sizeof number) {
        const char *data = message->data;
        memcpy(&number, data, sizeof number);
        EXPECT(self,
               message->bytes == sizeof number || data[message->bytes - 1] == (char)(number & 127));
    }
    free(message->data);
    return number;
}

// Every rank sends every rank, itself too, steps and results of many sizes; each kind arrives in
// the order sent.
static void everyone_talks(struct rank_thread *self) {
    static const size_t sizes[] = {8, 9, 100, 70000, 3 << 20};
    struct comm *comm = comm_of(self, PATIENT_MS);
    const int32_t ranks = self->link->ranks;
    int64_t next[2][RANKS] = {{0}};
    for (int64_t i = 0; i < 10; i++) {
        for (int32_t peer = 0; peer < ranks; peer++) {
            const size_t bytes = sizes[(i + peer) % 4 + (i == 9)];
            EXPECT(self, send_number(comm, MESSAGE_STEP, peer, i, bytes) == STATUS_OK);
            EXPECT(self, send_number(comm, MESSAGE_RESULT, peer, -1 - i, 8) == STATUS_OK);
        }
    }
    for (int32_t i = 0; i < 20 * ranks; i++) {
        const enum message_kind kind = i % 2 == 0 ? MESSAGE_RESULT : MESSAGE_STEP;
        struct message message;
        enum status status = STATUS_AGAIN;
        while (status == STATUS_AGAIN) {
            status = comm_next(comm, kind, 100, &message);
        }
        EXPECT(self, status == STATUS_OK && message.kind == kind);
        if (status != STATUS_OK) break;
        const int64_t at = next[kind == MESSAGE_STEP][message.peer]++;
        const size_t bytes =
            kind == MESSAGE_STEP ? sizes[(at + self->link->rank) % 4 + (at == 9)] : 8;
        EXPECT(self, number_of(self, &message, bytes) == (kind == MESSAGE_STEP ? at : -1 - at));
    }
    struct message none;
    EXPECT(self, comm_next(comm, MESSAGE_STEP, 0, &none) == STATUS_AGAIN);
    EXPECT(self, comm_health(comm) == STATUS_OK && comm_failure(comm) == 0);
    comm_close(comm, false);
}

static void messages_arrive_in_order(void **state) {
    (void)state;
    assert_int_equal(run_ranks(4, rough, 60, everyone_talks, NULL), 0);
    assert_int_equal(run_ranks(4, (struct loopback_settings){0}, 60, everyone_talks, NULL), 0);
    assert_int_equal(run_ranks(1, rough, 60, everyone_talks, NULL), 0);
}

static void exchange(struct rank_thread *self) {
    struct comm *comm = comm_of(self, PATIENT_MS);
    struct backend *queue = NULL;
    EXPECT(self, queue_backend_open(NULL, (uint64_t)self->link->rank, 300, &queue) == STATUS_OK);
    exchange_states(self, comm, queue);
    queue->table->close(queue);
    comm_close(comm, false);
}

static void states_never_hang(void **state) {
    const int64_t start = clock_ms();
    (void)state;
    assert_int_equal(run_ranks(RANKS, rough, 120, exchange, NULL), 0);
    assert_int_equal(run_ranks(2, (struct loopback_settings){0}, 60, exchange, NULL), 0);
    print_message("states: %lld ms\n", (long long)(clock_ms() - start));
}

static void two_hop(struct rank_thread *self) {
    struct comm *comm = comm_of(self, PATIENT_MS);
    ping_pong(self, comm);
    comm_close(comm, false);
}

static void hops_are_quick(void **state) {
    (void)state;
    assert_int_equal(run_ranks(2, (struct loopback_settings){0}, 60, two_hop, NULL), 0);
}

static void idle(struct rank_thread *self) {
    struct comm *comm = comm_of(self, PATIENT_MS);
    struct message none;
    EXPECT(self, comm_next(comm, MESSAGE_STEP, 1500, &none) == STATUS_AGAIN);
    comm_close(comm, false);
}

static void idle_ranks_burn_no_core(void **state) {
    (void)state;
    const clock_t start = clock();
    assert_int_equal(run_ranks(RANKS, (struct loopback_settings){0}, 60, idle, NULL), 0);
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    print_message("8 idle ranks: %.0f ms of processor time in 1500 ms\n", seconds * 1e3);
    assert_true(seconds < 0.75); // 12 if they all waited busily
}

// Rank 3 never answers. Everyone else finds out, whatever they wait for.
static void one_is_silent(struct rank_thread *self) {
    if (self->link->rank == 3) {
        const struct timespec pause = {.tv_sec = 3};
        nanosleep(&pause, NULL);
        return;
    }
    struct comm *comm = comm_of(self, SHORT_MS);
    struct backend backend = host_backend();
    struct transport *transport = NULL;
    const int64_t start = clock_ms();
    EXPECT(self, host_transport_open(comm, &backend, &transport) == STATUS_OK);
    if (self->link->rank == 0) {
        struct message none;
        EXPECT(self, send_number(comm, MESSAGE_STEP, 3, 1, 1000) == STATUS_OK);
        EXPECT(self, comm_next(comm, MESSAGE_RESULT, PATIENT_MS, &none) == STATUS_PEER);
    } else {
        struct transfer *transfer = NULL;
        uint64_t data = 1;
        enum status (*const wait)(struct transport *, struct transfer **) =
            transport->table->finish;
        if (self->link->rank == 1) {
            EXPECT(self, transport->table->receive(transport, CHANNEL_LINE, 2, 5, &data,
                                                   sizeof data, &transfer) == STATUS_OK);
            EXPECT(self, transport->table->order(transport, transfer) == STATUS_OK);
        } else {
            EXPECT(self, transport->table->send(transport, CHANNEL_MOVES, 3, 5, &data, sizeof data,
                                                &transfer) == STATUS_OK);
        }
        EXPECT(self, wait(transport, &transfer) == STATUS_PEER && transfer == NULL);
    }
    const int64_t took = clock_ms() - start;
    EXPECT(self, took >= SHORT_MS / 2 && took < 10 * SHORT_MS);
    EXPECT(self, comm_health(comm) == STATUS_PEER && comm_failure(comm) == 142);
    EXPECT(self, transport->table->health(transport) == STATUS_PEER);
    EXPECT(self, send_number(comm, MESSAGE_STEP, 0, 1, 8) == STATUS_PEER);
    transport->table->close(transport);
    comm_close(comm, true);
}

static void silent_peer_is_lost(void **state) {
    (void)state;
    assert_int_equal(run_ranks(5, rough, 60, one_is_silent, NULL), 0);
}

static void one_fails(struct rank_thread *self) {
    struct comm *comm = comm_of(self, PATIENT_MS);
    struct message none;
    if (self->link->rank == 2) {
        comm_fail(comm, 3);
        EXPECT(self, comm_health(comm) == STATUS_PEER && comm_failure(comm) == 0);
    } else {
        EXPECT(self, comm_next(comm, MESSAGE_STEP, PATIENT_MS, &none) == STATUS_PEER);
        EXPECT(self, comm_health(comm) == STATUS_PEER && comm_failure(comm) == 3);
    }
    comm_close(comm, true);
}

static void failure_is_told(void **state) {
    (void)state;
    assert_int_equal(run_ranks(5, rough, 30, one_fails, NULL), 0);
}

// Rank 1 is done at once, rank 0 only after twice the peer deadline; nobody is lost, and nobody
// leaves while rank 0 may still need it.
static void ends_apart(struct rank_thread *self) {
    struct comm *comm = comm_of(self, SHORT_MS);
    atomic_int *last = self->argument;
    if (self->link->rank == 0) {
        const int64_t start = clock_ms();
        while (clock_ms() - start < 2 * SHORT_MS) {
            struct message none;
            EXPECT(self, comm_next(comm, MESSAGE_RESULT, 50, &none) == STATUS_AGAIN);
        }
        EXPECT(self, comm_health(comm) == STATUS_OK);
        *last = 1;
    }
    comm_close(comm, false);
    EXPECT(self, *last == 1);
}

static void farewell_is_not_loss(void **state) {
    atomic_int last = 0;
    (void)state;
    assert_int_equal(run_ranks(4, rough, 30, ends_apart, &last), 0);
}

static void post(struct rank_thread *self, const void *data, size_t bytes) {
    struct link_request *request = NULL;
    bool done = false;
    EXPECT(self, self->link->table->send(self->link, LINK_CONTROL, 0, 0, data, bytes, &request) ==
                     STATUS_OK);
    while (!done && self->link->table->test(self->link, &request, &done) == STATUS_OK) {}
}

// Rank 1 speaks the link's language, but not comm's.
static void one_lies(struct rank_thread *self) {
    const struct {
        uint32_t magic, kind;
        uint64_t bytes, payload;
    } good = {0x4c534331u, MESSAGE_STEP, 8, 9}, magic = {1, MESSAGE_STEP, 8, 9},
      kind = {0x4c534331u, 77, 8, 9}, length = {0x4c534331u, MESSAGE_STEP, UINT64_MAX, 9};
    const int which = *(const int *)self->argument;
    if (self->link->rank == 1) {
        post(self, &good, sizeof good);
        if (which == 0) post(self, &magic, sizeof magic);
        if (which == 1) post(self, &kind, sizeof kind);
        if (which == 2) post(self, &length, sizeof length);
        if (which == 3) post(self, &good, 15);
        if (which == 4) post(self, &good, 0);
        const struct timespec pause = {.tv_nsec = 200000000};
        nanosleep(&pause, NULL);
        return;
    }
    struct comm *comm = comm_of(self, PATIENT_MS);
    struct message message = {0};
    const int64_t start = clock_ms();
    // The good one may have come in time, or all is void already.
    if (comm_next(comm, MESSAGE_STEP, PATIENT_MS, &message) == STATUS_OK) free(message.data);
    EXPECT(self, comm_next(comm, MESSAGE_STEP, PATIENT_MS, &message) == STATUS_PEER);
    EXPECT(self, clock_ms() - start < PATIENT_MS / 2);
    comm_close(comm, true);
}

static void lies_are_not_believed(void **state) {
    (void)state;
    for (int which = 0; which < 5; which++) {
        assert_int_equal(run_ranks(2, (struct loopback_settings){0}, 30, one_lies, &which), 0);
    }
}

static void too_much(struct rank_thread *self) {
    struct comm *comm = comm_of(self, PATIENT_MS);
    struct message message = {.peer = 0, .bytes = MESSAGE_MOST, .data = malloc(1)};
    EXPECT(self, comm_send(comm, &message) == STATUS_USAGE && message.data == NULL);
    comm_close(comm, false);
}

static void sizes_are_limited(void **state) {
    (void)state;
    assert_int_equal(run_ranks(2, (struct loopback_settings){0}, 30, too_much, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_in_order), cmocka_unit_test(states_never_hang),
        cmocka_unit_test(hops_are_quick),           cmocka_unit_test(idle_ranks_burn_no_core),
        cmocka_unit_test(silent_peer_is_lost),      cmocka_unit_test(failure_is_told),
        cmocka_unit_test(farewell_is_not_loss),     cmocka_unit_test(lies_are_not_believed),
        cmocka_unit_test(sizes_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
