// Branches through the whole pipeline on the toy model: random trees over ranks that are threads, with
// states that are shared, moved, spilled and dropped. The toy's state is a checksum of all tokens
// before, so one that is stale, torn, gone or another branch's gives other answers.

#include "tests/branches_trial.h"

struct branches_trial {
    int32_t ranks;
    struct loopback_settings links;
    const char *model;
    int64_t step_tokens, move_tokens, asked_most;
    int32_t backend_delay_us;
    bool device, tight;
    struct tree_shape shape;
    uint64_t seed;
};

struct branches_rank {
    const struct branches_trial *trial;
    const struct pipeline_settings *settings;
    struct link *link;
    struct branch_driver *driver;
    struct pipeline_counts counts;
    pthread_t thread;
    int exit_code;
    enum status status;
};

static void *run_branches_rank(void *argument) {
    struct branches_rank *run = argument;
    const struct branches_trial *trial = run->trial;
    const struct model_settings sizes = {.step_tokens = trial->step_tokens,
                                         .asked_most = trial->asked_most};
    struct pipeline_rank rank = {.group = run->link};
    const uint64_t seed = trial->seed + (uint64_t)run->link->rank;
    if (run->link->rank == 0) rank.driver = run->driver;
    log_set_rank(run->link->rank);
    run->status = trial->device
                      ? device_backend_open(seed, trial->backend_delay_us, &rank.backend)
                      : queue_backend_open(NULL, seed, trial->backend_delay_us, &rank.backend);
    if (run->status != STATUS_OK) return NULL;
    run->status = model_open(trial->model, rank.backend, &sizes, &rank.model);
    if (run->status != STATUS_OK) return NULL;
    run->status = pipeline_run(run->settings, &rank, &run->counts, &run->exit_code);
    model_close(rank.model);
    rank.backend->table->close(rank.backend);
    return NULL;
}

static void run_branches(const struct branches_trial *trial,
                         const struct pipeline_settings *settings, struct branch_driver *driver,
                         struct branches_rank *runs) {
    struct link *links[RANKS_MOST];
    assert_int_equal(loopback_links_open(trial->ranks, &trial->links, links), STATUS_OK);
    alarm(120);
    for (int32_t r = 0; r < trial->ranks; r++) {
        runs[r] = (struct branches_rank){
            .trial = trial, .settings = settings, .link = links[r], .driver = driver};
        assert_int_equal(pthread_create(&runs[r].thread, NULL, run_branches_rank, &runs[r]), 0);
    }
    for (int32_t r = 0; r < trial->ranks; r++) {
        pthread_join(runs[r].thread, NULL);
    }
    for (int32_t r = 0; r < trial->ranks; r++) {
        links[r]->table->close(links[r]);
    }
    alarm(0);
}

static struct pipeline_settings branches_settings_of(const struct branches_trial *trial,
                                                     const char *folder) {
    return (struct pipeline_settings){.step_tokens = trial->step_tokens,
                                      .move_tokens = trial->move_tokens,
                                      .asked_most = trial->asked_most,
                                      .peer_timeout_ms = 30000,
                                      .host_slots_bytes = trial->tight ? 50000 : 64 << 20,
                                      .spill_folder = folder};
}

// Returns what all ranks have counted.
static struct pipeline_counts expect_tree(const struct branches_trial *trial) {
    struct branches_rank runs[RANKS_MOST];
    struct temp_folder folder;
    int64_t tokens = 0;
    struct tree *tree = tree_make(&trial->shape, trial->asked_most, trial->seed);
    temp_folder_make(&folder);
    const struct pipeline_settings settings = branches_settings_of(trial, folder.path);
    tree->late = trial->seed % 2 == 0;
    tree->at_once = trial->tight; // so that many have begun and few are done
    run_branches(trial, &settings, &tree->base, runs);
    struct pipeline_counts counts = runs[0].counts;
    for (int32_t r = 0; r < trial->ranks; r++) {
        assert_int_equal(runs[r].status, STATUS_OK);
        assert_int_equal(runs[r].exit_code, 0);
        const struct slots_counts *slots = &runs[r].counts.slots;
        assert_int_equal(slots->device + slots->host + slots->file, 0); // nobody needs any now
        if (r > 0) counts.slots.spills += slots->spills;
        if (r > 0) counts.slots.loads += slots->loads;
    }
    assert_int_equal(tree->wrong, 0);
    assert_int_equal(tree->done, tree->count);
    for (int32_t i = 0; i < tree->count; i++) {
        assert_true(tree->node[i].done && tree->node[i].sealed == tree->node[i].goes_on);
        tokens += tree->node[i].count;
    }
    assert_int_equal(counts.branches.branches, tree->count);
    assert_int_equal(counts.branches.tokens, tokens); // what is shared ran once
    assert_true(tree->progress > 0);
    tree_free(tree);
    temp_folder_remove(&folder);
    return counts;
}

static void trees_give_what_their_paths_give(void **state) {
    (void)state;
    int64_t moves = 0, hand_overs = 0;
    for (int32_t ranks = 1; ranks <= 4; ranks++) {
        for (int64_t chunks = 1; chunks <= 8; chunks *= 2) {
            const struct branches_trial trial = {
                .ranks = ranks,
                .links = {.rendezvous = ranks % 2 == 0, .delay_us = 100, .seed = 1  },
                .model = "toy:layers=3,layer_bytes=1024",
                .step_tokens = chunks * CHUNK_TOKENS,
                .move_tokens = chunks % 4 == 0 ? 1000 : 20,
                .asked_most = chunks == 2 ? 5 : chunks * CHUNK_TOKENS,
                .backend_delay_us = 50,
                .device = ranks == 3,
                .shape = { .roots = 10, .depth = 4,            .children = 4, .count_most = 6000, .chain = 20},
                .seed = (uint64_t)(100 * ranks + chunks)
            };
            const struct pipeline_counts counts = expect_tree(&trial);
            moves += counts.branches.moves;
            hand_overs += counts.branches.hand_overs;
        }
    }
    assert_true(moves > 100 && hand_overs > 10);
}

// Hundreds of states are needed at once, many more than there are slots and host memory for.
static void states_that_are_shared_are_spilled(void **state) {
    (void)state;
    for (int32_t ranks = 1; ranks <= 3; ranks++) {
        const struct branches_trial trial = {
            .ranks = ranks,
            .links = {.delay_us = 50, .seed = 2         },
            .model = "toy:layers=2,layer_bytes=1024",
            .step_tokens = (ranks == 2 ? 4 : 1) * CHUNK_TOKENS,
            .move_tokens = 10,
            .asked_most = CHUNK_TOKENS,
            .backend_delay_us = 20,
            .device = ranks == 2,
            .tight = true,
            .shape = { .roots = 60, .depth = 5, .children = 3, .count_most = 3000},
            .seed = (uint64_t)(7 + ranks)
        };
        const struct pipeline_counts counts = expect_tree(&trial);
        assert_true(counts.slots.spills > 50 && counts.slots.loads > 50);
    }
}

// Many short branches from one state: on its rank all of a step read one slot, on others each has its
// copy.
static void hundreds_begin_at_one_end(void **state) {
    (void)state;
    for (int32_t ranks = 1; ranks <= 4; ranks++) {
        const struct branches_trial trial = {
            .ranks = ranks,
            .links = {.delay_us = 50,    .seed = 3       },
            .model = "toy:layers=2,layer_bytes=4096",
            .step_tokens = 2 * CHUNK_TOKENS,
            .move_tokens = ranks == 3 ? 100000 : 5,
            .asked_most = 2 * CHUNK_TOKENS,
            .backend_delay_us = 20,
            .shape = { .roots = 3, .depth = 1, .children = 300, .count_most = 30, .siblings = true},
            .seed = (uint64_t)(30 + ranks)
        };
        const struct pipeline_counts counts = expect_tree(&trial);
        if (ranks == 1) assert_true(counts.branches.steps < 20); // slots do not hold them up
    }
}

// Of those that are ready the lowest order is served first, then the oldest.
static void the_lowest_order_is_served_first(void **state) {
    const struct branches_trial trial = {
        .ranks = 1,
        .model = "toy:layers=1,layer_bytes=64",
        .step_tokens = CHUNK_TOKENS,
        .shape = {.roots = 60, .count_most = 100},
        .seed = 51
    };
    struct branches_rank runs[RANKS_MOST];
    struct tree *tree = tree_make(&trial.shape, 0, trial.seed);
    const struct pipeline_settings settings = branches_settings_of(&trial, "/tmp");
    (void)state;
    tree->at_once = true;
    run_branches(&trial, &settings, &tree->base, runs);
    assert_int_equal(runs[0].status, STATUS_OK);
    assert_int_equal(tree->wrong, 0);
    for (int32_t i = 0; i < tree->count; i++) {
        for (int32_t later = i + 1; later < tree->count; later++) {
            const struct tree_node *a = &tree->node[i], *b = &tree->node[later];
            assert_true((a->place < b->place) == (a->order <= b->order));
        }
    }
    tree_free(tree);
}

static atomic_int stop_checks;

static bool stop_after_a_while(void) {
    return atomic_fetch_add(&stop_checks, 1) > 60;
}

// What was in a step is done; what waits is not begun.
static void a_stop_ends_what_is_under_way(void **state) {
    const struct branches_trial trial = {
        .ranks = 3,
        .links = {.delay_us = 50, .seed = 4         },
        .model = "toy:layers=2,layer_bytes=4096,delay_us=500",
        .step_tokens = 2 * CHUNK_TOKENS,
        .move_tokens = 20,
        .asked_most = CHUNK_TOKENS,
        .shape = { .roots = 80, .depth = 4, .children = 4, .count_most = 6000},
        .seed = 40
    };
    struct branches_rank runs[RANKS_MOST];
    struct tree *tree = tree_make(&trial.shape, trial.asked_most, trial.seed);
    struct pipeline_settings settings = branches_settings_of(&trial, "/tmp");
    (void)state;
    settings.stop = stop_after_a_while;
    run_branches(&trial, &settings, &tree->base, runs);
    assert_int_equal(runs[0].status, STATUS_STOPPED);
    assert_int_equal(runs[0].exit_code, 143);
    assert_int_equal(runs[1].status, STATUS_OK);
    assert_int_equal(runs[2].status, STATUS_OK);
    assert_int_equal(tree->wrong, 0);
    assert_true(tree->done > 0 && tree->done < tree->count);
    for (int32_t i = 0; i < tree->count; i++) {
        assert_int_equal(tree->node[i].done, tree->node[i].given == tree->node[i].count);
    }
    assert_int_equal(runs[0].counts.branches.branches, tree->done);
    tree_free(tree);
}

enum trouble { WISHES, MORE_FAILS, DONE_FAILS, NEVER_SEALED, TROUBLES, MORE_STOPS, DONE_STOPS };

struct troubled {
    struct branch_driver base;
    enum trouble trouble;
    int32_t refused, done;
};

static enum status wish_badly(struct troubled *troubled, struct branches *branches,
                              struct branch *end, struct branch *sealed) {
    const struct branch_wish wishes[] = {
        {.parent = sealed, .count = 1               },
        {.parent = end,    .count = 0               },
        {.parent = end,    .count = -1              },
        {.parent = end,    .count = INT64_MAX       },
        {.parent = end,    .count = CHUNK_TOKENS + 1}, // its parent ends inside a chunk
        {.parent = end,    .count = 5,                .asked = 6},
        {.parent = end,                .count = 5,                             .asked = -1},
        {.count = 100,     .asked = 11 }  // more than the model is opened for
    };
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        struct branch *added = NULL;
        troubled->refused += branches_add(branches, &wishes[i], &added) == STATUS_UNEXPECTED;
    }
    return STATUS_OK;
}

static enum status troubled_more(struct branch_driver *base, struct branches *branches,
                                 int64_t tokens, bool *ended) {
    struct troubled *troubled = (struct troubled *)base;
    const struct branch_wish wish = {.count = 100, .goes_on = true}, short_one = {.count = 1};
    struct branch *end = NULL, *sealed = NULL;
    (void)tokens;
    if (troubled->trouble == MORE_FAILS) return STATUS_IO;
    if (troubled->trouble == MORE_STOPS) return STATUS_STOPPED;
    TRY(branches_add(branches, &wish, &end));
    TRY(branches_add(branches, &short_one, &sealed));
    TRY(wish_badly(troubled, branches, end, sealed));
    if (troubled->trouble != NEVER_SEALED) branches_seal(branches, end);
    *ended = true;
    return STATUS_OK;
}

static void troubled_tokens(struct branch_driver *base, const struct branch *branch, int64_t first,
                            int64_t count, int32_t *token, int32_t *lookahead) {
    (void)base;
    (void)branch;
    (void)first;
    memset(token, 0, (size_t)count * sizeof *token);
    *lookahead = -1;
}

static enum status troubled_done(struct branch_driver *base, struct branches *branches,
                                 struct branch *branch, const struct branch_answer *answer) {
    struct troubled *troubled = (struct troubled *)base;
    (void)branches;
    (void)branch;
    (void)answer;
    troubled->done++;
    if (troubled->trouble == DONE_STOPS) return STATUS_STOPPED;
    return troubled->trouble == DONE_FAILS ? STATUS_MISMATCH : STATUS_OK;
}

static enum status troubled_progress(struct branch_driver *base) {
    (void)base;
    return STATUS_OK;
}

static const struct branch_driver_table troubled_table = {.more = troubled_more,
                                                          .tokens = troubled_tokens,
                                                          .done = troubled_done,
                                                          .progress = troubled_progress};

static struct troubled run_troubled(enum trouble trouble, struct branches_rank *runs) {
    const struct branches_trial trial = {.ranks = 2,
                                         .model = "toy:layers=2,layer_bytes=64",
                                         .step_tokens = CHUNK_TOKENS,
                                         .asked_most = 10};
    struct troubled troubled = {.base = {&troubled_table}, .trouble = trouble};
    const struct pipeline_settings settings = branches_settings_of(&trial, "/tmp");
    run_branches(&trial, &settings, &troubled.base, runs);
    return troubled;
}

static void a_driver_that_fails_ends_all_ranks(void **state) {
    static const enum status expected[] = {STATUS_OK, STATUS_IO, STATUS_MISMATCH,
                                           STATUS_UNEXPECTED};
    struct branches_rank runs[RANKS_MOST];
    (void)state;
    for (enum trouble trouble = 0; trouble < TROUBLES; trouble++) {
        const struct troubled troubled = run_troubled(trouble, runs);
        assert_int_equal(runs[0].status, expected[trouble]);
        assert_int_equal(runs[1].status, trouble == WISHES ? STATUS_OK : STATUS_PEER);
        assert_int_equal(runs[1].exit_code, status_exit_code(expected[trouble]));
        if (trouble != MORE_FAILS) assert_int_equal(troubled.refused, 8);
        if (trouble == WISHES || trouble == NEVER_SEALED) assert_int_equal(troubled.done, 2);
    }
}

static void a_driver_that_is_stopped_ends_all_ranks(void **state) {
    struct branches_rank runs[RANKS_MOST];
    (void)state;
    for (enum trouble trouble = MORE_STOPS; trouble <= DONE_STOPS; trouble++) {
        (void)run_troubled(trouble, runs);
        assert_int_equal(runs[0].status, STATUS_STOPPED);
        assert_int_equal(runs[1].status, STATUS_OK);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trees_give_what_their_paths_give),
        cmocka_unit_test(states_that_are_shared_are_spilled),
        cmocka_unit_test(hundreds_begin_at_one_end),
        cmocka_unit_test(the_lowest_order_is_served_first),
        cmocka_unit_test(a_stop_ends_what_is_under_way),
        cmocka_unit_test(a_driver_that_fails_ends_all_ranks),
        cmocka_unit_test(a_driver_that_is_stopped_ends_all_ranks),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
