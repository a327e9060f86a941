// How much memory open documents hold: their open chunk and little more, however it came, and an
// exact count of what waits to leave.

#include "ops/backend.h"
#include "pipeline/documents.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// Tokens of a buffer for a whole chunk and the one after it: an eighth more, in sixteens.
#define ROOM_MOST ((CHUNK_TOKENS + 1) * 9 / 8 + 16)

struct counting_sink {
    struct sink base;
    int64_t scores, pieces;
};

static enum status count_piece(struct sink *base, const struct document_piece *piece) {
    (void)piece;
    ((struct counting_sink *)base)->pieces++;
    return STATUS_OK;
}

static enum status count_score(struct sink *base, const struct document_score *score) {
    (void)score;
    ((struct counting_sink *)base)->scores++;
    return STATUS_OK;
}

static const struct sink_table counting_table = {
    .name = "counting", .piece = count_piece, .score = count_score};

static void accept(struct documents *d, const char *id, int64_t first, int64_t tokens, bool last) {
    struct record *record = NULL;
    assert_int_equal(record_make(RECORD_TOKENS, id, strlen(id), "", 0, tokens, &record), STATUS_OK);
    for (int64_t i = 0; i < tokens; i++) {
        record_tokens(record)[i] = (int32_t)((first + i) % 251);
    }
    record->first = first;
    record->last = last;
    assert_int_equal(documents_accept(d, record), STATUS_OK);
    record_free(record);
}

// Everything that is ready goes into plans of `most` tokens and comes back.
static void run_ready(struct documents *d, int64_t most) {
    static const float nll[16 * CHUNK_TOKENS];
    int32_t token[16 * CHUNK_TOKENS];
    assert_true(most <= 16 * CHUNK_TOKENS);
    while (documents_ready_at(d, 0) != NULL) {
        struct document *doc = documents_ready_at(d, 0);
        int32_t lookahead = 0;
        bool closes = false;
        const int64_t ready = document_ready(doc, &closes);
        const int64_t count = ready < most ? ready : most;
        const int64_t first = doc->planned;
        documents_take(d, doc, count, token, &lookahead);
        for (int64_t i = 0; i < count; i++) {
            assert_int_equal(token[i], (first + i) % 251);
        }
        documents_requeue(d, &doc, 1);
        assert_int_equal(documents_answer(d, doc, first, nll, count), STATUS_OK);
    }
}

// Records of one size after another, each run as far as it goes.
static void an_open_document_holds_its_open_chunk(void **state) {
    const int64_t sizes[] = {1, 7, 60, 500, 1000, 1024, 1025, 3000, 9000};
    struct documents d;
    const struct documents_settings settings = {.vocab_size = 256, .bos = -1};
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const char id[] = {(char)('a' + s), '\0'};
        int64_t known = 0;
        for (; known < 20000; known += sizes[s]) {
            accept(&d, id, known, sizes[s], false);
            run_ready(&d, s % 2 == 0 ? CHUNK_TOKENS : 4 * CHUNK_TOKENS);
            const struct document *doc = d.partitions[0].last;
            assert_int_equal(doc->known, known + sizes[s]);
            assert_in_range(doc->known - doc->planned, 1, CHUNK_TOKENS);
            assert_in_range(doc->token_room, 1, ROOM_MOST);
        }
        accept(&d, id, known, 0, true);
        run_ready(&d, CHUNK_TOKENS);
        assert_null(d.partitions[0].last->token); // nothing of it waits any more
    }
    documents_close(&d);
}

// A long document whose tokens come faster than they go holds those that wait, and a quarter more.
static void a_long_document_holds_what_waits(void **state) {
    struct documents d;
    const struct documents_settings settings = {.vocab_size = 256, .bos = -1};
    int32_t token[CHUNK_TOKENS];
    static const float nll[CHUNK_TOKENS];
    int64_t known = 0;
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    while (known < 4000000) {
        for (; d.ready_tokens < 60000; known += 5000) {
            accept(&d, "long", known, 5000, false);
        }
        struct document *doc = documents_ready_at(&d, 0);
        int32_t lookahead = 0;
        const int64_t first = doc->planned;
        documents_take(&d, doc, CHUNK_TOKENS, token, &lookahead);
        assert_int_equal(token[0], first % 251);
        documents_requeue(&d, &doc, 1);
        assert_int_equal(documents_answer(&d, doc, first, nll, CHUNK_TOKENS), STATUS_OK);
        assert_in_range(doc->token_room, 1, (60000 + 5000 + CHUNK_TOKENS) * 5 / 4);
    }
    documents_close(&d);
}

// Documents in every state: what they hold is counted in and, when they have left, out again.
static void what_is_held_is_counted(void **state) {
    struct documents d;
    struct counting_sink sink = {.base = {.table = &counting_table}};
    const struct documents_settings settings = {
        .vocab_size = 256,
        .bos = -1,
        .ordered = true,
        .tally = {.score_every = 50, .token_nll = true}
    };
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    accept(&d, "first", 0, 100, false);
    accept(&d, "waits", 0, 5000, true);
    accept(&d, "gap", 0, 2000, false);
    const int64_t known = d.held_bytes;
    assert_in_range(known, 3 * (int64_t)sizeof(struct document), INT32_MAX);
    run_ready(&d, CHUNK_TOKENS);
    assert_in_range(d.held_bytes, known + 6023 * (int64_t)sizeof(float), INT32_MAX);
    accept(&d, "gap", 3000, 1, false); // dead: its arrays are gone, it is not
    assert_in_range(d.held_bytes, known + 4999 * (int64_t)sizeof(float), INT32_MAX);
    assert_int_equal(documents_emit(&d, &sink.base), STATUS_OK);
    assert_int_equal(sink.scores, 0);
    accept(&d, "first", 100, 0, true);
    accept(&d, "gap", 3001, 0, true);
    run_ready(&d, CHUNK_TOKENS);
    assert_int_equal(documents_emit(&d, &sink.base), STATUS_OK);
    assert_int_equal(sink.scores, 2);
    assert_int_equal(d.entries, 0);
    assert_int_equal(d.held_bytes, 0);
    documents_close(&d);
}

int main(void) {
    log_setup(LOG_ERROR, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_open_document_holds_its_open_chunk),
        cmocka_unit_test(a_long_document_holds_what_waits),
        cmocka_unit_test(what_is_held_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
