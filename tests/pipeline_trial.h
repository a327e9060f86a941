#pragma once
// A trial of the whole pipeline: ranks as threads that score random documents with the toy model,
// and what must come out.

#include "ops/base/clock.h"
#include "pipeline/pipeline.h"
#include "tests/queue_backend.h"
#include "tests/temp_folder.h"
#include "tests/toy_model.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

enum { DOCUMENTS_MOST = 400, RANKS_MOST = 8, VOCABULARY = 251, RECORDS_MOST = 1 << 18 };
enum { UNCONFIRMED = 7 }; // results that a sink still has on their way while it is open

// What comes in: documents of random tokens, cut into random records, interleaved.
struct flow {
    struct source base;
    uint64_t random;
    int32_t documents, open_most;
    int64_t record_most;
    int64_t length[DOCUMENTS_MOST], given[DOCUMENTS_MOST];
    int32_t *token[DOCUMENTS_MOST];
    bool begun[DOCUMENTS_MOST], ended[DOCUMENTS_MOST];
    int32_t *owner; // [RECORDS_MOST] documents of the records given
    int64_t offset, committed;
    const struct catch *caught;
    int64_t too_early; // records committed before their documents' results were safe
    bool endless;      // never ends: the stop has to come from outside
    bool even;         // whoever has been given least is next, and records are whole
    bool holes;        // every third document has a hole in its middle, and no end
};

struct catch { // what came out
    struct sink base;
    int32_t scores[DOCUMENTS_MOST];
    int64_t place[DOCUMENTS_MOST]; // in the order in which they came, from 1 on
    int64_t confirmed;
    double nll[DOCUMENTS_MOST];
    int64_t scored[DOCUMENTS_MOST];
    int64_t count;
    int64_t
        room; // results after which it gives up, as one whose broker is away when a stop comes; 0: never
    bool closed, complete;
};

static inline uint64_t draw(uint64_t *random) {
    uint64_t z = *random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline int64_t below(uint64_t *random, int64_t most) {
    return (int64_t)(draw(random) % (uint64_t)most);
}

static inline bool has_hole(const struct flow *flow, int32_t i) {
    return flow->holes && i % 3 == 1;
}

static inline int32_t pick_even(const struct flow *flow) {
    int32_t next = -1;
    for (int32_t i = 0; i < flow->documents; i++) {
        if (flow->ended[i] || (next >= 0 && flow->given[i] >= flow->given[next])) continue;
        next = i;
    }
    return next;
}

// A document that may go on: one of those open, or a new one while few are.
static inline int32_t pick(struct flow *flow) {
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

static inline enum status flow_next(struct source *base, int32_t timeout_ms,
                                    struct record **record) {
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
    if (flow->offset == RECORDS_MOST) return FAIL(UNEXPECTED, "more records than are counted");
    flow->owner[flow->offset] = i;
    (*record)->offset = flow->offset++;
    (*record)->text_bytes = -1;
    flow->begun[i] = true;
    flow->given[i] += count;
    flow->ended[i] = flow->given[i] == flow->length[i] && !flow->endless;
    (*record)->last = flow->ended[i];
    if (has_hole(flow, i) && flow->given[i] >= flow->length[i] / 2) {
        (*record)->first++;
        (*record)->last = false;
        flow->ended[i] = true;
    }
    return STATUS_OK;
}

static inline enum status flow_commit(struct source *base, int32_t partition, int64_t offset,
                                      const char *blob) {
    struct flow *flow = (struct flow *)base;
    (void)partition;
    (void)blob;
    for (int64_t at = flow->committed < 0 ? 0 : flow->committed; at < offset; at++) {
        if (has_hole(flow, flow->owner[at])) continue;
        const int64_t place = flow->caught->place[flow->owner[at]];
        if (place == 0 || place > flow->caught->confirmed) flow->too_early++;
    }
    flow->committed = offset;
    return STATUS_OK;
}

static inline void flow_progress(struct source *base, struct source_progress *progress) {
    (void)base;
    *progress = (struct source_progress){.total = -1, .unit = "records", .lag = -1};
}

static inline const char *flow_origin(struct source *base, int32_t partition) {
    (void)base;
    (void)partition;
    return "flow";
}

static const struct source_table flow_table = {.name = "flow",
                                               .next = flow_next,
                                               .commit = flow_commit,
                                               .origin = flow_origin,
                                               .progress = flow_progress};

static inline enum status catch_score(struct sink *base, const struct document_score *score) {
    struct catch *caught = (struct catch *)base;
    char id[16] = "";
    if (caught->room > 0 && caught->count == caught->room) return STATUS_STOPPED;
    memcpy(id, score->id, score->id_bytes);
    const int i = (int)strtol(id, NULL, 10);
    caught->scores[i]++;
    caught->nll[i] = score->nll;
    caught->scored[i] = score->scored;
    caught->place[i] = ++caught->count;
    return STATUS_OK;
}

static inline enum status catch_confirmed(struct sink *base, int64_t *count) {
    struct catch *caught = (struct catch *)base;
    if (caught->count > UNCONFIRMED) caught->confirmed = caught->count - UNCONFIRMED;
    *count = caught->confirmed;
    return STATUS_OK;
}

static inline enum status catch_close(struct sink *base, bool complete) {
    struct catch *caught = (struct catch *)base;
    if (complete) caught->confirmed = caught->count;
    caught->closed = true;
    caught->complete = complete;
    return STATUS_OK;
}

static const struct sink_table catch_table = {
    .name = "catch", .score = catch_score, .confirmed = catch_confirmed, .close = catch_close};

struct liar {
    int32_t rank;
    void (*lie)(struct comm *comm, int how);
    int how;
};

struct trial {
    int32_t ranks;
    struct loopback_settings links;
    const char *model;
    int64_t step_tokens;
    int32_t backend_delay_us;
    bool device; // states lie in memory that the host must not touch
    bool ahead;  // steps must have been queued while others ran
    bool tight;  // states do not fit in slots and host memory
    int32_t documents, open_most;
    int64_t length_most, record_most;
    bool few_long; // documents of length_most, not log-uniform ones
    bool even;     // documents go on in turn, by records of record_most
    bool holes;    // every third document is bad, when its state lies somewhere already
    uint64_t seed;
    int32_t lost_rank;       // dies in the middle of it; 0: none
    int32_t bad_rank;        // its model fails in the middle of a step; 0: none
    int64_t sink_room;       // see struct catch
    const struct liar *liar; // a rank that is not to be trusted; NULL: none
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

// A trial's bad rank has a backend that queues so many downloads and no more.
static atomic_int downloads_left;
static const struct backend_table *good_table;

static inline enum status download_until_none_is_left(struct backend *backend, void *host,
                                                      const void *from, size_t bytes) {
    if (atomic_fetch_sub(&downloads_left, 1) == 0) return FAIL(NO_MEMORY, "the queue is full");
    return good_table->download(backend, host, from, bytes);
}

static inline void *run_rank(void *argument) {
    struct rank_run *run = argument;
    const struct trial *trial = run->trial;
    const struct model_settings sizes = {.step_tokens = trial->step_tokens};
    struct pipeline_rank rank = {
        .group = run->link, .source = &run->flow->base, .sink = &run->caught->base};
    log_set_rank(run->link->rank);
    const uint64_t seed = trial->seed + (uint64_t)run->link->rank;
    run->status = trial->device
                      ? device_backend_open(seed, trial->backend_delay_us, &rank.backend)
                      : queue_backend_open(NULL, seed, trial->backend_delay_us, &rank.backend);
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
    } else if (trial->liar != NULL && trial->liar->rank == run->link->rank) {
        const struct comm_settings talking = {.peer_timeout_ms = 30000};
        struct comm *comm = NULL;
        run->status = comm_open(run->link, &talking, &comm);
        if (run->status == STATUS_OK) trial->liar->lie(comm, trial->liar->how);
        comm_close(comm, true);
    } else {
        run->status = pipeline_run(run->settings, &rank, &run->counts, &run->exit_code);
    }
    model_close(rank.model);
    if (rank.backend->table == &failing) rank.backend->table = good_table;
    rank.backend->table->close(rank.backend);
    return NULL;
}

static inline void make_flow(const struct trial *trial, struct flow *flow) {
    *flow = (struct flow){.base = {&flow_table},
                          .random = trial->seed,
                          .documents = trial->documents,
                          .open_most = trial->open_most,
                          .record_most = trial->record_most,
                          .even = trial->even,
                          .holes = trial->holes,
                          .owner = malloc(RECORDS_MOST * sizeof *flow->owner),
                          .committed = -1};
    assert_non_null(flow->owner);
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

static inline void free_flow(struct flow *flow) {
    for (int32_t i = 0; i < flow->documents; i++) {
        free(flow->token[i]);
    }
    free(flow->owner);
    free(flow);
}

static inline struct pipeline_settings settings_of(const struct trial *trial, const char *folder) {
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

static inline void check_scores(const struct flow *flow, const struct catch *caught) {
    for (int32_t i = 0; i < flow->documents; i++) {
        const int64_t length = flow->length[i];
        assert_int_equal(caught->scores[i], has_hole(flow, i) ? 0 : 1);
        if (has_hole(flow, i)) continue;
        assert_int_equal(caught->scored[i], length > 0 ? length - 1 : 0);
        const double expected = toy_expected_nll(flow->token[i], length, 1);
        if (caught->nll[i] != expected) {
            fail_msg("document %d of %lld tokens: %.17g, expected %.17g", i, (long long)length,
                     caught->nll[i], expected);
        }
    }
}

// Runs a trial on all its ranks; a hang ends the test program.
static inline void run_trial(const struct trial *trial, struct pipeline_settings *settings,
                             struct flow *flow, struct catch *caught, struct rank_run *runs) {
    struct link *links[RANKS_MOST];
    *caught = (struct catch){.base = {&catch_table}, .room = trial->sink_room};
    flow->caught = caught;
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

static inline struct leader_counts expect_exact(const struct trial *trial) {
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
        const struct worker_counts *worker = &runs[r].counts.worker;
        assert_true(worker->compute_ns + worker->wait_ns <= runs[0].counts.leader.run_ns);
        if (trial->ahead) assert_true(worker->ahead > 0); // how many is the schedule's
        const struct slots_counts *slots = &runs[r].counts.slots;
        assert_int_equal(slots->device + slots->host + slots->file, 0); // nobody needs any now
    }
    assert_true(caught->closed && caught->complete);
    assert_int_equal(flow->committed, flow->offset); // everything is done, so everything is kept
    assert_int_equal(flow->too_early, 0);
    check_scores(flow, caught);
    if (trial->tight) assert_true(runs[0].counts.slots.spills > 0);
    const struct leader_counts counts = runs[0].counts.leader;
    free(caught);
    free_flow(flow);
    temp_folder_remove(&folder);
    return counts;
}
