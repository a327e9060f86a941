// The whole program with made-up tokens: a source that draws them, a sink that counts, between them
// the pipeline of `score`, leader, plan, ranks and hand-over.

#include "src/bench.h"

#include <stdio.h>

#define RECORD_TOKENS_EACH (64 * 1024)
#define QUEUE_STEPS        8

struct drawn_source {
    struct source base; // first, so that &drawn->base is the handle
    uint64_t random;
    int32_t vocab;
    bool documents; // many short ones; otherwise one
    int64_t left;   // tokens of all that is to come
    int64_t length, given;
    int64_t records;
    uint64_t serial;
    bool ended;
};

struct counting_sink {
    struct sink base; // first
    int64_t count;
};

static struct drawn_source *drawn_of(struct source *source) {
    return (struct drawn_source *)(void *)source;
}

static enum status draw_end(struct drawn_source *drawn, struct record **record) {
    if (drawn->ended) return STATUS_END;
    TRY(record_make(RECORD_PARTITION_END, "", 0, "", 0, 0, record));
    (*record)->offset = drawn->records;
    drawn->ended = true;
    return STATUS_OK;
}

static void next_document(struct drawn_source *drawn) {
    const int64_t length = drawn->documents ? bench_draw_length(&drawn->random) : drawn->left;
    drawn->length = length < drawn->left ? length : drawn->left;
    drawn->given = 0;
    drawn->serial++;
}

static enum status drawn_next(struct source *source, int32_t timeout_ms, struct record **record) {
    struct drawn_source *drawn = drawn_of(source);
    char id[32];
    (void)timeout_ms;
    if (drawn->given == drawn->length) {
        if (drawn->left == 0) return draw_end(drawn, record);
        next_document(drawn);
    }
    const int64_t rest = drawn->length - drawn->given;
    const int64_t count = rest < RECORD_TOKENS_EACH ? rest : RECORD_TOKENS_EACH;
    const int bytes = snprintf(id, sizeof id, "%llu", (unsigned long long)drawn->serial);
    TRY(record_make(RECORD_TOKENS, id, (size_t)bytes, "", 0, count, record));
    int32_t *token = record_tokens(*record);
    for (int64_t i = 0; i < count; i++) {
        token[i] = (int32_t)(bench_draw(&drawn->random) % (uint64_t)drawn->vocab);
    }
    (*record)->serial = drawn->serial;
    (*record)->first = drawn->given;
    (*record)->offset = drawn->records++;
    drawn->given += count;
    drawn->left -= count;
    (*record)->last = drawn->given == drawn->length;
    return STATUS_OK;
}

static const char *drawn_origin(struct source *source, int32_t partition) {
    (void)source;
    (void)partition;
    return "drawn tokens";
}

static void drawn_progress(struct source *source, struct source_progress *progress) {
    *progress = (struct source_progress){
        .done = drawn_of(source)->records, .total = -1, .unit = "records", .lag = -1};
}

static enum status drawn_close(struct source *source) {
    (void)source;
    return STATUS_OK;
}

static const struct source_table drawn_table = {
    .name = "drawn",
    .next = drawn_next,
    .origin = drawn_origin,
    .progress = drawn_progress,
    .close = drawn_close,
};

static enum status count_one(struct sink *sink) {
    ((struct counting_sink *)(void *)sink)->count++;
    return STATUS_OK;
}

static enum status count_piece(struct sink *sink, const struct document_piece *piece) {
    (void)piece;
    return count_one(sink);
}

static enum status count_score(struct sink *sink, const struct document_score *score) {
    (void)score;
    return count_one(sink);
}

static enum status count_retraction(struct sink *sink, const struct retraction *retraction) {
    (void)retraction;
    return count_one(sink);
}

static enum status count_finish(struct sink *sink, int32_t partition) {
    (void)partition;
    return count_one(sink);
}

static enum status count_confirmed(struct sink *sink, int64_t *count) {
    *count = ((struct counting_sink *)(void *)sink)->count;
    return STATUS_OK;
}

static enum status count_close(struct sink *sink, bool complete) {
    (void)sink;
    (void)complete;
    return STATUS_OK;
}

static const struct sink_table counting_table = {
    .name = "counting",
    .piece = count_piece,
    .score = count_score,
    .retract = count_retraction,
    .finish = count_finish,
    .confirmed = count_confirmed,
    .close = count_close,
};

static double each(int64_t ns, int64_t count) {
    return count > 0 ? (double)ns * 1e-9 / (double)count : 0;
}

enum status bench_measure_job(const struct bench *bench, struct link *link, bool documents,
                              int64_t tokens, struct bench_job *job) {
    const struct settings *settings = bench->settings;
    struct drawn_source source = {.base = {&drawn_table},
                                  .random = (uint64_t)settings->seed,
                                  .vocab = model_info(bench->model)->vocab_size,
                                  .documents = documents,
                                  .left = tokens};
    struct counting_sink sink = {.base = {&counting_table}};
    const bool leads = link->rank == 0;
    const struct pipeline_rank rank = {.group = link,
                                       .backend = bench->backend,
                                       .model = bench->model,
                                       .source = leads ? &source.base : NULL,
                                       .sink = leads ? &sink.base : NULL};
    const struct pipeline_settings pipeline = {
        .step_tokens = bench->step_tokens,
        .move_tokens = CHUNK_TOKENS / 8,
        .queue_tokens = QUEUE_STEPS * bench->step_tokens * link->ranks,
        .commit_interval_ms = 1000,
        .mark = "bench",
        .peer_timeout_ms = (int32_t)settings->peer_timeout_ms,
        .transport = link->ranks > 1 ? score_transport(settings) : TRANSPORT_HOST,
        .documents = {.bos = -1, .ordered = true},
        .stop = stop_requested,
    };
    struct pipeline_counts counts;
    int exit_code = 0;
    TRY(pipeline_run(&pipeline, &rank, &counts, &exit_code));
    const struct leader_counts *leader = &counts.leader;
    const struct worker_counts *worker = &counts.worker;
    *job = (struct bench_job){.ranks = link->ranks,
                              .documents = leader->documents.documents,
                              .tokens = leader->documents.rows,
                              .steps = leader->steps,
                              .seconds = (double)leader->run_ns * 1e-9,
                              .ingest = each(leader->ingest_ns, leader->steps),
                              .plan = each(leader->plan_ns, leader->steps),
                              .emit = each(leader->emit_ns, leader->steps),
                              .commit = each(leader->commit_ns, leader->steps),
                              .compute = each(worker->compute_ns, worker->steps),
                              .wait = each(worker->wait_ns, worker->steps)};
    return STATUS_OK;
}
