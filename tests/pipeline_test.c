// The whole pipeline on the toy model: ranks as threads, a backend that is late, messages that are
// late, states up to 4 MiB a layer. The toy's state is a checksum of its document's tokens, so a
// chunk that is lost, doubled, swapped, stale or another document's gives another number.

#include "pipeline/pipeline.h"

#include "ops/base/clock.h"
#include "tests/queue_backend.h"
#include "tests/temp_folder.h"
#include "tests/toy_model.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { DOCUMENTS_MOST = 400, RANKS_MOST = 8, VOCABULARY = 251 };

// What comes in: documents of random tokens, cut into random records, interleaved.
struct flow {
    struct source base;
    uint64_t random;
    int32_t documents, open_most;
    int64_t record_most;
    int64_t length[DOCUMENTS_MOST], given[DOCUMENTS_MOST];
    int32_t *token[DOCUMENTS_MOST];
    bool begun[DOCUMENTS_MOST], ended[DOCUMENTS_MOST];
    int64_t offset, committed;
    bool endless; // never ends: the stop has to come from outside
    bool even;    // whoever has been given least is next, and records are whole
};

struct catch { // what came out
    struct sink base;
    int32_t scores[DOCUMENTS_MOST];
    double nll[DOCUMENTS_MOST];
    int64_t scored[DOCUMENTS_MOST];
    int64_t count;
    bool closed, complete;
};

static uint64_t draw(uint64_t *random) {
    uint64_t z = *random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static int64_t below(uint64_t *random, int64_t most) {
    return (int64_t)(draw(random) % (uint64_t)most);
}

static int32_t pick_even(const struct flow *flow) {
    int32_t next = -1;
    for (int32_t i = 0; i < flow->documents; i++) {
        if (flow->ended[i] || (next >= 0 && flow->given[i] >= flow->given[next])) continue;
        next = i;
    }
    return next;
}

// A document that may go on: one of those open, or a new one while few are.
static int32_t pick(struct flow *flow) {
    if (flow->even) return pick_even(flow);
    int32_t open = 0;
    int32_t fresh = -1;
    int32_t candidates[DOCUMENTS_MOST];
    for (int32_t i = 0; i < flow->documents; i++) {
        if (flow->begun[i] && !flow->ended[i]) candidates[open++] = i;
        if (!flow->begun[i] && fresh < 0) fresh = i;
    }
    if (fresh >= 0 && open < flow->open_most && (open == 0 || below(&flow->random, 2) == 0)) {
        return fresh;
    }
    return open > 0 ? candidates[below(&flow->random, open)] : -1;
}

static enum status flow_next(struct source *base, int32_t timeout_ms, struct record **record) {
    struct flow *flow = (struct flow *)base;
    char id[16];
    (void)timeout_ms;
    if (below(&flow->random, 10) == 0) return STATUS_AGAIN;
    const int32_t i = pick(flow);
    if (i < 0) {
        if (flow->endless) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        return flow->endless ? STATUS_AGAIN : STATUS_END;
    }
    const int64_t left = flow->length[i] - flow->given[i];
    int64_t count = flow->even ? flow->record_most : 1 + below(&flow->random, flow->record_most);
    if (count > left) count = left;
    snprintf(id, sizeof id, "%d", i);
    TRY(record_make(RECORD_TOKENS, id, strlen(id), "", 0, count, record));
    if (count > 0) {
        memcpy(record_tokens(*record), flow->token[i] + flow->given[i], (size_t)count * 4);
    }
    (*record)->first = flow->given[i];
    (*record)->offset = flow->offset++;
    (*record)->text_bytes = -1;
    flow->begun[i] = true;
    flow->given[i] += count;
    flow->ended[i] = flow->given[i] == flow->length[i] && !flow->endless;
    (*record)->last = flow->ended[i];
    return STATUS_OK;
}

static enum status flow_commit(struct source *base, int32_t partition, int64_t offset,
                               const char *blob) {
    (void)partition;
    (void)blob;
    ((struct flow *)base)->committed = offset;
    return STATUS_OK;
}

static void flow_progress(struct source *base, struct source_progress *progress) {
    (void)base;
    *progress = (struct source_progress){.total = -1, .unit = "records", .lag = -1};
}

static const struct source_table flow_table = {
    .name = "flow", .next = flow_next, .commit = flow_commit, .progress = flow_progress};

static enum status catch_score(struct sink *base, const struct document_score *score) {
    struct catch *caught = (struct catch *)base;
    char id[16] = "";
    memcpy(id, score->id, score->id_bytes);
    const int i = (int)strtol(id, NULL, 10);
    caught->scores[i]++;
    caught->nll[i] = score->nll;
    caught->scored[i] = score->scored;
    caught->count++;
    return STATUS_OK;
}

static enum status catch_confirmed(struct sink *base, int64_t *count) {
    *count = ((struct catch *)base)->count;
    return STATUS_OK;
}

static enum status catch_close(struct sink *base, bool complete) {
    struct catch *caught = (struct catch *)base;
    caught->closed = true;
    caught->complete = complete;
    return STATUS_OK;
}

static const struct sink_table catch_table = {
    .name = "catch", .score = catch_score, .confirmed = catch_confirmed, .close = catch_close};

struct trial {
    int32_t ranks;
    struct loopback_settings links;
    const char *model;
    int64_t step_tokens;
    int32_t backend_delay_us;
    bool tight; // states do not fit in slots and host memory
    int32_t documents, open_most;
    int64_t length_most, record_most;
    bool few_long; // documents of length_most, not log-uniform ones
    bool even;     // documents go on in turn, by records of record_most
    uint64_t seed;
    int32_t lost_rank; // dies in the middle of it; 0: none
    int32_t bad_rank;  // its model fails in the middle of a step; 0: none
};

struct rank_run {
    const struct trial *trial;
    const struct pipeline_settings *settings;
    struct link *link;
    struct flow *flow;
    struct catch *caught;
    struct pipeline_counts counts;
    pthread_t thread;
    int exit_code;
    enum status status;
};

static atomic_int downloads_left;
static const struct backend_table *good_table;

static enum status download_until_none_is_left(struct backend *backend, void *host,
                                               const void *from, size_t bytes) {
    if (atomic_fetch_sub(&downloads_left, 1) == 0) return FAIL(NO_MEMORY, "the queue is full");
    return good_table->download(backend, host, from, bytes);
}

static void *run_rank(void *argument) {
    struct rank_run *run = argument;
    const struct trial *trial = run->trial;
    const struct model_settings sizes = {.step_tokens = trial->step_tokens};
    struct pipeline_rank rank = {
        .group = run->link, .source = &run->flow->base, .sink = &run->caught->base};
    log_set_rank(run->link->rank);
    run->status = queue_backend_open(NULL, trial->seed + (uint64_t)run->link->rank,
                                     trial->backend_delay_us, &rank.backend);
    if (run->status != STATUS_OK) return NULL;
    run->status = model_open(trial->model, rank.backend, &sizes, &rank.model);
    if (run->status != STATUS_OK) return NULL;
    struct backend_table failing = *rank.backend->table;
    failing.download = download_until_none_is_left;
    if (trial->bad_rank > 0 && trial->bad_rank == run->link->rank) {
        good_table = rank.backend->table;
        rank.backend->table = &failing;
    }
    if (trial->lost_rank > 0 && trial->lost_rank == run->link->rank) {
        // takes part for a moment, then is silent, as a machine that lost its power
        struct comm *comm = NULL;
        const struct comm_settings talking = {.peer_timeout_ms = 60000};
        run->status = comm_open(run->link, &talking, &comm);
        if (run->status == STATUS_OK) comm_close(comm, true);
    } else {
        run->status = pipeline_run(run->settings, &rank, &run->counts, &run->exit_code);
    }
    model_close(rank.model);
    if (rank.backend->table == &failing) rank.backend->table = good_table;
    rank.backend->table->close(rank.backend);
    return NULL;
}

static void make_flow(const struct trial *trial, struct flow *flow) {
    *flow = (struct flow){.base = {&flow_table},
                          .random = trial->seed,
                          .documents = trial->documents,
                          .open_most = trial->open_most,
                          .record_most = trial->record_most,
                          .even = trial->even,
                          .committed = -1};
    for (int32_t i = 0; i < flow->documents; i++) {
        int64_t most = trial->length_most;
        if (!trial->few_long) {
            while (most > 1 && below(&flow->random, 2)) {
                most /= 4;
            }
        }
        flow->length[i] = trial->few_long ? most : below(&flow->random, most + 1);
        flow->token[i] = malloc((size_t)flow->length[i] * 4 + 4);
        assert_non_null(flow->token[i]);
        for (int64_t t = 0; t < flow->length[i]; t++) {
            flow->token[i][t] = (int32_t)below(&flow->random, VOCABULARY);
        }
    }
}

static void free_flow(struct flow *flow) {
    for (int32_t i = 0; i < flow->documents; i++) {
        free(flow->token[i]);
    }
    free(flow);
}

static struct pipeline_settings settings_of(const struct trial *trial, const char *folder) {
    return (struct pipeline_settings){
        .step_tokens = trial->step_tokens,
        .move_tokens = 128,
        .queue_tokens = 4 * trial->step_tokens * trial->ranks,
        .commit_interval_ms = 20,
        .peer_timeout_ms = trial->lost_rank > 0 ? 1500 : 30000,
        .host_slots_bytes = trial->tight ? 100000 : 64 << 20,
        .spill_folder = folder,
        .documents = {.bos = -1},
    };
}

static void check_scores(const struct flow *flow, const struct catch *caught) {
    for (int32_t i = 0; i < flow->documents; i++) {
        const int64_t length = flow->length[i];
        assert_int_equal(caught->scores[i], 1);
        assert_int_equal(caught->scored[i], length > 0 ? length - 1 : 0);
        const double expected = toy_expected_nll(flow->token[i], length, 1);
        if (caught->nll[i] != expected) {
            fail_msg("document %d of %lld tokens: %.17g, expected %.17g", i, (long long)length,
                     caught->nll[i], expected);
        }
    }
}

// Runs a trial on all its ranks; a hang ends the test program.
static void run_trial(const struct trial *trial, struct pipeline_settings *settings,
                      struct flow *flow, struct catch *caught, struct rank_run *runs) {
    struct link *links[RANKS_MOST];
    *caught = (struct catch){.base = {&catch_table}};
    assert_int_equal(loopback_links_open(trial->ranks, &trial->links, links), STATUS_OK);
    alarm(240);
    for (int32_t r = 0; r < trial->ranks; r++) {
        runs[r] = (struct rank_run){
            .trial = trial, .settings = settings, .link = links[r], .flow = flow, .caught = caught};
        assert_int_equal(pthread_create(&runs[r].thread, NULL, run_rank, &runs[r]), 0);
    }
    for (int32_t r = 0; r < trial->ranks; r++) {
        pthread_join(runs[r].thread, NULL);
    }
    for (int32_t r = 0; r < trial->ranks; r++) {
        links[r]->table->close(links[r]);
    }
    alarm(0);
}

static struct leader_counts expect_exact(const struct trial *trial) {
    struct flow *flow = malloc(sizeof *flow);
    struct catch *caught = malloc(sizeof *caught);
    struct rank_run runs[RANKS_MOST];
    struct temp_folder folder;
    temp_folder_make(&folder);
    assert_non_null(flow);
    assert_non_null(caught);
    make_flow(trial, flow);
    struct pipeline_settings settings = settings_of(trial, folder.path);
    run_trial(trial, &settings, flow, caught, runs);
    for (int32_t r = 0; r < trial->ranks; r++) {
        assert_int_equal(runs[r].status, STATUS_OK);
        assert_int_equal(runs[r].exit_code, 0);
    }
    assert_true(caught->closed && caught->complete);
    assert_int_equal(flow->committed, flow->offset); // everything is done, so everything is kept
    check_scores(flow, caught);
    if (trial->tight) assert_true(runs[0].counts.slots.spills > 0);
    const struct leader_counts counts = runs[0].counts.leader;
    free(caught);
    free_flow(flow);
    temp_folder_remove(&folder);
    return counts;
}

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

static void many_open_documents_spill_their_states(void **state) {
    const struct trial trial = {
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_of_ranks_gives_the_same),
        cmocka_unit_test(long_documents_go_over_all_ranks),
        cmocka_unit_test(eight_ranks_and_states_of_4_mib_do_not_hang),
        cmocka_unit_test(many_open_documents_spill_their_states),
        cmocka_unit_test(many_states_at_once_take_several_steps),
        cmocka_unit_test(records_of_one_token_are_enough),
        cmocka_unit_test(a_lost_rank_ends_all_others_with_142),
        cmocka_unit_test(a_step_that_fails_halfway_ends_all_ranks),
        cmocka_unit_test(a_stop_finishes_what_is_begun),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
