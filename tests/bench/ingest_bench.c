// ingest_bench [million tokens [repeats]]: how many tokens one core takes in a second, on the reader's
// side (source, decoding, the queue's near end) and on the leader's (the queue's far end, documents,
// and out of them again as a plan does). Each thread is measured by its own processor time, so that a
// busy machine disturbs little; medians of the repeats.

#include "ops/backend.h"
#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "pipeline/codec.h"
#include "pipeline/documents.h"
#include "pipeline/file_source.h"
#include "pipeline/reader.h"
#include "tests/bench/samples.h"

#include <string.h>
#include <unistd.h>

enum { DOCUMENTS = 64, VOCABULARY = 50288, STEP_TOKENS = 1 << 18, SERVED_MOST = 4096 };

static double thread_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

// Messages as they lie in a topic, again and again, each as the next record of its document.
struct topic {
    struct source base;
    struct codec_bytes message[DOCUMENTS];
    char key[DOCUMENTS][24];
    int64_t first[DOCUMENTS];
    int64_t given, most; // tokens
    int64_t records;
};

static enum status topic_next(struct source *base, int32_t timeout_ms, struct record **record) {
    struct topic *topic = (struct topic *)base;
    const int64_t i = topic->records % DOCUMENTS;
    const struct codec_bytes *message = &topic->message[i];
    (void)timeout_ms;
    if (topic->given >= topic->most) return STATUS_END;
    TRY(codec_decode_record(message->data, message->bytes, topic->key[i], strlen(topic->key[i]),
                            record));
    CHECK((*record)->kind == RECORD_TOKENS);
    (*record)->first = topic->first[i];
    (*record)->offset = topic->records++;
    topic->first[i] += (*record)->tokens;
    topic->given += (*record)->tokens;
    return STATUS_OK;
}

static const struct source_table topic_table = {.name = "topic", .next = topic_next};

static void topic_open(struct topic *topic, int64_t tokens, int32_t width, int64_t most) {
    *topic = (struct topic){.base = {&topic_table}, .most = most};
    for (int32_t i = 0; i < DOCUMENTS; i++) {
        struct record *record = NULL;
        snprintf(topic->key[i], sizeof topic->key[i], "document-%d", i);
        if (record_make(RECORD_TOKENS, topic->key[i], strlen(topic->key[i]), "", 0, tokens,
                        &record) != STATUS_OK) {
            abort();
        }
        for (int64_t t = 0; t < tokens; t++) {
            record_tokens(record)[t] = (int32_t)((t * 7919 + i) % VOCABULARY);
        }
        if (codec_encode_record(record, width, &topic->message[i]) != STATUS_OK) abort();
        record_free(record);
    }
}

static void topic_close(struct topic *topic) {
    for (int32_t i = 0; i < DOCUMENTS; i++) {
        codec_bytes_free(&topic->message[i]);
    }
}

// A source whose thread's time is taken from its first call to its end.
struct clocked {
    struct source base;
    struct source *source;
    double began, seconds;
};

static enum status clocked_next(struct source *base, int32_t timeout_ms, struct record **record) {
    struct clocked *clocked = (struct clocked *)base;
    if (clocked->began == 0) clocked->began = thread_seconds();
    const enum status status = clocked->source->table->next(clocked->source, timeout_ms, record);
    if (status == STATUS_END) clocked->seconds = thread_seconds() - clocked->began;
    return status;
}

static const struct source_table clocked_table = {.name = "clocked", .next = clocked_next};

static enum status null_score(struct sink *sink, const struct document_score *score) {
    (void)sink;
    (void)score;
    return STATUS_OK;
}

static enum status null_finish(struct sink *sink, int32_t partition) {
    (void)sink;
    (void)partition;
    return STATUS_OK;
}

static const struct sink_table null_table = {
    .name = "null", .score = null_score, .finish = null_finish};

struct taken {
    struct document *document;
    int64_t first, count;
};

// What is ready goes into a plan of any size. Returns the documents served.
static size_t take_all(struct documents *d, struct taken *taken, struct document **served,
                       int32_t *token) {
    size_t count = 0;
    for (; count < SERVED_MOST && documents_ready_at(d, (int64_t)count) != NULL; count++) {
        struct document *doc = documents_ready_at(d, (int64_t)count);
        bool closes = false;
        int32_t lookahead = 0;
        taken[count] = (struct taken){doc, doc->planned, document_ready(doc, &closes)};
        if (taken[count].count > STEP_TOKENS) taken[count].count = STEP_TOKENS;
        documents_take(d, doc, taken[count].count, token, &lookahead);
        served[count] = doc;
    }
    documents_requeue(d, served, count);
    return count;
}

// Not ingest, and so not timed: what was taken comes back, and what has ended leaves.
static double answer_all(struct documents *d, const struct taken *taken, size_t count) {
    static const float nll[STEP_TOKENS];
    struct sink sink = {&null_table};
    const double began = thread_seconds();
    for (size_t i = 0; i < count; i++) {
        if (documents_answer(d, taken[i].document, taken[i].first, nll, taken[i].count) !=
            STATUS_OK) {
            abort();
        }
    }
    if (documents_emit(d, &sink) != STATUS_OK) abort();
    return thread_seconds() - began;
}

// The leader's seconds.
static double lead(struct source *source, bool ordered, int64_t *tokens) {
    static struct taken taken[SERVED_MOST];
    static struct document *served[SERVED_MOST];
    static int32_t token[STEP_TOKENS];
    const struct reader_settings queue = {.tokens_most = 8 * STEP_TOKENS, .records_most = 4096};
    const struct documents_settings settings = {
        .vocab_size = VOCABULARY, .bos = -1, .ordered = ordered};
    struct documents d;
    struct reader *reader = NULL;
    double others = 0;
    enum status status = STATUS_OK;
    if (documents_open(&d, &settings) != STATUS_OK) abort();
    if (reader_open(source, &queue, &reader) != STATUS_OK) abort();
    const double began = thread_seconds();
    while (status != STATUS_END) {
        struct record *record = NULL;
        status = reader_next(reader, 1000, &record);
        if (status == STATUS_OK) {
            if (documents_accept(&d, record) != STATUS_OK) abort();
            record_free(record);
        }
        if (d.ready_tokens < STEP_TOKENS && status == STATUS_OK) continue;
        others += answer_all(&d, taken, take_all(&d, taken, served, token));
    }
    const double seconds = thread_seconds() - began - others;
    *tokens = d.counts.rows;
    reader_close(reader);
    documents_close(&d);
    return seconds;
}

struct result {
    struct samples reader, leader;
    double tokens;
};

static void measure(struct source *source, bool ordered, struct result *result) {
    struct clocked clocked = {.base = {&clocked_table}, .source = source};
    int64_t tokens = 0;
    samples_add(&result->leader, lead(&clocked.base, ordered, &tokens));
    samples_add(&result->reader, clocked.seconds);
    result->tokens = (double)tokens;
}

static void print(const char *name, struct result *result) {
    const double reader = samples_quantile(&result->reader, 0.5);
    const double leader = samples_quantile(&result->leader, 0.5);
    printf("%-34s %12.0f %12.1f %12.1f\n", name, result->tokens, result->tokens / reader * 1e-6,
           result->tokens / leader * 1e-6);
}

static void measure_topic(int64_t record_tokens, int32_t width, int64_t most, int64_t repeats) {
    static struct result result;
    static struct topic topic;
    char name[64];
    result = (struct result){0};
    for (int64_t i = 0; i < repeats; i++) {
        topic_open(&topic, record_tokens, width, most);
        measure(&topic.base, false, &result);
        topic_close(&topic);
    }
    snprintf(name, sizeof name, "topic, %d bytes, records of %lld", width,
             (long long)record_tokens);
    print(name, &result);
}

static void write_jsonl(FILE *file, int64_t bytes) {
    static const char words[] = "The state at a span's end is handed to the next rank, layer by "
                                "layer; \\\"nothing\\\" is padded.\\n";
    for (int64_t line = 0; bytes > 0; line++) {
        const int64_t repeats = 1 + line * 7919 % 200; // 100 bytes to 20 thousand
        fprintf(file, "{\"id\":\"line-%lld\",\"text\":\"", (long long)line);
        for (int64_t i = 0; i < repeats; i++) {
            fputs(words, file);
        }
        fputs("\"}\n", file);
        bytes -= repeats * (int64_t)sizeof words;
    }
}

static void write_u16(FILE *file, int64_t tokens) {
    for (int64_t i = 0; i < tokens; i++) {
        const uint16_t token = (uint16_t)(i * 7919 % VOCABULARY);
        if (fwrite(&token, sizeof token, 1, file) != 1) abort();
    }
}

static void measure_file(const char *name, enum file_format format,
                         void (*write)(FILE *file, int64_t most), int64_t most, int64_t repeats) {
    static struct result result;
    char path[] = "/tmp/ingest_bench-XXXXXX";
    const int fd = mkstemp(path);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    struct inputs inputs = {0};
    struct tokenizer *tokenizer = NULL;
    if (file == NULL) abort();
    write(file, most);
    if (fclose(file) != 0 || byte_tokenizer_open(&tokenizer) != STATUS_OK) abort();
    result = (struct result){0};
    const struct file_source_settings settings = {
        .shard = {.format = format, .tokenizer = tokenizer, .max_line = 1 << 26}
    };
    for (int64_t i = 0; i < repeats; i++) {
        struct source *source = NULL;
        if (inputs_expand(path, &inputs) != STATUS_OK) abort();
        if (file_source_open(&inputs, &settings, &source) != STATUS_OK) abort();
        measure(source, true, &result);
        if (source->table->close(source) != STATUS_OK) abort();
        inputs_free(&inputs);
    }
    tokenizer->close(tokenizer);
    (void)unlink(path);
    print(name, &result);
}

int main(int count, char **arguments) {
    const int64_t tokens = (count > 1 ? strtoll(arguments[1], NULL, 10) : 100) * 1000000;
    const int64_t repeats = count > 2 ? strtoll(arguments[2], NULL, 10) : 7;
    if (tokens < 1000000 || repeats < 1 || repeats > 1000) {
        fprintf(stderr, "usage: ingest_bench [million tokens [repeats]]\n");
        return 2;
    }
    printf("%-34s %12s %12s %12s\n", "million tokens/s of one core", "tokens", "reader", "leader");
    measure_topic(65536, 2, tokens, repeats);
    measure_topic(65536, 4, tokens, repeats);
    measure_topic(1024, 2, tokens, repeats);
    measure_topic(1024, 4, tokens, repeats);
    measure_file("file of u16", FILE_U16, write_u16, tokens, repeats);
    measure_file("file of JSONL text, byte tokenizer", FILE_JSONL, write_jsonl, tokens, repeats);
    return 0;
}
