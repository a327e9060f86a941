// leader_bench [steps [workload]]: the leader's time in a step, part by part, without ranks: its own functions on
// its own thread, and in place of the communication thread a box that takes the step messages and
// gives an answer of the right size to each. Microseconds; the least, the median and the 99th
// percentile of the steps, and the median over the spans and tokens of a step. All workloads but for
// the one named.

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "pipeline/leader_inner.h"
#include "tests/bench/comm_box.h"
#include "tests/bench/samples.h"

#include <math.h>
#include <string.h>

enum { TEXT_TOKENS = 1 << 24, VOCABULARY = 50288, LONG_RECORD = 65536 };
enum { LONGS_MOST = 64, OPEN_MOST = 10000 };

static enum status null_score(struct sink *sink, const struct document_score *score) {
    (void)sink;
    (void)score;
    return STATUS_OK;
}

static enum status null_piece(struct sink *sink, const struct document_piece *piece) {
    (void)sink;
    (void)piece;
    return STATUS_OK;
}

static const struct sink_table null_table = {
    .name = "null", .score = null_score, .piece = null_piece};

enum part { PLAN, SEND, LAND, EMIT, PARTS };

struct bench {
    struct leader leader;
    struct leader_settings settings;
    struct leader_counts counts;
    struct comm comm;
    struct sink sink;
    uint64_t random;
    int32_t *text; // [TEXT_TOKENS] that documents are made of
    int64_t text_at, ids;
    int64_t open_first[OPEN_MOST];           // what the document has been given
    int64_t long_first[LONGS_MOST], long_id; // likewise
    struct samples time[PARTS];
    double spans, tokens, fed_us, fed_tokens;
};

struct workload {
    const char *name, *what;
    int64_t step_tokens; // of a rank
    int64_t slots;
    void (*feed)(struct bench *bench);
};

static uint64_t draw(struct bench *b) {
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return b->random;
}

static double unit(struct bench *b) {
    return (double)(draw(b) >> 11) / 9007199254740992.0;
}

static int64_t log_uniform(struct bench *b, double low, double high) {
    return (int64_t)(low * exp(unit(b) * log(high / low)));
}

static void accept(struct bench *b, const char *kind, int64_t id, int64_t first, int64_t tokens,
                   bool last) {
    char name[40];
    if (b->text_at + tokens > TEXT_TOKENS) b->text_at = 0;
    const struct record record = {
        .kind = RECORD_TOKENS,
        .first = first,
        .tokens = tokens,
        .last = last,
        .text_bytes = -1,
        .id = name,
        .id_bytes = (size_t)snprintf(name, sizeof name, "%s-%lld", kind, (long long)id),
        .attributes = "",
        .token = b->text + b->text_at};
    b->text_at += tokens;
    if (documents_accept(&b->leader.documents, &record) != STATUS_OK) abort();
}

// All of a step: whole documents.
static void feed_short(struct bench *b) {
    for (int i = 0; i < 10000; i++) {
        accept(b, "short", b->ids++, 0, log_uniform(b, 50, 4000), true);
    }
}

// Streams that stay open: each gets a chunk more.
static void feed_open(struct bench *b) {
    for (int64_t i = 0; i < OPEN_MOST; i++) {
        const int64_t tokens = b->open_first[i] == 0 ? CHUNK_TOKENS + 1 : CHUNK_TOKENS;
        accept(b, "open", i, b->open_first[i], tokens, false);
        b->open_first[i] += tokens;
    }
}

static double since(int64_t *begin_ns) {
    const int64_t now = clock_ns();
    const double us = (double)(now - *begin_ns) * 1e-3;
    *begin_ns = now;
    return us;
}

static void step(struct bench *bench, bool counts);

// The ends of documents whose first chunks have run: ten tokens each, and a slot.
static void feed_ends(struct bench *b) {
    struct steps *steps = &b->leader.steps;
    const struct plan_settings narrow = steps->settings;
    const int64_t slots = steps->slots;
    const int64_t ids = b->ids;
    if (b->leader.documents.ready_documents > 0) return;
    for (; b->ids < ids + 10000; b->ids++) {
        accept(b, "ends", b->ids, 0, CHUNK_TOKENS + 1, false);
    }
    steps->settings.step_tokens = 160 * CHUNK_TOKENS;
    steps->slots = 4 * 160 + 8;
    step(b, false);
    steps->settings = narrow;
    steps->slots = slots;
    for (int64_t id = ids; id < b->ids; id++) {
        accept(b, "ends", id, CHUNK_TOKENS + 1, 9, true);
    }
}

static void feed_long(struct bench *b, int longs) {
    for (int i = 0; i < longs; i++) {
        const int64_t left = 10000000 - b->long_first[i];
        const int64_t tokens = left < LONG_RECORD ? left : LONG_RECORD;
        accept(b, "long", b->long_id + i, b->long_first[i], tokens, tokens == left);
        b->long_first[i] = tokens == left ? 0 : b->long_first[i] + tokens;
        if (tokens == left) b->long_id += LONGS_MOST;
    }
}

static void feed_one_long(struct bench *b) {
    const struct documents *d = &b->leader.documents;
    while (d->ready_tokens < 8 * RANKS * b->settings.plan.step_tokens) {
        feed_long(b, 1);
        for (int i = 0; i < 100; i++) {
            accept(b, "short", b->ids++, 0, log_uniform(b, 50, 4000), true);
        }
    }
}

static void feed_many_longs(struct bench *b) {
    const struct documents *d = &b->leader.documents;
    while (d->ready_tokens < 8 * RANKS * b->settings.plan.step_tokens) {
        feed_long(b, LONGS_MOST);
        for (int i = 0; i < 1000; i++) {
            accept(b, "short", b->ids++, 0, log_uniform(b, 50, 4000), true);
        }
    }
}

static const struct workload workloads[] = {
    {"short",     "10,000 documents of 50 to 4,000 tokens in each step",                160, 0, feed_short     },
    {"open",      "10,000 open documents, one chunk of each in each step",              160, 0, feed_open      },
    {"one-long",  "one document of 10m tokens among short ones, 4,096 tokens a rank",   4,   0,
     feed_one_long                                                                                             },
    {"many-long", "64 documents of 10m tokens among short ones",                        4,   0, feed_many_longs},
    {"few-slots", "10,000 documents waiting whose ends want more slots than there are", 4,   0,
     feed_ends                                                                                                 },
};

// What has been fed is planned, sent, answered and handed out.
static void step(struct bench *b, bool counts) {
    struct leader *l = &b->leader;
    double us[PARTS] = {0};
    bool busy = false;
    b->comm.count = b->comm.given = 0;
    int64_t at = clock_ns();
    if (steps_plan(&l->steps) != STATUS_OK) abort();
    us[PLAN] = since(&at);
    if (steps_send(&l->steps) != STATUS_OK) abort();
    us[SEND] = since(&at);
    answer(&b->comm);
    (void)since(&at);
    if (steps_take_answers(&l->steps, 0, &busy) != STATUS_OK) abort();
    us[LAND] = since(&at);
    if (documents_emit(&l->documents, &b->sink) != STATUS_OK) abort();
    us[EMIT] = since(&at);
    CHECK(l->steps.landed == l->steps.sent);
    for (int part = 0; counts && part < PARTS; part++) {
        samples_add(&b->time[part], us[part]);
    }
    if (!counts) return;
    b->spans += (double)l->steps.plan.span_count;
    b->tokens += (double)l->steps.plan.tokens;
}

// With the time to take in what it runs on; many steps may run on what one takes in.
static void turn(struct bench *b, const struct workload *load, bool counts) {
    const int64_t before = b->leader.documents.ready_tokens;
    int64_t at = clock_ns();
    load->feed(b);
    const double us = since(&at);
    if (counts) {
        b->fed_us += us;
        b->fed_tokens += (double)(b->leader.documents.ready_tokens - before);
    }
    step(b, counts);
}

static void open_bench(struct bench *b, const struct workload *load) {
    struct leader *l = &b->leader;
    const int64_t step_tokens = load->step_tokens * CHUNK_TOKENS;
    b->settings = (struct leader_settings){
        .plan = {.ranks = RANKS,
                 .step_tokens = step_tokens,
                 .move_tokens = 128,
                 .spans_most = step_tokens},
        .documents = {.vocab_size = VOCABULARY, .bos = -1},
        .slots = 4 * load->step_tokens + 8,
    };
    b->sink.table = &null_table;
    b->random = UINT64_C(88172645463325252);
    *l = (struct leader){.settings = &b->settings, .comm = &b->comm, .counts = &b->counts};
    if (documents_open(&l->documents, &b->settings.documents) != STATUS_OK) abort();
    if (steps_open(&b->settings.plan, b->settings.slots, &b->comm, &l->documents.work, &l->steps) !=
        STATUS_OK) {
        abort();
    }
}

static void close_bench(struct bench *b) {
    struct leader *l = &b->leader;
    documents_close(&l->documents);
    steps_close(&l->steps);
}

static void print_times(struct bench *b, const struct workload *load, int64_t steps) {
    static const char *const names[PARTS] = {"plan", "send", "land", "emit"};
    const double spans = b->spans / (double)steps;
    const double tokens = b->tokens / (double)steps;
    printf("%s: %s\n  %d ranks; a step has %.0f spans, %.0f tokens; %lld steps\n", load->name,
           load->what, RANKS, spans, tokens, (long long)steps);
    printf("  %-8s %10s %10s %10s %12s %12s\n", "us", "least", "median", "p99", "ns/span",
           "ns/token");
    for (int part = 0; part < PARTS; part++) {
        const double median = samples_quantile(&b->time[part], 0.5);
        printf("  %-8s %10.0f %10.0f %10.0f %12.0f %12.2f\n", names[part],
               samples_quantile(&b->time[part], 0.0), median,
               samples_quantile(&b->time[part], 0.99), 1e3 * median / spans, 1e3 * median / tokens);
    }
    if (load->feed != feed_ends) { // which runs a step of its own
        printf("  %-8s %45s %12.2f\n", "accept", "mean of all", 1e3 * b->fed_us / b->fed_tokens);
    }
}

static void measure(const struct workload *load, int32_t *text, int64_t steps) {
    struct bench *b = calloc(1, sizeof *b);
    if (b == NULL) abort();
    b->text = text;
    open_bench(b, load);
    for (int64_t i = 0; i < 3 + steps; i++) {
        turn(b, load, i >= 3); // the first ones find no memory yet
    }
    print_times(b, load, steps);
    close_bench(b);
    free(b);
}

int main(int count, char **arguments) {
    const int64_t steps = count > 1 ? strtoll(arguments[1], NULL, 10) : 100;
    if (steps < 1 || steps > SAMPLES_MOST) {
        fprintf(stderr, "usage: leader_bench [steps [workload]]; at most %d steps\n", SAMPLES_MOST);
        return 2;
    }
    int32_t *text = malloc(TEXT_TOKENS * sizeof *text);
    if (text == NULL) return 1;
    for (int64_t i = 0; i < TEXT_TOKENS; i++) {
        text[i] = (int32_t)(i * 7919 % VOCABULARY);
    }
    for (size_t i = 0; i < sizeof workloads / sizeof workloads[0]; i++) {
        if (count > 2 && strcmp(arguments[2], workloads[i].name) != 0) continue;
        measure(&workloads[i], text, steps);
    }
    free(text);
    return 0;
}
