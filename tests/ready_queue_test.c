// The ready queue against a plain list: thousands of documents that come, are served from anywhere
// near the front, go behind those that wait, end, and are found bad.

#include "tests/documents_case.h"

enum { DOCUMENTS = 3000, TURNS = 400, SERVED_MOST = 600 };

static uint64_t random_state = 5;

static int64_t below(int64_t end) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int64_t)((random_state >> 33) % (uint64_t)end);
}

static struct document *queue[DOCUMENTS];
static int64_t queued;

static void add(struct document *doc) {
    bool closes = false;
    if (document_ready(doc, &closes) > 0) queue[queued++] = doc;
}

static void leave(int64_t at) {
    memmove(queue + at, queue + at + 1, (size_t)(--queued - at) * sizeof(struct document *));
}

static void assert_same(const struct documents *d) {
    assert_int_equal(d->ready_documents, queued);
    for (int64_t i = 0; i < queued; i++) {
        assert_ptr_equal(documents_ready_at(d, i), queue[i]);
        assert_true(queue[i]->queued);
    }
    assert_null(documents_ready_at(d, queued));
}

static void come(struct documents *d, int64_t *ids) {
    char id[24];
    const int64_t tokens = 1 + below(4 * CHUNK_TOKENS);
    snprintf(id, sizeof id, "%lld", (long long)(*ids)++);
    accept(d, id, 0, tokens, below(4) > 0);
    add(d->partitions[0].last);
}

static void serve(struct documents *d, struct test_sink *sink) {
    static struct document *served[SERVED_MOST];
    static int32_t token[CHUNK_TOKENS];
    static float nll[CHUNK_TOKENS];
    int64_t first[SERVED_MOST], tokens[SERVED_MOST];
    int64_t count = 0;
    const int64_t skips = below(5); // of ten
    const int64_t most = 1 + below(SERVED_MOST);
    for (int64_t at = 0; at < queued && count < most;) {
        struct document *doc = queue[at];
        bool closes = false;
        int32_t lookahead = 0;
        if (below(10) < skips) {
            at++;
            continue;
        }
        const int64_t ready = document_ready(doc, &closes);
        tokens[count] = ready < CHUNK_TOKENS ? ready : CHUNK_TOKENS;
        first[count] = doc->planned;
        documents_take(d, doc, tokens[count], token, &lookahead);
        served[count++] = doc;
        leave(at);
    }
    for (int64_t i = 0; i < count; i++) {
        add(served[i]);
    }
    documents_requeue(d, served, (size_t)count);
    assert_same(d);
    for (int64_t i = 0; i < count; i++) {
        assert_int_equal(documents_answer(d, served[i], first[i], nll, tokens[i]), STATUS_OK);
    }
    assert_int_equal(documents_emit(d, &sink->base), STATUS_OK);
    sink->count = 0;
}

// A hole in the middle of one that waits and is open.
static void find_one_bad(struct documents *d) {
    for (int64_t at = queued == 0 ? 0 : below(queued); at < queued; at++) {
        const struct document *doc = queue[at];
        char id[24];
        if (doc->closed) continue;
        snprintf(id, sizeof id, "%.*s", (int)doc->id_bytes, doc->id);
        const int64_t known = doc->known;
        leave(at);
        accept(d, id, known + 5, 10, true);
        return;
    }
}

static void documents_stand_in_the_order_of_their_turns(void **state) {
    const struct documents_settings settings = {.vocab_size = 256, .bos = -1};
    struct documents d;
    struct test_sink *sink = sink_open();
    int64_t ids = 0;
    bool was_large = false;
    (void)state;
    assert_int_equal(documents_open(&d, &settings), STATUS_OK);
    for (int turn = 0; turn < TURNS; turn++) {
        for (int64_t i = below(turn < TURNS / 2 ? 30 : 12); i > 0 && queued < DOCUMENTS; i--) {
            come(&d, &ids);
        }
        assert_same(&d);
        if (below(3) == 0) find_one_bad(&d);
        assert_same(&d);
        was_large = was_large || queued > 1100;
        if (turn > TURNS / 2 || below(20) == 0) serve(&d, sink);
        assert_same(&d);
    }
    assert_true(was_large && ids > 2000); // around the ring, and beyond its first room
    documents_close(&d);
    free(sink);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_stand_in_the_order_of_their_turns),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
