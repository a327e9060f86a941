// cuda/nccl_transport.h on a machine without a GPU (tests/nccl_machine.h): a ring of states over all
// ranks, two steps queued at a time, and every way in which it can fail.

#include "cuda/nccl_transport.h"

#include "ops/base/clock.h"
#include "tests/nccl_machine.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    LAYERS = 48,
    PARTS = 2,
    SLOTS = 3,
    WORDS = 4,
    BATCHES = TRANSPORT_BATCHES,
    RANKS_MOST = 8,
    LOOK_AHEAD = 2
};
enum fault { FAULT_NONE, FAULT_START, FAULT_CALL, FAULT_LATE, FAULT_LOST };

struct trial {
    int32_t ranks;
    int64_t steps;
    int buffered;
    uint64_t seed;
    enum fault fault; // of rank 1, halfway; START: when the ranks come together
    int32_t timeout_ms;
};

typedef uint64_t part_words[WORDS];

struct rank {
    const struct trial *trial;
    struct machine *machine;
    struct transport_id *ids;
    int32_t rank;
    struct transport *transport;
    pthread_t thread;
    enum status status;
    atomic_bool lost;
    part_words line[SLOTS][LAYERS][PARTS];  // the state of a step
    part_words round[SLOTS][LAYERS][PARTS]; // what came round, on rank 0
    part_words left[SLOTS][LAYERS][PARTS];  // what circles beside it, from the right neighbour
    struct transfer *transfer[SLOTS][LAYERS * (PARTS * 2 + 4)];
    int transfers[SLOTS];
    int64_t used; // parts of the line; the machine's
    int64_t
        early; // steps whose first move was there before the step before had ended; the machine's
    atomic_int wrong;
    atomic_llong reached; // steps
};

struct kernel { // its argument, freed by it
    struct rank *rank;
    int64_t step;
    int32_t layer, part;
};

// What a part is worth on a rank after a step.
static uint64_t value(const struct rank *r, int32_t rank, int64_t step, int32_t layer,
                      int32_t part) {
    return (uint64_t)(step * r->trial->ranks + rank) + (uint64_t)layer * 1000003u +
           (uint64_t)part * 500009u;
}

// On rank 0 the state is what came round, on others what came from the left; one more in each.
static void compute(void *argument) {
    struct kernel *k = argument;
    struct rank *r = k->rank;
    const int slot = (int)(k->step % SLOTS);
    uint64_t *words = r->line[slot][k->layer][k->part];
    const uint64_t *from = r->rank == 0 ? r->round[slot][k->layer][k->part] : words;
    const bool begins = r->rank == 0 && k->step == 0;
    const uint64_t right = value(r, r->rank, k->step, k->layer, k->part);
    for (int i = 0; i < WORDS; i++) {
        if (!begins && from[i] + 1 != right) atomic_fetch_add(&r->wrong, 1);
        words[i] = right;
    }
    r->used++;
    // receives that wait on the device are few, or it would do little else
    if (r->rank > 0 && machine_receives(r->machine, r->rank) > r->used + LOOK_AHEAD) {
        atomic_fetch_add(&r->wrong, 1);
    }
    free(k);
}

static void check_left(void *argument) {
    struct kernel *k = argument;
    struct rank *r = k->rank;
    const int32_t from = (r->rank + 1) % r->trial->ranks;
    const uint64_t right = value(r, from, k->step - 1, k->layer, k->part);
    if (r->left[k->step % SLOTS][k->layer][k->part][0] != right) atomic_fetch_add(&r->wrong, 1);
    free(k);
}

static void note_reached(void *argument) {
    struct rank *r = argument;
    const int64_t step = atomic_fetch_add(&r->reached, 1);
    const int32_t from = (r->rank + 1) % r->trial->ranks;
    // of step 0 the value may be what the memory is at first
    r->early += step > 0 && r->left[(step + 1) % SLOTS][0][0][0] == value(r, from, step, 0, 0);
}

static void launch(struct rank *r, void (*function)(void *), int64_t step, int32_t layer,
                   int32_t part) {
    struct kernel *k = malloc(sizeof *k);
    if (k == NULL) abort();
    *k = (struct kernel){r, step, layer, part};
    machine_kernel(r->machine, r->rank, function, k);
}

static struct transfer **next_transfer(struct rank *r, int64_t step) {
    return &r->transfer[step % SLOTS][r->transfers[step % SLOTS]++];
}

static enum status failed_transfer(struct rank *r, int64_t step, enum status status) {
    r->transfers[step % SLOTS] -= status != STATUS_OK;
    return status;
}

// The last rank's state goes round to rank 0, and each rank's to its left neighbour, in a circle.
static enum status queue_moves(struct rank *r, int64_t step, struct transfer **round,
                               struct transfer **left) {
    const struct transport_table *t = r->transport->table;
    const int32_t ranks = r->trial->ranks, last = ranks - 1;
    const int32_t to = (r->rank + last) % ranks, from = (r->rank + 1) % ranks;
    const size_t bytes = sizeof r->line[0][0];
    for (int32_t batch = 0; batch < BATCHES && step > 0; batch++) {
        for (int32_t l = batch * LAYERS / BATCHES; l < (batch + 1) * LAYERS / BATCHES; l++) {
            const void *mine = r->line[(step - 1) % SLOTS][l];
            struct transfer **send = next_transfer(r, step);
            TRY(failed_transfer(r, step,
                                t->send(r->transport, CHANNEL_MOVES, to, 0, mine, bytes, send)));
            struct transfer **receive = next_transfer(r, step);
            TRY(failed_transfer(r, step,
                                t->receive(r->transport, CHANNEL_MOVES, from, 0,
                                           r->left[step % SLOTS][l], bytes, receive)));
            left[l] = *receive;
            if (r->rank == last) {
                send = next_transfer(r, step);
                TRY(failed_transfer(r, step,
                                    t->send(r->transport, CHANNEL_MOVES, 0, 0, mine, bytes, send)));
            } else if (r->rank == 0) {
                receive = next_transfer(r, step);
                TRY(failed_transfer(r, step,
                                    t->receive(r->transport, CHANNEL_MOVES, last, 0,
                                               r->round[step % SLOTS][l], bytes, receive)));
                round[l] = *receive;
            }
        }
        TRY(t->flush(r->transport, batch));
    }
    return STATUS_OK;
}

static enum status queue_step(struct rank *r, int64_t step) {
    const struct transport_table *t = r->transport->table;
    struct transfer *line[LAYERS][PARTS] = {{NULL}}, *round[LAYERS] = {NULL},
                    *left[LAYERS] = {NULL};
    const int slot = (int)(step % SLOTS);
    for (int32_t l = 0; l < LAYERS && r->rank > 0; l++) {
        for (int32_t p = 0; p < PARTS; p++) {
            struct transfer **receive = next_transfer(r, step);
            TRY(failed_transfer(r, step,
                                t->receive(r->transport, CHANNEL_LINE, r->rank - 1, 0,
                                           r->line[slot][l][p], sizeof(part_words), receive)));
            line[l][p] = *receive;
        }
    }
    TRY(queue_moves(r, step, round, left));
    for (int32_t l = 0; l < LAYERS; l++) {
        if (step > 0 && r->rank == 0) TRY(t->order(r->transport, round[l]));
        if (step > 0) TRY(t->order(r->transport, left[l]));
        for (int32_t p = 0; p < PARTS; p++) {
            if (step > 0) launch(r, check_left, step, l, p);
            if (r->rank > 0) TRY(t->order(r->transport, line[l][p]));
            launch(r, compute, step, l, p);
            if (r->rank + 1 == r->trial->ranks) continue;
            struct transfer **send = next_transfer(r, step);
            TRY(failed_transfer(r, step,
                                t->send(r->transport, CHANNEL_LINE, r->rank + 1, 0,
                                        r->line[slot][l][p], sizeof(part_words), send)));
        }
        if ((l + 1) % (LAYERS / BATCHES) == 0) {
            TRY(t->passed(r->transport, l / (LAYERS / BATCHES)));
        }
    }
    machine_kernel(r->machine, r->rank, note_reached, r);
    return STATUS_OK;
}

static enum status finish_step(struct rank *r, int64_t step) {
    const struct transport_table *t = r->transport->table;
    enum status status = STATUS_OK;
    while (atomic_load(&r->reached) <= step && status == STATUS_OK) {
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        status = t->health(r->transport);
    }
    for (int i = 0; i < r->transfers[step % SLOTS]; i++) {
        const enum status finished = t->finish(r->transport, &r->transfer[step % SLOTS][i]);
        if (status == STATUS_OK) status = finished;
    }
    r->transfers[step % SLOTS] = 0;
    return status;
}

static enum status run_steps(struct rank *r) {
    const struct trial *trial = r->trial;
    for (int64_t step = 0; step < trial->steps + 2; step++) {
        const bool halfway = r->rank == 1 && step == trial->steps / 2;
        if (halfway && trial->fault == FAULT_CALL) machine_fail_after(r->machine, 1, 100);
        if (halfway && trial->fault == FAULT_LATE) {
            nanosleep(&(struct timespec){.tv_sec = 3 * trial->timeout_ms / 1000}, NULL);
        }
        if (halfway && trial->fault == FAULT_LOST) return STATUS_PEER;
        if (step >= 2) TRY(finish_step(r, step - 2));
        if (step < trial->steps) TRY(queue_step(r, step));
    }
    return STATUS_OK;
}

static bool is_lost(void *context) {
    struct rank *r = context;
    return atomic_load(&r->lost);
}

// As in a job: who fails tells the others.
static void tell_all(struct rank *r) {
    struct rank *all = r - r->rank;
    for (int32_t i = 0; i < r->trial->ranks; i++) {
        atomic_store(&all[i].lost, true);
    }
}

static void *run_rank(void *argument) {
    struct rank *r = argument;
    const struct nccl_place place = machine_place(r->machine, r->rank);
    const struct transport_settings settings = {.rank = r->rank,
                                                .ranks = r->trial->ranks,
                                                .ids = r->ids,
                                                .peer_timeout_ms = r->trial->timeout_ms,
                                                .lost = is_lost,
                                                .context = r};
    if (r->rank == 1 && r->trial->fault == FAULT_START) machine_fail_after(r->machine, 1, 0);
    r->status = nccl_transport_open(&place, &settings, &r->transport);
    if (r->status != STATUS_OK) {
        tell_all(r);
        return NULL;
    }
    r->status = run_steps(r);
    if (r->status != STATUS_OK) tell_all(r);
    machine_wait(r->machine, r->rank); // does not hang, whatever was queued
    for (int64_t s = 0; s < SLOTS; s++) {
        for (int i = 0; i < r->transfers[s]; i++) {
            (void)!r->transport->table->finish(r->transport, &r->transfer[s][i]);
        }
    }
    r->transport->table->close(r->transport);
    return NULL;
}

// Milliseconds it took. Statuses and what was wrong are in ranks[].
static int64_t run_trial(const struct trial *trial, struct rank *ranks, int64_t *aborts) {
    struct transport_id ids[RANKS_MOST];
    struct machine *machine = machine_open(trial->buffered, trial->seed);
    const int64_t begin_ms = clock_ms();
    alarm(120);
    for (int32_t i = 0; i < trial->ranks; i++) {
        machine_id(&ids[i], (uint64_t)i);
        memset(&ranks[i], 0, sizeof ranks[i]);
        ranks[i].trial = trial;
        ranks[i].machine = machine;
        ranks[i].ids = ids;
        ranks[i].rank = i;
    }
    for (int32_t i = 0; i < trial->ranks; i++) {
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, run_rank, &ranks[i]), 0);
    }
    for (int32_t i = 0; i < trial->ranks; i++) {
        pthread_join(ranks[i].thread, NULL);
    }
    *aborts = machine_aborts(machine);
    machine_close(machine);
    alarm(0);
    return clock_ms() - begin_ms;
}

static void expect_right(const struct trial *trial) {
    struct rank *ranks = calloc(RANKS_MOST, sizeof *ranks);
    int64_t aborts = 0, early = 0;
    assert_non_null(ranks);
    const int64_t took_ms = run_trial(trial, ranks, &aborts);
    print_message("%d ranks, %lld steps, %d buffered: %lld ms\n", trial->ranks,
                  (long long)trial->steps, trial->buffered, (long long)took_ms);
    for (int32_t i = 0; i < trial->ranks; i++) {
        assert_int_equal(ranks[i].status, STATUS_OK);
        assert_int_equal(ranks[i].wrong, 0);
        assert_int_equal(ranks[i].used, trial->steps * LAYERS * PARTS);
        early += ranks[i].early;
    }
    assert_true(early > 0);
    assert_int_equal(aborts, 0);
    free(ranks);
}

static void rings_of_all_sizes_pass(void **state) {
    (void)state;
    for (int32_t ranks = 2; ranks <= RANKS_MOST; ranks++) {
        const struct trial trial = {
            .ranks = ranks, .steps = 200, .seed = (uint64_t)ranks, .timeout_ms = 5000};
        expect_right(&trial);
    }
}

// NCCL's sends are done early as long as its buffers have room: then they are full.
static void many_steps_pass_with_buffers_and_without(void **state) {
    (void)state;
    for (int buffered = 0; buffered <= 8; buffered += 8) {
        for (int32_t ranks = 2; ranks <= 4; ranks += 2) {
            const struct trial trial = {
                .ranks = ranks, .steps = 200, .buffered = buffered, .seed = 99, .timeout_ms = 5000};
            expect_right(&trial);
        }
    }
}

static void expect_failure(enum fault fault, int32_t ranks, int64_t least_ms, int64_t most_ms) {
    const struct trial trial = {
        .ranks = ranks, .steps = 20, .seed = 5, .fault = fault, .timeout_ms = 1000};
    struct rank *all = calloc(RANKS_MOST, sizeof *all);
    int64_t aborts = 0;
    assert_non_null(all);
    const int64_t took_ms = run_trial(&trial, all, &aborts);
    for (int32_t i = 0; i < ranks; i++) {
        assert_int_equal(all[i].status, STATUS_PEER);
    }
    assert_in_range(took_ms, least_ms, most_ms);
    assert_int_equal(aborts, 3 * ranks - 2); // every communicator of every rank
    free(all);
}

static void a_rank_that_does_not_start_ends_all_ranks(void **state) {
    (void)state;
    expect_failure(FAULT_START, 2, 0, 3000);
    expect_failure(FAULT_START, 6, 0, 3000);
}

static void a_call_that_fails_ends_all_ranks(void **state) {
    (void)state;
    expect_failure(FAULT_CALL, 2, 0, 3000);
    expect_failure(FAULT_CALL, 5, 0, 3000);
}

static void a_rank_that_stands_still_is_found(void **state) {
    (void)state;
    expect_failure(FAULT_LATE, 2, 900, 5000);
    expect_failure(FAULT_LATE, 4, 900, 5000);
}

static void a_lost_rank_ends_the_waits(void **state) {
    (void)state;
    expect_failure(FAULT_LOST, 2, 0, 3000);
    expect_failure(FAULT_LOST, 8, 0, 3000);
}

int main(void) {
    log_setup(LOG_WARN, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rings_of_all_sizes_pass),
        cmocka_unit_test(many_steps_pass_with_buffers_and_without),
        cmocka_unit_test(a_rank_that_does_not_start_ends_all_ranks),
        cmocka_unit_test(a_call_that_fails_ends_all_ranks),
        cmocka_unit_test(a_rank_that_stands_still_is_found),
        cmocka_unit_test(a_lost_rank_ends_the_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
