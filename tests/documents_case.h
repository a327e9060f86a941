#pragma once
// What the tests of the leader's documents share: a sink that keeps what it is given, records, and a
// leader without ranks that plans and answers. A position's NLL is the same wherever a plan cuts.

#include "ops/backend.h"
#include "pipeline/documents.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

struct kept { // what the sink was given, in order
    char id[32];
    int64_t tokens, scored, pieces, windows;
    bool truncated;
    double nll;
    int64_t token_nlls;
};

struct test_sink {
    struct sink base;
    struct kept kept[4096];
    int64_t count, pieces, finished;
    int64_t piece_nlls, piece_windows;
    int64_t retractions;
    struct retraction retracted; // the last one, its id borrowed no more
    int64_t next_nll;            // position the next piece has to start at
};

static inline enum status keep_piece(struct sink *base, const struct document_piece *piece) {
    struct test_sink *sink = (struct test_sink *)base;
    if (piece->token_nll_count > 0) {
        assert_int_equal(piece->token_nll_first, sink->next_nll);
        sink->next_nll += piece->token_nll_count;
    }
    sink->pieces++;
    sink->piece_nlls += piece->token_nll_count;
    sink->piece_windows += piece->window_count;
    return STATUS_OK;
}

static inline enum status keep_score(struct sink *base, const struct document_score *score) {
    struct test_sink *sink = (struct test_sink *)base;
    struct kept *kept = &sink->kept[sink->count++];
    memcpy(kept->id, score->id, score->id_bytes);
    kept->tokens = score->tokens;
    kept->scored = score->scored;
    kept->nll = score->nll;
    kept->token_nlls = score->token_nll_count;
    kept->windows = score->window_count;
    kept->truncated = score->truncated;
    return STATUS_OK;
}

static inline enum status keep_finish(struct sink *base, int32_t partition) {
    (void)partition;
    ((struct test_sink *)base)->finished++;
    return STATUS_OK;
}

static inline enum status keep_retraction(struct sink *base, const struct retraction *retraction) {
    struct test_sink *sink = (struct test_sink *)base;
    sink->retractions++;
    sink->retracted = *retraction;
    sink->next_nll = 1; // what comes is another text
    return STATUS_OK;
}

static const struct sink_table sink_table = {.name = "test",
                                             .piece = keep_piece,
                                             .score = keep_score,
                                             .retract = keep_retraction,
                                             .finish = keep_finish};

static inline struct test_sink *sink_open(void) {
    struct test_sink *sink = calloc(1, sizeof *sink);
    assert_non_null(sink);
    sink->base.table = &sink_table;
    sink->next_nll = 1;
    return sink;
}

static inline struct record *record_of(const char *id, int64_t first, int64_t tokens, bool last) {
    struct record *record = NULL;
    assert_int_equal(record_make(RECORD_TOKENS, id, strlen(id), "", 0, tokens, &record), STATUS_OK);
    for (int64_t i = 0; i < tokens; i++) {
        record_tokens(record)[i] = (int32_t)((first + i) % 251);
    }
    record->first = first;
    record->last = last;
    record->text_bytes = tokens;
    return record;
}

static inline void accept(struct documents *d, const char *id, int64_t first, int64_t tokens,
                          bool last) {
    struct record *record = record_of(id, first, tokens, last);
    assert_int_equal(documents_accept(d, record), STATUS_OK);
    record_free(record);
}

// The NLL of a position, the same wherever the plan cuts.
static inline float nll_at(int64_t position) {
    return 0.25f + (float)(position % 97) / 64.0f;
}

static inline double nll_sum(int64_t tokens) {
    double sum = 0;
    for (int64_t p = 1; p < tokens; p++) {
        sum += (double)nll_at(p);
    }
    return sum;
}

// Plan and answer everything that is ready, `most` tokens a turn.
static inline void run_ready(struct documents *d, struct sink *sink, int64_t most) {
    static int32_t token[1 << 20];
    static float nll[1 << 20];
    while (documents_ready_at(d, 0) != NULL) {
        struct document *doc = documents_ready_at(d, 0);
        bool closes = false;
        int32_t lookahead = 0;
        int64_t count = document_ready(doc, &closes);
        if (count > most) count = most / CHUNK_TOKENS * CHUNK_TOKENS;
        const int64_t first = doc->planned;
        documents_take(d, doc, count, token, &lookahead);
        documents_requeue(d, &doc, 1);
        for (int64_t i = 0; i < count; i++) {
            assert_int_equal(token[i], (first + i) % 251);
            nll[i] = nll_at(first + i + 1);
        }
        if (lookahead >= 0) assert_int_equal(lookahead, (first + count) % 251);
        assert_int_equal(documents_answer(d, doc, first, nll, count), STATUS_OK);
        assert_int_equal(documents_emit(d, sink), STATUS_OK);
    }
    assert_int_equal(documents_emit(d, sink), STATUS_OK);
    assert_int_equal(d->ready_tokens, 0);
}

static inline struct documents_settings plain(bool ordered) {
    return (struct documents_settings){.vocab_size = 256, .bos = -1, .ordered = ordered};
}
