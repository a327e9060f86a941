// Any bytes as a peer's message: the first byte says whether a step or an answer, and whether its
// header is made to fit the bytes that follow, for random counts hardly ever do. What is taken lies
// inside the message, to the last number, and its spans follow each other in its rows.

#include "ops/base/check.h"
#include "pipeline/step.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#define HEADER \
    7 // numbers of 8 bytes; a step's: magic, number, then spans, moves, drops, rows, stop
#define ANSWER 4 // magic, number, rows, asked

static void check_inside(const struct message *message, const void *array, int64_t count,
                         size_t bytes_each) {
    const char *begin = message->data, *at = array;
    CHECK(count >= 0 && at >= begin && at <= begin + message->bytes);
    CHECK((size_t)count <= (size_t)(begin + message->bytes - at) / bytes_each);
}

static void check_spans(const struct step *step) {
    int64_t rows = 0, asked = 0;
    for (int64_t i = 0; i < step->span_count; i++) {
        const struct step_span *span = &step->spans[i];
        CHECK(span->count > 0 && span->count <= step->rows - rows && span->first >= 0);
        CHECK(span->from >= FROM_ZERO && span->from <= FROM_MOVE);
        CHECK(span->to >= TO_NOWHERE && span->to <= TO_RIGHT);
        CHECK(i == 0 || span->from != FROM_LEFT);
        CHECK(i == step->span_count - 1 || span->to != TO_RIGHT);
        CHECK(span->to != TO_RIGHT || span->count % CHUNK_TOKENS == 0);
        CHECK(span->asked >= 0 && span->asked <= span->count);
        rows += span->count;
        asked += span->asked;
    }
    CHECK(rows == step->rows && asked == step->asked);
}

// The same step, made of what was read, has the same bytes behind its header.
static void check_again(const struct message *message, const struct step *step) {
    struct message again;
    struct step_arrays arrays;
    const size_t header = HEADER * sizeof(uint64_t);
    CHECK(step_make(step, &again, &arrays) == STATUS_OK && again.bytes == message->bytes);
    memcpy(arrays.spans, step->spans, (size_t)step->span_count * sizeof *step->spans);
    memcpy(arrays.moves, step->moves, (size_t)step->move_count * sizeof *step->moves);
    memcpy(arrays.drops, step->drops, (size_t)step->drop_count * sizeof *step->drops);
    memcpy(arrays.token, step->token, (size_t)step->rows * sizeof *step->token);
    CHECK(memcmp((char *)again.data + header, (char *)message->data + header,
                 message->bytes - header) == 0);
    free(again.data);
}

static void try_step(const struct message *message) {
    struct step step;
    if (step_read(message, &step) != STATUS_OK) return;
    check_inside(message, step.spans, step.span_count, sizeof *step.spans);
    check_inside(message, step.moves, step.move_count, sizeof *step.moves);
    check_inside(message, step.drops, step.drop_count, sizeof *step.drops);
    check_inside(message, step.token, step.rows, sizeof *step.token);
    check_spans(&step);
    check_again(message, &step);
}

static void try_answer(const struct message *message) {
    struct step_result result;
    float last = 0;
    if (step_result_read(message, &result) != STATUS_OK) return;
    check_inside(message, result.nll, result.rows, sizeof *result.nll);
    check_inside(message, result.best, result.asked, sizeof *result.best);
    if (result.rows > 0) memcpy(&last, &result.nll[result.rows - 1], sizeof last);
}

// A step whose header asks for a few entries of each array, and for as many rows as are left then.
static bool fit_step(const uint64_t *header, size_t left, struct message *made) {
    struct step counts = {.number = header[1],
                          .stop = header[6] % 2 != 0,
                          .span_count = (int64_t)(header[2] % 8),
                          .move_count = (int64_t)(header[3] % 4),
                          .drop_count = (int64_t)(header[4] % 4)};
    struct step_arrays arrays;
    const size_t taken = (size_t)counts.span_count * sizeof *arrays.spans +
                         (size_t)counts.move_count * sizeof *arrays.moves +
                         (size_t)counts.drop_count * sizeof *arrays.drops;
    if (taken > left) return false;
    counts.rows = (int64_t)((left - taken) / sizeof *arrays.token);
    CHECK(step_make(&counts, made, &arrays) == STATUS_OK);
    return true;
}

// Gives the message a header that is right, and cuts off what it does not count.
static void fit(struct message *message) {
    const bool step = message->kind == MESSAGE_STEP;
    const size_t header_bytes = (step ? HEADER : ANSWER) * sizeof(uint64_t);
    uint64_t header[HEADER];
    struct message made = {0};
    struct step_result_arrays arrays;
    if (message->bytes < header_bytes) return;
    memcpy(header, message->data, header_bytes);
    const size_t left = message->bytes - header_bytes;
    if (step && !fit_step(header, left, &made)) return;
    if (!step) {
        struct step_result counts = {.number = header[1], .asked = (int64_t)(header[3] % 8)};
        const size_t taken = (size_t)counts.asked * sizeof *arrays.best;
        if (taken > left) return;
        counts.rows = (int64_t)((left - taken) / sizeof *arrays.nll);
        CHECK(step_result_make(&counts, &made, &arrays) == STATUS_OK);
    }
    memcpy(message->data, made.data, header_bytes);
    message->bytes = made.bytes;
    free(made.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    struct message message = {.kind = data[0] % 2 == 0 ? MESSAGE_STEP : MESSAGE_RESULT,
                              .bytes = size - 1,
                              .data = malloc(size)};
    CHECK(message.data != NULL);
    memcpy(message.data, data + 1, size - 1);
    if (data[0] & 2) fit(&message);
    message.data = realloc(message.data, message.bytes > 0 ? message.bytes : 1); // none to spare
    CHECK(message.data != NULL);
    if (message.kind == MESSAGE_STEP) {
        try_step(&message);
    } else {
        try_answer(&message);
    }
    free(message.data);
    return 0;
}
