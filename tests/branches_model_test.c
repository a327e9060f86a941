// Branches of the model itself: one that begins at a chunk border has the bits of the run without
// branches, on any number of ranks, whatever else begins there. One that begins elsewhere, a token at a
// time, has its numbers but for rounding.

#include "ops/cpu/cpu_backend.h"
#include "pipeline/pipeline.h"
#include "tests/temp_folder.h"

#include <math.h>
#include <pthread.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

enum { ROOT = 2 * CHUNK_TOKENS, LIMB = 2 * CHUNK_TOKENS + 52, LIMBS = 3, TWIGS = 5 };
enum { PATH = ROOT + LIMB + TWIGS, STEP = 2 * CHUNK_TOKENS, RANKS_MOST = 3 };

// Below the root there are limbs, and at the end of each twigs of one token, one after the other.
struct tree {
    struct branch_driver base;
    int32_t path[LIMBS][PATH + 1];
    struct branch *limb[LIMBS];
    float nll[LIMBS][PATH];
    struct best_token best[LIMBS][PATH];
    int32_t done;
};

static enum status add(struct branches *branches, struct branch *parent, int64_t count,
                       bool goes_on, int32_t *path, struct branch **added) {
    const struct branch_wish wish = {.parent = parent,
                                     .count = count,
                                     .asked = parent == NULL ? 0 : count,
                                     .goes_on = goes_on,
                                     .context = path};
    return branches_add(branches, &wish, added);
}

static enum status more(struct branch_driver *base, struct branches *branches, int64_t tokens,
                        bool *ended) {
    struct tree *tree = (struct tree *)base;
    struct branch *root = NULL;
    (void)tokens;
    TRY(add(branches, NULL, ROOT, true, tree->path[0], &root));
    for (int32_t i = 0; i < LIMBS; i++) {
        TRY(add(branches, root, LIMB, true, tree->path[i], &tree->limb[i]));
    }
    branches_seal(branches, root);
    *ended = true;
    return STATUS_OK;
}

static void tokens(struct branch_driver *base, const struct branch *branch, int64_t first,
                   int64_t count, int32_t *token, int32_t *lookahead) {
    const int32_t *path = branch->context;
    (void)base;
    memcpy(token, path + branch->first + first, (size_t)count * sizeof *token);
    *lookahead = path[branch->first + first + count];
}

static enum status done(struct branch_driver *base, struct branches *branches,
                        struct branch *branch, const struct branch_answer *answer) {
    struct tree *tree = (struct tree *)base;
    int32_t *path = branch->context;
    struct branch *twig = NULL;
    const int64_t i = (path - tree->path[0]) / (PATH + 1);
    tree->done++;
    if (branch->parent == NULL) return STATUS_OK;
    memcpy(tree->nll[i] + branch->first, answer->nll, (size_t)branch->asked * sizeof(float));
    memcpy(tree->best[i] + branch->first, answer->best,
           (size_t)branch->asked * sizeof(struct best_token));
    const int64_t end = branch->first + branch->count;
    if (end < PATH) TRY(add(branches, branch, 1, end + 1 < PATH, path, &twig));
    if (end < PATH) branches_seal(branches, branch);
    return STATUS_OK;
}

static enum status progress(struct branch_driver *base) {
    (void)base;
    return STATUS_OK;
}

static const struct branch_driver_table tree_table = {
    .more = more, .tokens = tokens, .done = done, .progress = progress};

static void open_model(int64_t rows, struct backend **backend, struct model **model) {
    const struct cpu_backend_settings cpu = {.threads = 1};
    const struct model_settings sizes = {.step_tokens = rows, .asked_most = rows};
    if (cpu_backend_open(&cpu, backend) != STATUS_OK ||
        model_open(TESTS_FOLDER "/models/passkey-1.8m", *backend, &sizes, model) != STATUS_OK) {
        abort();
    }
}

struct rank_run {
    struct link *link;
    struct tree *tree;
    struct pipeline_counts counts;
    pthread_t thread;
    enum status status;
};

static void *run_rank(void *argument) {
    struct rank_run *run = argument;
    const struct pipeline_settings settings = {.step_tokens = STEP,
                                               .move_tokens = 100,
                                               .asked_most = STEP,
                                               .peer_timeout_ms = 60000,
                                               .host_slots_bytes = 1 << 26};
    struct pipeline_rank rank = {.group = run->link};
    int exit_code = 0;
    if (run->link->rank == 0) rank.driver = &run->tree->base;
    log_set_rank(run->link->rank);
    open_model(STEP, &rank.backend, &rank.model);
    run->status = pipeline_run(&settings, &rank, &run->counts, &exit_code);
    model_close(rank.model);
    rank.backend->table->close(rank.backend);
    return NULL;
}

static void run_tree(struct tree *tree, int32_t ranks) {
    const struct loopback_settings settings = {0};
    struct link *links[RANKS_MOST];
    struct rank_run runs[RANKS_MOST];
    assert_int_equal(loopback_links_open(ranks, &settings, links), STATUS_OK);
    alarm(300);
    for (int32_t r = 0; r < ranks; r++) {
        runs[r] = (struct rank_run){.link = links[r], .tree = tree};
        assert_int_equal(pthread_create(&runs[r].thread, NULL, run_rank, &runs[r]), 0);
    }
    for (int32_t r = 0; r < ranks; r++) {
        pthread_join(runs[r].thread, NULL);
        assert_int_equal(runs[r].status, STATUS_OK);
        const struct slots_counts *slots = &runs[r].counts.slots;
        assert_int_equal(slots->device + slots->host + slots->file, 0);
    }
    for (int32_t r = 0; r < ranks; r++) {
        links[r]->table->close(links[r]);
    }
    alarm(0);
    assert_int_equal(tree->done, 1 + LIMBS * (1 + TWIGS));
    assert_int_equal(runs[0].counts.branches.tokens, ROOT + LIMBS * (LIMB + TWIGS));
}

// The path in one go.
static void run_whole(const int32_t *path, float *nll, struct best_token *best) {
    int32_t rows[PATH];
    const struct model_span span = {.rows = PATH};
    struct model_step step = {.rows = PATH,
                              .token = path,
                              .target = path + 1,
                              .spans = &span,
                              .span_count = 1,
                              .nll = nll,
                              .asked = rows,
                              .asked_count = PATH,
                              .best = best};
    struct backend *backend = NULL;
    struct model *model = NULL;
    for (int32_t i = 0; i < PATH; i++) {
        rows[i] = i;
    }
    open_model(PATH, &backend, &model);
    assert_int_equal(model_run(model, &step), STATUS_OK);
    assert_int_equal(backend->table->wait(backend), STATUS_OK);
    model_close(model);
    backend->table->close(backend);
}

static struct tree *make_tree(void) {
    struct tree *tree = calloc(1, sizeof *tree);
    uint32_t random = 12345;
    assert_non_null(tree);
    tree->base.table = &tree_table;
    for (int32_t i = 0; i < LIMBS; i++) {
        for (int32_t t = 0; t <= PATH; t++) {
            random = random * 1664525u + 1013904223u;
            tree->path[i][t] =
                i > 0 && t < ROOT ? tree->path[0][t] : (int32_t)('a' + (random >> 24) % 26);
        }
    }
    return tree;
}

// The root's last row predicts the first limb's first token only.
static void branches_at_borders_have_the_bits_of_the_whole(void **state) {
    static float nll[PATH];
    static struct best_token best[PATH];
    (void)state;
    for (int32_t ranks = 1; ranks <= RANKS_MOST; ranks++) {
        struct tree *tree = make_tree();
        run_tree(tree, ranks);
        for (int32_t i = 0; i < LIMBS; i++) {
            run_whole(tree->path[i], nll, best);
            assert_memory_equal(tree->nll[i] + ROOT, nll + ROOT, LIMB * sizeof *nll);
            assert_memory_equal(tree->best[i] + ROOT, best + ROOT, LIMB * sizeof *best);
            for (int32_t t = ROOT + LIMB; t < PATH; t++) {
                assert_true(fabsf(tree->nll[i][t] - nll[t]) < 1e-4f);
                assert_int_equal(tree->best[i][t].token, best[t].token);
                assert_true(fabsf(tree->best[i][t].margin - best[t].margin) < 1e-3f);
            }
        }
        free(tree);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(branches_at_borders_have_the_bits_of_the_whole),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
