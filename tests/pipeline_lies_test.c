// A rank that speaks the language and lies: whoever listens ends with an error and names it, and
// nothing of it becomes a result.

#include "pipeline/step.h"
#include "tests/pipeline_trial.h"

#define PATIENCE_MS 20000

// Until the other side has had enough.
static void stay(struct comm *comm) {
    const int64_t until_ms = clock_ms() + PATIENCE_MS;
    while (comm_health(comm) == STATUS_OK && clock_ms() < until_ms) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

enum answer_lie { TWICE, NOT_SENT_YET, A_ROW_SHORT, NO_ANSWER_AT_ALL, ANSWER_LIES };

static void answer(struct comm *comm, uint64_t number, int64_t rows) {
    struct message message;
    const struct step_result counts = {.number = number, .rows = rows};
    struct step_result_arrays arrays;
    if (step_result_make(&counts, &message, &arrays) != STATUS_OK) return;
    memset(arrays.nll, 0, (size_t)rows * sizeof *arrays.nll);
    (void)!comm_send(comm, &message); // refused once the leader has had enough
}

// A worker that does as it is told until there is something to lie about.
static void answer_wrongly(struct comm *comm, int how) {
    int64_t rows = 0;
    while (rows == 0) {
        struct message message = {.kind = MESSAGE_STEP};
        struct step step;
        if (comm_next(comm, MESSAGE_STEP, PATIENCE_MS, &message) != STATUS_OK) return;
        if (step_read(&message, &step) != STATUS_OK) abort();
        rows = step.rows;
        if (rows == 0 || how == TWICE) answer(comm, step.number, rows);
        if (rows > 0 && how == TWICE) answer(comm, step.number, rows);
        if (rows > 0 && how == NOT_SENT_YET) answer(comm, step.number + 5, rows);
        if (rows > 0 && how == A_ROW_SHORT) answer(comm, step.number, rows - 1);
        free(message.data);
    }
    if (how == NO_ANSWER_AT_ALL) {
        struct message trash = {.kind = MESSAGE_RESULT, .bytes = 100, .data = calloc(1, 100)};
        (void)!comm_send(comm, &trash);
    }
    stay(comm);
}

enum step_lie {
    MOVE_TO_ITSELF,
    MOVE_TO_NOBODY,
    STATE_OF_NOBODY,
    OVER_THE_END,
    ASKED_FOR_TOO_MUCH,
    NO_STEP,
    TOO_MANY_ROWS,
    NO_SUCH_TOKEN,
    NO_SUCH_TARGET,
    STEP_LIES
};

// A leader's first step for rank 1 of 2.
static void lead_astray(struct comm *comm, int how) {
    const int64_t rows = how == TOO_MANY_ROWS ? 3 * CHUNK_TOKENS : CHUNK_TOKENS;
    const struct step counts = {.span_count = 1, .move_count = how <= NO_STEP, .rows = rows};
    struct step_arrays arrays;
    struct message message;
    if (step_make(&counts, &message, &arrays) != STATUS_OK) abort();
    arrays.spans[0] = (struct step_span){
        .key = 1, .count = rows, .lookahead = 1, .from = FROM_ZERO, .to = TO_SLOT};
    memset(arrays.token, 0, (size_t)rows * sizeof *arrays.token);
    if (counts.move_count > 0) {
        arrays.spans[0].from = FROM_MOVE;
        arrays.moves[0] = (struct step_move){.key = 1, .peer = 0};
    }
    if (how == MOVE_TO_ITSELF) arrays.moves[0].peer = 1;
    if (how == MOVE_TO_NOBODY) arrays.moves[0].peer = 2;
    if (how == STATE_OF_NOBODY) arrays.spans[0].key = 2;
    if (how == OVER_THE_END) arrays.spans[0].to = TO_RIGHT;
    if (how == ASKED_FOR_TOO_MUCH) arrays.spans[0].asked = 1; // the model was opened for none
    if (how == NO_STEP) message.bytes--;
    if (how == NO_SUCH_TOKEN) arrays.token[CHUNK_TOKENS - 1] = 256;
    if (how == NO_SUCH_TARGET) arrays.spans[0].lookahead = 256;
    message.peer = 1;
    if (comm_send(comm, &message) != STATUS_OK) abort();
    stay(comm);
}

// The rank that listens, after a trial of two.
static struct rank_run listen_to(const struct liar *liar, struct catch *caught) {
    const struct trial trial = {.ranks = 2,
                                .links = {.seed = 20},
                                .model = "toy:layers=2,layer_bytes=4096",
                                .step_tokens = 2048,
                                .documents = 4,
                                .open_most = 4,
                                .length_most = 50000,
                                .record_most = 10000,
                                .few_long = true,
                                .seed = 21,
                                .liar = liar};
    struct flow *flow = malloc(sizeof *flow);
    struct rank_run runs[RANKS_MOST];
    assert_non_null(flow);
    make_flow(&trial, flow);
    struct pipeline_settings settings = settings_of(&trial, "/tmp");
    const int64_t begin_ms = clock_ms();
    run_trial(&trial, &settings, flow, caught, runs);
    assert_true(clock_ms() - begin_ms < PATIENCE_MS);
    free_flow(flow);
    return runs[1 - liar->rank];
}

static void answers_are_not_believed(void **state) {
    struct liar liar = {.rank = 1, .lie = answer_wrongly};
    struct catch *caught = malloc(sizeof *caught);
    (void)state;
    for (liar.how = 0; liar.how < ANSWER_LIES; liar.how++) {
        const struct rank_run leader = listen_to(&liar, caught);
        assert_int_equal(leader.status, STATUS_PEER);
        assert_int_equal(leader.exit_code, 142);
        assert_true(caught->closed && !caught->complete);
        assert_int_equal(caught->count, 0);
    }
    free(caught);
}

static void steps_are_not_believed(void **state) {
    struct liar liar = {.rank = 0, .lie = lead_astray};
    struct catch *caught = malloc(sizeof *caught);
    (void)state;
    for (liar.how = 0; liar.how < STEP_LIES; liar.how++) {
        const struct rank_run worker = listen_to(&liar, caught);
        assert_int_equal(worker.status, STATUS_PEER);
        assert_int_equal(worker.exit_code, 142);
        assert_int_equal(worker.counts.worker.steps, 0);
    }
    free(caught);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_not_believed),
        cmocka_unit_test(steps_are_not_believed),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
