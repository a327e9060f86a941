#include "pipeline/step.h"

#include "ops/base/room.h"

#include <string.h>

#define STEP_MAGIC   0x4c53544550303276u // "LSTEP02v"
#define RESULT_MAGIC 0x4c5352534c303276u

struct step_header {
    uint64_t magic, number;
    int64_t span_count, move_count, drop_count, rows, stop;
};

struct result_header {
    uint64_t magic, number;
    int64_t rows, asked;
};

// The bytes of a step message, or false when the counts cannot be right.
static bool step_bytes(int64_t spans, int64_t moves, int64_t drops, int64_t rows, size_t *bytes) {
    const int64_t most = INT64_C(1) << 28;
    if (spans < 0 || moves < 0 || drops < 0 || rows < 0) return false;
    if (spans > most || moves > most || drops > most || rows > most) return false;
    *bytes = sizeof(struct step_header) + (size_t)spans * sizeof(struct step_span) +
             (size_t)moves * sizeof(struct step_move) + (size_t)drops * sizeof(uint64_t) +
             (size_t)rows * sizeof(int32_t);
    return true;
}

static void place_arrays(char *data, const struct step_header *header, struct step_arrays *arrays) {
    char *at = data + sizeof *header;
    arrays->spans = (void *)at;
    at += (size_t)header->span_count * sizeof *arrays->spans;
    arrays->moves = (void *)at;
    at += (size_t)header->move_count * sizeof *arrays->moves;
    arrays->drops = (void *)at;
    at += (size_t)header->drop_count * sizeof *arrays->drops;
    arrays->token = (void *)at;
}

enum status step_make(const struct step *counts, struct message *message,
                      struct step_arrays *arrays) {
    const struct step_header header = {STEP_MAGIC,         counts->number,     counts->span_count,
                                       counts->move_count, counts->drop_count, counts->rows,
                                       counts->stop};
    size_t bytes = 0;
    if (!step_bytes(header.span_count, header.move_count, header.drop_count, header.rows, &bytes)) {
        return FAIL(UNEXPECTED, "step %llu is too large", (unsigned long long)counts->number);
    }
    char *data = malloc(bytes);
    if (data == NULL) return FAIL(NO_MEMORY, "step message of %zu bytes", bytes);
    memcpy(data, &header, sizeof header);
    place_arrays(data, &header, arrays);
    *message = (struct message){.kind = MESSAGE_STEP, .bytes = bytes, .data = data};
    return STATUS_OK;
}

static bool flag(int32_t value) {
    return value == 0 || value == 1;
}

// Cuts are at chunk borders: what goes over one ends there, and what comes over one begins there.
static bool cuts_fit(const struct step_span *span) {
    const bool ends = (span->first + span->count) % CHUNK_TOKENS == 0;
    if (span->from == FROM_LEFT && span->first % CHUNK_TOKENS != 0) return false;
    return span->to != TO_RIGHT || ends;
}

static bool moves_fit(const struct step *step) {
    for (int64_t i = 0; i < step->move_count; i++) {
        if (!flag(step->moves[i].out) || !flag(step->moves[i].stays)) return false;
    }
    return true;
}

static bool spans_fit(struct step *step) {
    int64_t rows = 0;
    for (int64_t i = 0; i < step->span_count; i++) {
        const struct step_span *span = &step->spans[i];
        if (span->count <= 0 || span->count > step->rows - rows) return false;
        if (span->first < 0 || span->first > INT64_MAX - span->count) return false;
        if (span->asked < 0 || span->asked > span->count || !flag(span->stays)) return false;
        if (span->from < FROM_ZERO || span->from > FROM_MOVE) return false;
        if (span->to < TO_NOWHERE || span->to > TO_RIGHT) return false;
        if (span->from == FROM_LEFT && i != 0) return false;
        if (span->to == TO_RIGHT && i != step->span_count - 1) return false;
        if (!cuts_fit(span)) return false;
        rows += span->count;
        step->asked += span->asked;
    }
    return rows == step->rows;
}

enum status step_read(const struct message *message, struct step *step) {
    struct step_header header;
    struct step_arrays arrays;
    size_t bytes = 0;
    if (message->bytes < sizeof header) {
        return FAIL(PEER, "step message of %zu bytes is cut short", message->bytes);
    }
    memcpy(&header, message->data, sizeof header);
    if (header.magic != STEP_MAGIC ||
        !step_bytes(header.span_count, header.move_count, header.drop_count, header.rows, &bytes) ||
        bytes != message->bytes) {
        return FAIL(PEER, "step message of %zu bytes is not one of this version", message->bytes);
    }
    place_arrays(message->data, &header, &arrays);
    *step = (struct step){.number = header.number,
                          .stop = header.stop != 0,
                          .span_count = header.span_count,
                          .move_count = header.move_count,
                          .drop_count = header.drop_count,
                          .rows = header.rows,
                          .spans = arrays.spans,
                          .moves = arrays.moves,
                          .drops = arrays.drops,
                          .token = arrays.token};
    if (!spans_fit(step) || !moves_fit(step)) {
        return FAIL(PEER, "step %llu has spans or moves that do not fit",
                    (unsigned long long)step->number);
    }
    return STATUS_OK;
}

// The bytes of a result message, or false when the counts cannot be right.
static bool result_bytes(int64_t rows, int64_t asked, size_t *bytes) {
    if (rows < 0 || asked < 0 || asked > rows || rows > INT64_C(1) << 28) return false;
    *bytes = sizeof(struct result_header) + (size_t)rows * sizeof(float) +
             (size_t)asked * sizeof(struct best_token);
    return true;
}

enum status step_result_make(const struct step_result *counts, struct message *message,
                             struct step_result_arrays *arrays) {
    const struct result_header header = {RESULT_MAGIC, counts->number, counts->rows, counts->asked};
    size_t bytes = 0;
    if (!result_bytes(header.rows, header.asked, &bytes)) {
        return FAIL(UNEXPECTED, "the result of step %llu is too large",
                    (unsigned long long)counts->number);
    }
    char *data = malloc(bytes);
    if (data == NULL) return FAIL(NO_MEMORY, "result message of %zu bytes", bytes);
    memcpy(data, &header, sizeof header);
    arrays->nll = (void *)(data + sizeof header);
    arrays->best = (void *)(arrays->nll + header.rows);
    *message = (struct message){.kind = MESSAGE_RESULT, .bytes = bytes, .data = data};
    return STATUS_OK;
}

enum status step_result_read(const struct message *message, struct step_result *result) {
    struct result_header header;
    size_t bytes = 0;
    if (message->bytes < sizeof header) {
        return FAIL(PEER, "result message of %zu bytes is cut short", message->bytes);
    }
    memcpy(&header, message->data, sizeof header);
    if (header.magic != RESULT_MAGIC || !result_bytes(header.rows, header.asked, &bytes) ||
        bytes != message->bytes) {
        return FAIL(PEER, "result message of %zu bytes is not one of this version", message->bytes);
    }
    const float *nll = (const void *)((const char *)message->data + sizeof header);
    *result = (struct step_result){.number = header.number,
                                   .rows = header.rows,
                                   .asked = header.asked,
                                   .nll = nll,
                                   .best = (const void *)(nll + header.rows)};
    return STATUS_OK;
}
