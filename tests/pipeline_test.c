// The whole pipeline on the toy model: ranks as threads, a backend that is late, messages that are
// late, states up to 4 MiB a layer. The toy's state is a checksum of its document's tokens, so a
// chunk that is lost, doubled, swapped, stale or another document's gives another number.

#include "tests/pipeline_trial.h"

static void every_number_of_ranks_gives_the_same(void **state) {
    (void)state;
    for (int32_t ranks = 1; ranks <= RANKS_MOST; ranks++) {
        const struct trial trial = {
            .ranks = ranks,
            .links = {.rendezvous = ranks % 2 == 0, .delay_us = 300, .seed = 1},
            .model = "toy:layers=3,layer_bytes=4096",
            .step_tokens = 2048,
            .backend_delay_us = 100,
            .documents = 60,
            .open_most = 1 + 3 * ranks,
            .length_most = 40000,
            .record_most = 3000,
            .seed = 100 + (uint64_t)ranks
        };
        expect_exact(&trial);
    }
}

static void long_documents_go_over_all_ranks(void **state) {
    (void)state;
    for (int32_t ranks = 2; ranks <= 8; ranks *= 2) {
        const struct trial trial = {
            .ranks = ranks,
            .links = {.rendezvous = true, .delay_us = 200, .seed = 2},
            .model = "toy:layers=4,layer_bytes=4096",
            .step_tokens = 1024,
            .backend_delay_us = 50,
            .ahead = true,
            .documents = 2,
            .open_most = 2,
            .length_most = 200003,
            .record_most = 30000,
            .few_long = true,
            .seed = 7
        };
        const struct leader_counts counts = expect_exact(&trial);
        assert_true(counts.hand_overs > 50);
    }
}

static void eight_ranks_and_states_of_4_mib_do_not_hang(void **state) {
    const struct trial trial = {
        .ranks = 8,
        .links = {.rendezvous = true, .delay_us = 2000, .seed = 3},
        .model = "toy:layers=2,layer_bytes=4194304",
        .step_tokens = 1024,
        .backend_delay_us = 1000,
        .documents = 5,
        .open_most = 3,
        .length_most = 30000,
        .record_most = 20000,
        .few_long = true,
        .seed = 5
    };
    (void)state;
    expect_exact(&trial);
}

// As on a GPU without NCCL: whoever else than the queue touches a state dies of it.
static void states_of_a_device_are_staged(void **state) {
    (void)state;
    for (int32_t ranks = 2; ranks <= 8; ranks += 3) {
        const struct trial trial = {
            .ranks = ranks,
            .links = {.rendezvous = true, .delay_us = 300, .seed = 3},
            .model = "toy:layers=4,layer_bytes=65536",
            .step_tokens = 2048,
            .backend_delay_us = 100,
            .device = true,
            .ahead = true,
            .documents = 40,
            .open_most = 12,
            .length_most = 40000,
            .record_most = 5000,
            .seed = 200 + (uint64_t)ranks
        };
        const struct leader_counts counts = expect_exact(&trial);
        assert_true(counts.hand_overs > 0 && counts.moves > 0);
    }
}

static void many_open_documents_spill_their_states(void **state) {
    struct trial trial = {
        .ranks = 3,
        .links = {.delay_us = 50, .seed = 4},
        .model = "toy:layers=2,layer_bytes=4096",
        .step_tokens = 2048,
        .backend_delay_us = 20,
        .tight = true,
        .documents = 300,
        .open_most = 200,
        .length_most = 9000,
        .record_most = 2500,
        .seed = 6
    };
    (void)state;
    expect_exact(&trial);
    trial.device = true;
    expect_exact(&trial);
}

// Every document has a state, and then all of them end at once: more than a step has slots for.
static void many_states_at_once_take_several_steps(void **state) {
    (void)state;
    for (int32_t ranks = 1; ranks <= 4; ranks += 3) {
        const struct trial trial = {
            .ranks = ranks,
            .links = {.delay_us = 50, .seed = 8},
            .model = "toy:layers=2,layer_bytes=4096",
            .step_tokens = 2048,
            .backend_delay_us = 200,
            .tight = true,
            .documents = 300,
            .open_most = 300,
            .length_most = 1030,
            .record_most = 1025,
            .few_long = true,
            .even = true,
            .seed = 11
        };
        expect_exact(&trial);
    }
}

// States of documents that are found bad must not stay where they lie.
static void states_of_bad_documents_are_dropped(void **state) {
    (void)state;
    for (int32_t ranks = 1; ranks <= 4; ranks++) {
        const struct trial trial = {
            .ranks = ranks,
            .links = {.delay_us = 50, .seed = 9},
            .model = "toy:layers=2,layer_bytes=4096",
            .step_tokens = 2048,
            .documents = 60,
            .open_most = 60,
            .length_most = 9000,
            .record_most = 1500,
            .few_long = true,
            .holes = true,
            .seed = 13
        };
        const struct leader_counts counts = expect_exact(&trial);
        assert_int_equal(counts.documents.bad[BAD_GAP], 20);
    }
}

static void records_of_one_token_are_enough(void **state) {
    const struct trial trial = {
        .ranks = 2,
        .links = {.rendezvous = true, .delay_us = 50, .seed = 5},
        .model = "toy:layers=1,layer_bytes=64",
        .step_tokens = 1024,
        .documents = 20,
        .open_most = 20,
        .length_most = 5000,
        .record_most = 1,
        .seed = 8
    };
    (void)state;
    expect_exact(&trial);
}

static void a_lost_rank_ends_all_others_with_142(void **state) {
    const struct trial trial = {
        .ranks = 4,
        .links = {.rendezvous = true, .delay_us = 100, .seed = 6},
        .model = "toy:layers=2,layer_bytes=4096",
        .step_tokens = 1024,
        .documents = 4,
        .open_most = 4,
        .length_most = 100000,
        .record_most = 10000,
        .few_long = true,
        .seed = 9,
        .lost_rank = 2
    };
    struct flow *flow = malloc(sizeof *flow);
    struct catch *caught = malloc(sizeof *caught);
    struct rank_run runs[RANKS_MOST];
    (void)state;
    make_flow(&trial, flow);
    struct pipeline_settings settings = settings_of(&trial, "/tmp");
    const int64_t begin_ms = clock_ms();
    run_trial(&trial, &settings, flow, caught, runs);
    assert_true(clock_ms() - begin_ms < 20000);
    for (int32_t r = 0; r < trial.ranks; r++) {
        if (r == trial.lost_rank) continue;
        assert_int_equal(runs[r].status, STATUS_PEER);
        assert_int_equal(runs[r].exit_code, 142);
    }
    assert_true(caught->closed && !caught->complete);
    free(caught);
    free_flow(flow);
}

// What is queued of a step that failed still uses the step's message.
static void a_step_that_fails_halfway_ends_all_ranks(void **state) {
    (void)state;
    for (int32_t steps = 0; steps < 10; steps += 3) {
        const struct trial trial = {
            .ranks = 3,
            .links = {.delay_us = 100, .seed = 6},
            .model = "toy:layers=3,layer_bytes=4096",
            .step_tokens = 1024,
            .backend_delay_us = 3000,
            .documents = 4,
            .open_most = 4,
            .length_most = 50000,
            .record_most = 10000,
            .few_long = true,
            .seed = 12,
            .bad_rank = 1
        };
        struct flow *flow = malloc(sizeof *flow);
        struct catch *caught = malloc(sizeof *caught);
        struct rank_run runs[RANKS_MOST];
        atomic_store(&downloads_left, steps);
        make_flow(&trial, flow);
        struct pipeline_settings settings = settings_of(&trial, "/tmp");
        run_trial(&trial, &settings, flow, caught, runs);
        assert_int_equal(runs[1].status, STATUS_NO_MEMORY);
        for (int32_t r = 0; r < trial.ranks; r++) {
            assert_int_equal(runs[r].exit_code, status_exit_code(STATUS_NO_MEMORY));
        }
        assert_true(caught->closed && !caught->complete);
        free(caught);
        free_flow(flow);
    }
}

static atomic_int stop_checks;

static bool stop_after_a_while(void) {
    return atomic_fetch_add(&stop_checks, 1) > 200;
}

static void a_stop_finishes_what_is_begun(void **state) {
    const struct trial trial = {
        .ranks = 3,
        .links = {.delay_us = 50, .seed = 7},
        .model = "toy:layers=2,layer_bytes=4096",
        .step_tokens = 1024,
        .documents = 30,
        .open_most = 8,
        .length_most = 20000,
        .record_most = 4000,
        .seed = 10
    };
    struct flow *flow = malloc(sizeof *flow);
    struct catch *caught = malloc(sizeof *caught);
    struct rank_run runs[RANKS_MOST];
    (void)state;
    make_flow(&trial, flow);
    flow->endless = true; // documents never close
    struct pipeline_settings settings = settings_of(&trial, "/tmp");
    settings.stop = stop_after_a_while;
    run_trial(&trial, &settings, flow, caught, runs);
    assert_int_equal(runs[0].status, STATUS_STOPPED);
    assert_int_equal(runs[0].exit_code, 143);
    assert_int_equal(runs[1].status, STATUS_OK);
    assert_true(caught->closed);
    assert_int_equal(caught->count, 0);
    assert_int_equal(flow->committed, 0); // held at the oldest open document's first record
    free(caught);
    free_flow(flow);
}

// A sink that waits for its broker when a stop comes waits no longer. The ranks end all the same.
static void a_stop_while_the_sink_waits_ends_all_ranks(void **state) {
    const struct trial trial = {
        .ranks = 3,
        .links = {.delay_us = 50, .seed = 7},
        .model = "toy:layers=2,layer_bytes=4096",
        .step_tokens = 1024,
        .backend_delay_us = 1000,
        .documents = 30,
        .open_most = 8,
        .length_most = 20000,
        .record_most = 4000,
        .seed = 10,
        .sink_room = 10
    };
    struct flow *flow = malloc(sizeof *flow);
    struct catch *caught = malloc(sizeof *caught);
    struct rank_run runs[RANKS_MOST];
    (void)state;
    make_flow(&trial, flow);
    struct pipeline_settings settings = settings_of(&trial, "/tmp");
    run_trial(&trial, &settings, flow, caught, runs);
    assert_int_equal(runs[0].status, STATUS_STOPPED);
    assert_int_equal(runs[0].exit_code, 143);
    for (int32_t r = 1; r < trial.ranks; r++) {
        assert_int_equal(runs[r].status, STATUS_OK);
    }
    assert_true(caught->closed && !caught->complete);
    assert_int_equal(flow->too_early, 0);
    free(caught);
    free_flow(flow);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_of_ranks_gives_the_same),
        cmocka_unit_test(long_documents_go_over_all_ranks),
        cmocka_unit_test(eight_ranks_and_states_of_4_mib_do_not_hang),
        cmocka_unit_test(states_of_a_device_are_staged),
        cmocka_unit_test(many_open_documents_spill_their_states),
        cmocka_unit_test(many_states_at_once_take_several_steps),
        cmocka_unit_test(states_of_bad_documents_are_dropped),
        cmocka_unit_test(records_of_one_token_are_enough),
        cmocka_unit_test(a_lost_rank_ends_all_others_with_142),
        cmocka_unit_test(a_step_that_fails_halfway_ends_all_ranks),
        cmocka_unit_test(a_stop_finishes_what_is_begun),
        cmocka_unit_test(a_stop_while_the_sink_waits_ends_all_ranks),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
