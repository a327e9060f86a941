// Rows that are asked what the model would go on with: the answers are the float64 model's, and the
// same bits whatever else is asked and however the rows are cut, packed, windowed or queued. And spans
// may end and begin anywhere, a token at a time if need be.

#include "ops/cpu/cpu_backend.h"
#include "ops/model/random_weights.h"
#include "src/verify_plain.h"
#include "tests/queue_backend.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define VOCAB  97
#define TOKENS 3300
#define STEP   4096
#define ASKED  TOKENS

// f32 against float64 and against f32 with its sums in another order, of a model whose logits are
// below 1: measured 5.5e-7 at most, of states too.
#define TOLERANCE 2e-6

static const char config_text[] =
    "{\"model_type\":\"mamba2\",\"hidden_size\":48,\"num_hidden_layers\":3,\"state_size\":16,"
    "\"head_dim\":12,\"num_heads\":8,\"expand\":2,\"n_groups\":2,\"vocab_size\":97,"
    "\"tie_word_embeddings\":true}";

struct world {
    struct mamba2_config config;
    struct mamba2_weights weights;
    int32_t token[TOKENS], target[TOKENS], every[TOKENS];
    struct best_token exact[TOKENS]; // of the float64 model
    double lead[TOKENS];             // of its best logit over the next
    double exact_nll[TOKENS];
    double *exact_state; // [layers, heads, d_state, head_dim] after all tokens
    int64_t states;      // of a layer
    // All rows asked at once, in one span.
    struct best_token whole[TOKENS];
    float whole_nll[TOKENS];
};

struct asking {
    struct backend *backend;
    struct model *model;
    char *slot[2];
};

static struct asking open_asking(const struct world *world, const struct cpu_backend_settings *cpu,
                                 bool queued, int64_t asked_most) {
    struct asking asking = {0};
    const struct model_settings settings = {.step_tokens = STEP, .asked_most = asked_most};
    assert_int_equal(cpu_backend_open(cpu, &asking.backend), STATUS_OK);
    if (queued) {
        struct backend *inner = asking.backend;
        assert_int_equal(queue_backend_open(inner, 3, 100, &asking.backend), STATUS_OK);
    }
    assert_int_equal(mamba2_open(&world->config, &world->weights, "small", asking.backend,
                                 &settings, &asking.model),
                     STATUS_OK);
    const struct model_info *info = model_info(asking.model);
    const size_t bytes = (size_t)info->layers * info->layer_bytes;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            asking.backend->table->alloc(asking.backend, bytes, (void **)&asking.slot[i]),
            STATUS_OK);
        memset(asking.slot[i], 0xFF, bytes);
    }
    return asking;
}

static void close_asking(struct asking *asking) {
    model_close(asking->model);
    for (int i = 0; i < 2; i++) {
        asking->backend->table->release(asking->backend, asking->slot[i]);
    }
    asking->backend->table->close(asking->backend);
}

static void run_step(const struct asking *asking, const struct model_step *step) {
    assert_int_equal(model_run(asking->model, step), STATUS_OK);
    assert_int_equal(asking->backend->table->wait(asking->backend), STATUS_OK);
}

// The document in one span.
static void run_whole(const struct world *world, const struct asking *asking, const int32_t *asked,
                      int64_t count, float *nll, struct best_token *best) {
    const struct model_span span = {.rows = TOKENS, .state_out = asking->slot[0]};
    const struct model_step step = {.rows = TOKENS,
                                    .token = world->token,
                                    .target = world->target,
                                    .spans = &span,
                                    .span_count = 1,
                                    .nll = nll,
                                    .asked = asked,
                                    .asked_count = count,
                                    .best = best};
    run_step(asking, &step);
}

static void look_through(struct world *world, int64_t row, const double *logit) {
    const int32_t target = world->target[row];
    double most = -INFINITY, next = -INFINITY, other = -INFINITY;
    for (int32_t v = 0; v < VOCAB; v++) {
        if (logit[v] > most) {
            next = most;
            most = logit[v];
            world->exact[row].token = v;
        } else if (logit[v] > next) {
            next = logit[v];
        }
        if (v != target && logit[v] > other) other = logit[v];
    }
    world->lead[row] = most - next;
    world->exact[row].margin = target < 0 ? NAN : (float)(logit[target] - other);
    world->exact_nll[row] = target < 0 ? 0.0 : oracle_nll(logit, VOCAB, target);
}

static void ask_the_oracle(struct world *world) {
    const struct verify_subject subject = {.seed = 1};
    const struct verify_trial trial = {
        .subject = &subject, .config = world->config, .weights = world->weights};
    struct plain plain;
    struct oracle *oracle = NULL;
    assert_int_equal(plain_open(&trial, 0, &plain), STATUS_OK);
    assert_int_equal(oracle_open(&plain.weights, &oracle), STATUS_OK);
    for (int64_t i = 0; i < TOKENS; i++) {
        look_through(world, i, oracle_step(oracle, world->token[i]));
    }
    const struct mamba2_config *config = &world->config;
    world->states = config->heads * config->d_state * config->head_dim;
    world->exact_state = calloc((size_t)(config->layers * world->states), sizeof(double));
    assert_non_null(world->exact_state);
    for (int64_t i = 0; i < config->layers; i++) {
        memcpy(world->exact_state + i * world->states, oracle_state(oracle, i),
               (size_t)world->states * sizeof(double));
    }
    oracle_close(oracle);
    plain_close(&plain);
}

static int open_world(void **state) {
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    assert_int_equal(config_parse("config", config_text, strlen(config_text), &world->config),
                     STATUS_OK);
    assert_int_equal(weights_random(&world->config, 7, &world->weights), STATUS_OK);
    uint32_t random = 5;
    for (int i = 0; i < TOKENS; i++) {
        random = random * 1664525U + 1013904223U;
        world->token[i] = (int32_t)((random >> 16) % VOCAB);
        world->every[i] = i;
    }
    for (int i = 0; i < TOKENS; i++) {
        world->target[i] = i % 50 == 49 || i + 1 == TOKENS ? -1 : world->token[i + 1];
    }
    ask_the_oracle(world);
    const struct cpu_backend_settings cpu = {.threads = 1};
    struct asking asking = open_asking(world, &cpu, false, ASKED);
    run_whole(world, &asking, world->every, TOKENS, world->whole_nll, world->whole);
    close_asking(&asking);
    *state = world;
    return 0;
}

static int close_world(void **state) {
    struct world *world = *state;
    weights_close(&world->weights);
    free(world->exact_state);
    free(world);
    return 0;
}

static void assert_near(const char *what, int64_t row, double got, double expected) {
    if (fabs(got - expected) <= TOLERANCE) return;
    fail_msg("%s, row %d: %.9g, expected %.9g", what, (int)row, got, expected);
}

// Where two logits are nearer than the tolerance, either may be the best.
static void assert_exact(const struct world *world, int64_t row, const struct best_token *best) {
    const struct best_token *exact = &world->exact[row];
    if (world->lead[row] > TOLERANCE) assert_int_equal(best->token, exact->token);
    assert_int_equal(isnan(best->margin) != 0, world->target[row] < 0);
    if (world->target[row] >= 0) {
        assert_near("margin", row, (double)best->margin, (double)exact->margin);
    }
}

static void the_answers_are_the_exact_models(void **state) {
    const struct world *world = *state;
    int64_t clear = 0, kinds = 0;
    bool seen[VOCAB] = {0};
    for (int64_t i = 0; i < TOKENS; i++) {
        const struct best_token *best = &world->whole[i];
        assert_exact(world, i, best);
        assert_near("NLL", i, (double)world->whole_nll[i], world->exact_nll[i]);
        if (best->margin > 0) assert_int_equal(best->token, world->target[i]);
        if (best->margin < 0) assert_int_not_equal(best->token, world->target[i]);
        clear += world->lead[i] > TOLERANCE;
        kinds += !seen[best->token];
        seen[best->token] = true;
    }
    assert_true(clear > TOKENS * 99 / 100 && kinds > VOCAB / 2); // it has compared something
}

static void assert_same(const char *what, const struct best_token *got,
                        const struct best_token *expected, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (memcmp(&got[i], &expected[i], sizeof *got) == 0) continue;
        fail_msg("%s, answer %d: %d %.9g, expected %d %.9g", what, (int)i, got[i].token,
                 (double)got[i].margin, expected[i].token, (double)expected[i].margin);
    }
}

// None, one at each end, and sets around the sizes of a block, up to as many as may be asked.
static void ask_sets(const struct world *world, const struct asking *asking,
                     const struct best_token *whole, const float *whole_nll) {
    static const int64_t sets[][3] = {
  // first, step, count
        {0,          1,  0  },
        {0,          1,  1  },
        {TOKENS - 1, 1,  1  },
        {7,          51, 63 },
        {7,          50, 64 },
        {0,          50, 65 },
        {49,         50, 66 },
        {1000,       1,  129},
        {3,          17, 194},
    };
    struct best_token best[256], expected[256];
    int32_t asked[256];
    float nll[TOKENS];
    for (size_t s = 0; s < sizeof sets / sizeof sets[0]; s++) {
        const int64_t count = sets[s][2];
        for (int64_t i = 0; i < count; i++) {
            asked[i] = (int32_t)(sets[s][0] + i * sets[s][1]);
            expected[i] = whole[asked[i]];
        }
        memset(best, 0xAB, sizeof best);
        run_whole(world, asking, asked, count, nll, best);
        assert_same("asked", best, expected, count);
        for (size_t i = (size_t)count * sizeof *best; i < sizeof best; i++) {
            assert_int_equal(((unsigned char *)best)[i], 0xAB); // nothing behind them is written
        }
        assert_memory_equal(nll, whole_nll, sizeof nll); // nor do the NLLs hang on it
    }
}

static void nothing_hangs_on_what_else_is_asked(void **state) {
    const struct world *world = *state;
    static struct best_token whole[TOKENS];
    float nll[TOKENS];
    for (enum cpu_dtype dtype = CPU_F32; dtype <= CPU_BF16; dtype++) {
        const struct cpu_backend_settings cpu = {.threads = 2, .dtype = dtype};
        struct asking asking = open_asking(world, &cpu, false, ASKED);
        run_whole(world, &asking, world->every, TOKENS, nll, whole);
        close_asking(&asking);
        if (dtype == CPU_F32) assert_same("in f32", whole, world->whole, TOKENS);
        asking = open_asking(world, &cpu, false, 194);
        ask_sets(world, &asking, whole, nll);
        close_asking(&asking);
    }
}

static void windows_threads_and_instructions_change_nothing(void **state) {
    const struct world *world = *state;
    static struct best_token best[TOKENS];
    float nll[TOKENS];
    const char *isa[CPU_ISAS_MOST];
    const size_t isas = cpu_isa_list(isa, CPU_ISAS_MOST);
    static const int64_t window[] = {64, 192, 1024, 4096};
    for (size_t i = 0; i < 4 * isas; i++) {
        const struct cpu_backend_settings cpu = {
            .threads = (int64_t)i % 3 + 1, .isa = isa[i / 4], .window_tokens = window[i % 4]};
        struct asking asking = open_asking(world, &cpu, i % 5 == 0, ASKED);
        run_whole(world, &asking, world->every, TOKENS, nll, best);
        assert_same(isa[i / 4], best, world->whole, TOKENS);
        close_asking(&asking);
    }
}

// Cut at a chunk's border over two steps, between other documents, on a late queue.
static void packing_changes_nothing(void **state) {
    const struct world *world = *state;
    static int32_t token[STEP], target[STEP];
    static struct best_token best[STEP];
    static float nll[STEP];
    const int64_t cut = 2 * CHUNK_TOKENS, before[2] = {65, 1}, behind[2] = {3, 70};
    const struct cpu_backend_settings cpu = {.threads = 2, .window_tokens = 256};
    struct asking asking = open_asking(world, &cpu, true, STEP);
    for (int part = 0; part < 2; part++) {
        const int64_t first = part == 0 ? 0 : cut, rows = part == 0 ? cut : TOKENS - cut;
        const struct model_span spans[] = {
            {.rows = before[part]              },
            {rows,                               part == 0 ? NULL : asking.slot[0], part == 0 ? asking.slot[0] : NULL},
            {.rows = behind[part]}
        };
        struct model_step step = {.rows = before[part] + rows + behind[part],
                                  .token = token,
                                  .target = target,
                                  .spans = spans,
                                  .span_count = 3,
                                  .nll = nll,
                                  .asked = world->every,
                                  .best = best};
        step.asked_count = step.rows < TOKENS ? step.rows : TOKENS;
        for (int64_t i = 0; i < step.rows; i++) {
            const int64_t at = i - before[part];
            const bool own = at >= 0 && at < rows;
            token[i] = own ? world->token[first + at] : (int32_t)(i * 31 % VOCAB);
            target[i] = own ? world->target[first + at] : (int32_t)(i * 7 % VOCAB);
        }
        run_step(&asking, &step);
        assert_same("packed", best + before[part], world->whole + first, rows);
    }
    close_asking(&asking);
}

// The state after all tokens, relative to its norm.
static void assert_state(const struct world *world, const struct asking *asking, const char *slot) {
    const struct model_info *info = model_info(asking->model);
    for (int32_t layer = 0; layer < info->layers; layer++) {
        const double *exact = world->exact_state + layer * world->states;
        const float *got = (const float *)(const void *)(slot + (size_t)layer * info->layer_bytes);
        double apart = 0.0, whole = 0.0;
        for (int64_t i = 0; i < world->states; i++) {
            apart += ((double)got[i] - exact[i]) * ((double)got[i] - exact[i]);
            whole += exact[i] * exact[i];
        }
        assert_true(sqrt(apart / whole) <= TOLERANCE);
    }
}

// The document span by span, each a step of its own from the state before it.
static void run_cut(const struct world *world, const struct asking *asking, const int64_t *length,
                    int64_t lengths) {
    float nll[TOKENS];
    static struct best_token best[TOKENS];
    int64_t at = 0, turn = 0;
    for (int64_t i = 0; at < TOKENS; i++, turn = 1 - turn) {
        const int64_t wanted = length[i % lengths], left = TOKENS - at;
        const struct model_span span = {wanted < left ? wanted : left,
                                        at == 0 ? NULL : asking->slot[1 - turn],
                                        asking->slot[turn]};
        const struct model_step step = {.rows = span.rows,
                                        .token = world->token + at,
                                        .target = world->target + at,
                                        .spans = &span,
                                        .span_count = 1,
                                        .nll = nll + at,
                                        .asked = world->every,
                                        .asked_count = span.rows,
                                        .best = best + at};
        run_step(asking, &step);
        at += span.rows;
    }
    for (int64_t i = 0; i < TOKENS; i++) {
        assert_near("NLL", i, (double)nll[i], world->exact_nll[i]);
        assert_near("NLL", i, (double)nll[i], (double)world->whole_nll[i]);
        assert_exact(world, i, &best[i]);
    }
    assert_state(world, asking, asking->slot[1 - turn]);
}

static void spans_end_and_begin_anywhere(void **state) {
    const struct world *world = *state;
    static const int64_t ragged[] = {1, 2, 3, 5, 63, 65, 1000, 1023, 1025};
    static const int64_t back[] = {1025, 1023, 1000, 65, 63, 5, 3, 2, 1};
    static const int64_t one[] = {1}, two[] = {2}, sixty[] = {63, 1};
    for (int i = 0; i < 4; i++) {
        static const int64_t window[] = {64, 128, 512, 4096};
        const struct cpu_backend_settings cpu = {.threads = i % 2 + 1, .window_tokens = window[i]};
        struct asking asking = open_asking(world, &cpu, false, ASKED);
        run_cut(world, &asking, ragged, 9);
        run_cut(world, &asking, back, 9);
        if (i == 0) run_cut(world, &asking, one, 1);
        if (i == 1) run_cut(world, &asking, two, 1);
        if (i == 2) run_cut(world, &asking, sixty, 2);
        close_asking(&asking);
    }
}

// A caller that asks for what cannot be is a bug, and is stopped before anything runs.
static void wrong_questions_are_refused(void **state) {
    const struct world *world = *state;
    static const int32_t wrong[][3] = {
        {1,  1, 2     },
        {2,  1, 3     },
        {-1, 0, 1     },
        {0,  1, TOKENS},
        {0,  1, 2     }
    };
    static const int64_t count[] = {3, 3, 3, 3, -1, 3};
    const struct cpu_backend_settings cpu = {.threads = 1};
    for (int i = 0; i < 6; i++) {
        const int64_t most = i == 5 ? 2 : 3;
        int how = 0;
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            float nll[TOKENS];
            struct best_token best[3];
            signal(SIGABRT, SIG_DFL);
            struct asking asking = open_asking(world, &cpu, false, most);
            run_whole(world, &asking, wrong[i], count[i], nll, best);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGABRT);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answers_are_the_exact_models),
        cmocka_unit_test(nothing_hangs_on_what_else_is_asked),
        cmocka_unit_test(windows_threads_and_instructions_change_nothing),
        cmocka_unit_test(packing_changes_nothing),
        cmocka_unit_test(spans_end_and_begin_anywhere),
        cmocka_unit_test(wrong_questions_are_refused),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
