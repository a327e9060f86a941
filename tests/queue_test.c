// The late backend of the other tests: keeps order, copies arguments, waits when told to wait.

#include "tests/queue_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define JOBS 300

struct trace {
    int64_t count;
    int64_t seen[4 * JOBS];
};

struct mark {
    struct trace *trace;
    int64_t number;
};

static void note(void *argument) {
    const struct mark *mark = argument;
    mark->trace->seen[mark->trace->count++] = mark->number;
}

static void order_is_kept(void **state) {
    (void)state;
    static struct trace trace;
    static struct mark marks[JOBS];
    static int32_t values[JOBS], back[JOBS];
    struct backend *backend = NULL;
    int32_t *memory = NULL;
    trace.count = 0;
    assert_int_equal(queue_backend_open(NULL, 7, 200, &backend), STATUS_OK);
    assert_int_equal(backend->table->alloc(backend, sizeof *memory, (void **)&memory), STATUS_OK);
    assert_int_equal((uintptr_t)memory % 64, 0);
    assert_int_equal(*memory, 0);
    // One word of memory for all: only the order keeps the values apart.
    for (int64_t i = 0; i < JOBS; i++) {
        values[i] = (int32_t)i;
        marks[i] = (struct mark){&trace, i};
        assert_int_equal(backend->table->upload(backend, memory, &values[i], sizeof *values), 0);
        assert_int_equal(backend->table->call(backend, note, &marks[i]), STATUS_OK);
        assert_int_equal(backend->table->download(backend, &back[i], memory, sizeof *back), 0);
    }
    assert_int_equal(backend->table->wait(backend), STATUS_OK);
    assert_int_equal(trace.count, JOBS);
    for (int64_t i = 0; i < JOBS; i++) {
        assert_int_equal(trace.seen[i], i);
        assert_int_equal(back[i], i);
    }
    backend->table->release(backend, memory);
    backend->table->close(backend);
}

struct gate {
    atomic_bool open;
    atomic_bool passed;
};

static void pass_gate(void *argument) {
    struct gate *gate = argument;
    const struct timespec pause = {0, 1000000};
    while (!atomic_load(&gate->open))
        nanosleep(&pause, NULL);
    nanosleep(&pause, NULL);
    atomic_store(&gate->passed, true);
}

static void wait_waits_and_queueing_does_not(void **state) {
    (void)state;
    struct gate gate = {false, false};
    struct backend *backend = NULL;
    int32_t from = 1, to = 0;
    assert_int_equal(queue_backend_open(NULL, 1, 0, &backend), STATUS_OK);
    assert_int_equal(backend->table->call(backend, pass_gate, &gate), STATUS_OK);
    assert_int_equal(backend->table->upload(backend, &to, &from, sizeof to), STATUS_OK);
    assert_false(atomic_load(&gate.passed)); // queued is not done
    atomic_store(&gate.open, true);
    assert_int_equal(backend->table->wait(backend), STATUS_OK);
    assert_true(atomic_load(&gate.passed));
    assert_int_equal(to, 1);
    assert_int_equal(backend->table->wait(backend), STATUS_OK); // nothing queued: at once
    backend->table->close(backend);
}

static void close_finishes_what_is_queued(void **state) {
    (void)state;
    static struct trace trace;
    static struct mark marks[JOBS];
    struct backend *backend = NULL;
    trace.count = 0;
    assert_int_equal(queue_backend_open(NULL, 3, 50, &backend), STATUS_OK);
    for (int64_t i = 0; i < JOBS; i++) {
        marks[i] = (struct mark){&trace, i};
        assert_int_equal(backend->table->call(backend, note, &marks[i]), STATUS_OK);
    }
    backend->table->close(backend);
    assert_int_equal(trace.count, JOBS);
}

static void without_operators_wait_says_so(void **state) {
    (void)state;
    static struct trace trace;
    struct mark mark = {&trace, 1};
    struct backend *backend = NULL;
    trace.count = 0;
    assert_int_equal(queue_backend_open(NULL, 3, 50, &backend), STATUS_OK);
    assert_int_equal(backend->table->head(backend, &(struct head_args){0}), STATUS_OK);
    assert_int_equal(backend->table->call(backend, note, &mark), STATUS_OK);
    assert_int_equal(backend->table->wait(backend), STATUS_UNEXPECTED);
    assert_int_equal(trace.count, 1); // calls still run: whoever waits for one is not left alone
    assert_int_equal(backend->table->wait(backend), STATUS_UNEXPECTED);
    backend->table->close(backend);
}

// An inner backend that writes down which operators came, and with which rows.
struct recorder {
    struct backend base;
    struct trace trace;
    bool closed;
};

static enum status record(struct backend *backend, int64_t number) {
    struct trace *trace = &((struct recorder *)(void *)backend)->trace;
    trace->seen[trace->count++] = number;
    return number == 14 * 100 ? STATUS_PEER : STATUS_OK;
}

#define RECORD(number, name, type, rows_of)                                              \
    static enum status record_##name(struct backend *backend, const struct type *args) { \
        return record(backend, (number)*100 + args->rows_of);                            \
    }
RECORD(1, embedding, embedding_args, out.rows)
RECORD(2, rms_norm, rms_norm_args, in.rows)
RECORD(3, linear, linear_args, in.rows)
RECORD(4, conv_tail, conv_args, in.rows)
RECORD(5, causal_conv, conv_args, in.rows)
RECORD(6, dt, dt_args, in.rows)
RECORD(7, chunk_cumsum, scan_args, xbc.rows)
RECORD(8, chunk_cb, scan_args, xbc.rows)
RECORD(9, chunk_state, scan_args, xbc.rows)
RECORD(10, state_passing, scan_args, xbc.rows)
RECORD(11, chunk_scan, scan_args, xbc.rows)
RECORD(12, gated_norm, gated_norm_args, y.rows)
RECORD(13, head, head_args, in.rows)
RECORD(14, best, best_args, logits.rows)

static enum status record_wait(struct backend *backend) {
    (void)backend;
    return STATUS_OK;
}

static void record_close(struct backend *backend) {
    ((struct recorder *)(void *)backend)->closed = true;
}

static const struct backend_table record_table = {
    .name = "recorder",
    .wait = record_wait,
    .close = record_close,
    .embedding = record_embedding,
    .rms_norm = record_rms_norm,
    .linear = record_linear,
    .conv_tail = record_conv_tail,
    .causal_conv = record_causal_conv,
    .dt = record_dt,
    .chunk_cumsum = record_chunk_cumsum,
    .chunk_cb = record_chunk_cb,
    .chunk_state = record_chunk_state,
    .state_passing = record_state_passing,
    .chunk_scan = record_chunk_scan,
    .gated_norm = record_gated_norm,
    .head = record_head,
    .best = record_best,
};

// The argument is overwritten as soon as the call is back.
#define QUEUE(name, type, rows_of, value)                                   \
    do {                                                                    \
        struct type args_ = {0};                                            \
        args_.rows_of = (value);                                            \
        assert_int_equal(backend->table->name(backend, &args_), STATUS_OK); \
        memset(&args_, 0xff, sizeof args_);                                 \
    } while (0)

static void every_operator_goes_to_its_own_with_a_copy(void **state) {
    (void)state;
    static struct recorder recorder;
    struct backend *backend = NULL;
    recorder = (struct recorder){
        .base = {.table = &record_table, .tile_tokens = 32, .numerics = "recorded"}
    };
    assert_int_equal(queue_backend_open(&recorder.base, 11, 300, &backend), STATUS_OK);
    assert_int_equal(backend->tile_tokens, 32);
    assert_string_equal(backend->numerics, "recorded");
    QUEUE(embedding, embedding_args, out.rows, 1);
    QUEUE(rms_norm, rms_norm_args, in.rows, 2);
    QUEUE(linear, linear_args, in.rows, 3);
    QUEUE(conv_tail, conv_args, in.rows, 4);
    QUEUE(causal_conv, conv_args, in.rows, 5);
    QUEUE(dt, dt_args, in.rows, 6);
    QUEUE(chunk_cumsum, scan_args, xbc.rows, 7);
    QUEUE(chunk_cb, scan_args, xbc.rows, 8);
    QUEUE(chunk_state, scan_args, xbc.rows, 9);
    QUEUE(state_passing, scan_args, xbc.rows, 10);
    QUEUE(chunk_scan, scan_args, xbc.rows, 11);
    QUEUE(gated_norm, gated_norm_args, y.rows, 12);
    QUEUE(head, head_args, in.rows, 13);
    QUEUE(best, best_args, logits.rows, 14);
    assert_int_equal(backend->table->wait(backend), STATUS_OK);
    assert_int_equal(recorder.trace.count, 14);
    for (int64_t i = 0; i < 14; i++)
        assert_int_equal(recorder.trace.seen[i], (i + 1) * 101);
    QUEUE(best, best_args, logits.rows, 0); // the recorder fails at this one
    QUEUE(head, head_args, in.rows, 1);
    assert_int_equal(backend->table->wait(backend), STATUS_PEER);
    assert_int_equal(recorder.trace.count, 16);
    backend->table->close(backend);
    assert_true(recorder.closed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_kept),
        cmocka_unit_test(wait_waits_and_queueing_does_not),
        cmocka_unit_test(close_finishes_what_is_queued),
        cmocka_unit_test(without_operators_wait_says_so),
        cmocka_unit_test(every_operator_goes_to_its_own_with_a_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
