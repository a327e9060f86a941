// The whole pipeline with idle states: while its documents pause, their states go to files; when they
// go on, every number is as it would have been.

#include "tests/pipeline_trial.h"

enum { RANKS = 3, PAUSE_MS = 1500, IDLE_MS = 100 };

static int64_t records_before_pause, pause_ends_ms;

static enum status pausing_next(struct source *base, int32_t timeout_ms, struct record **record) {
    const struct flow *flow = (const struct flow *)base;
    if (flow->offset == records_before_pause) {
        if (pause_ends_ms == 0) pause_ends_ms = clock_ms() + PAUSE_MS;
        if (clock_ms() < pause_ends_ms) {
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
            return STATUS_AGAIN;
        }
    }
    return flow_next(base, timeout_ms, record);
}

static const struct source_table pausing_table = {
    .name = "pausing", .next = pausing_next, .commit = flow_commit, .progress = flow_progress};

// Documents of five chunks in turn, with a pause in the middle of them all. Returns the states of all
// ranks that went to files for not being used.
static int64_t idle_states(int64_t idle_ms) {
    const struct trial trial = {
        .ranks = RANKS,
        .links = {.delay_us = 50, .seed = 4},
        .model = "toy:layers=2,layer_bytes=4096",
        .step_tokens = 4096,
        .backend_delay_us = 20,
        .documents = 12,
        .open_most = 12,
        .length_most = 5 * CHUNK_TOKENS,
        .record_most = CHUNK_TOKENS,
        .few_long = true,
        .even = true,
        .seed = 6
    };
    struct flow *flow = malloc(sizeof *flow);
    struct catch *caught = malloc(sizeof *caught);
    struct rank_run runs[RANKS_MOST];
    struct temp_folder folder;
    int64_t idle = 0;
    assert_true(flow != NULL && caught != NULL);
    temp_folder_make(&folder);
    make_flow(&trial, flow);
    flow->base.table = &pausing_table;
    records_before_pause = 12 * 3;
    pause_ends_ms = 0;
    struct pipeline_settings settings = settings_of(&trial, folder.path);
    settings.idle_ms = idle_ms;
    run_trial(&trial, &settings, flow, caught, runs);
    for (int32_t r = 0; r < RANKS; r++) {
        const struct slots_counts *slots = &runs[r].counts.slots;
        assert_int_equal(runs[r].status, STATUS_OK);
        assert_int_equal(slots->device + slots->host + slots->file, 0);
        assert_int_equal(slots->loads, slots->idle); // all were needed again
        idle += slots->idle;
    }
    check_scores(flow, caught);
    free(caught);
    free_flow(flow);
    temp_folder_remove(&folder);
    return idle;
}

static void states_of_paused_documents_go_and_come_back(void **state) {
    (void)state;
    assert_true(idle_states(IDLE_MS) >= 12); // all of them, on a busy machine more than once
}

static void without_idle_states_stay(void **state) {
    (void)state;
    assert_int_equal(idle_states(0), 0);
}

static void idle_states_need_a_folder(void **state) {
    (void)state;
    struct pipeline_settings settings = {.step_tokens = CHUNK_TOKENS, .idle_ms = 1000};
    assert_int_equal(pipeline_check(&settings), STATUS_USAGE);
    settings.spill_folder = "/tmp";
    assert_int_equal(pipeline_check(&settings), STATUS_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_of_paused_documents_go_and_come_back),
        cmocka_unit_test(without_idle_states_stay),
        cmocka_unit_test(idle_states_need_a_folder),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
