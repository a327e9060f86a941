// Results into messages. Arrays that would make a message too large go ahead as pieces: a message
// must fit Kafka's default limits, which are tighter than a file's.

#include "pipeline/kafka_sink.h"

#include "pipeline/codec.h"
#include "pipeline/kafka_producer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A window as JSON has at most 93 bytes and a float 16: both arrays and the rest are under
// KAFKA_MESSAGE_MOST. As protobuf they are a third of that.
#define WINDOWS_MOST   4096
#define TOKEN_NLL_MOST 24576

struct kafka_sink {
    struct sink base;
    struct kafka_producer *producer;
    bool json;
    struct result_ids ids;
    struct bytes text;
    struct codec_bytes packed;
};

static enum status send_value(struct kafka_sink *sink, const char *key, size_t key_bytes,
                              bool ends_unit) {
    const void *value = sink->json ? (const void *)sink->text.data : sink->packed.data;
    const size_t bytes = sink->json ? sink->text.count : sink->packed.bytes;
    return kafka_producer_send(sink->producer, key, key_bytes, value, bytes, KAFKA_DOCUMENT_SCORE,
                               ends_unit);
}

static enum status send_piece(struct kafka_sink *sink, const struct document_piece *piece,
                              bool ends_unit) {
    char key[ID_BYTES_MOST + 32];
    const int64_t first =
        piece->window_count > 0 ? piece->windows[0].first : piece->token_nll_first;
    memcpy(key, piece->id, piece->id_bytes);
    const int tail = snprintf(key + piece->id_bytes, 32, "#%" PRId64, first);
    if (sink->json) {
        sink->text.count = 0;
        TRY(result_json_piece(piece, &sink->text));
    } else {
        TRY(codec_encode_piece(piece, &sink->packed));
    }
    return send_value(sink, key, piece->id_bytes + (size_t)tail, ends_unit);
}

// The arrays in messages of their own, windows and token NLLs side by side as they come.
static enum status send_arrays(struct kafka_sink *sink, const struct document_piece *whole,
                               bool ends_unit) {
    struct document_piece part = *whole;
    int64_t windows = whole->windows == NULL ? 0 : whole->window_count;
    int64_t nlls = whole->token_nll == NULL ? 0 : whole->token_nll_count;
    do {
        part.window_count = windows < WINDOWS_MOST ? windows : WINDOWS_MOST;
        part.token_nll_count = nlls < TOKEN_NLL_MOST ? nlls : TOKEN_NLL_MOST;
        if (part.window_count == 0) part.windows = NULL;
        if (part.token_nll_count == 0) part.token_nll = NULL;
        windows -= part.window_count;
        nlls -= part.token_nll_count;
        TRY(send_piece(sink, &part, ends_unit && windows == 0 && nlls == 0));
        if (part.windows != NULL) part.windows += part.window_count;
        if (part.token_nll != NULL) part.token_nll += part.token_nll_count;
        part.token_nll_first += part.token_nll_count;
    } while (windows > 0 || nlls > 0);
    return STATUS_OK;
}

static enum status sink_piece(struct sink *base, const struct document_piece *piece) {
    return send_arrays((struct kafka_sink *)base, piece, true);
}

static enum status sink_score(struct sink *base, const struct document_score *score) {
    struct kafka_sink *sink = (struct kafka_sink *)base;
    struct document_score sent = *score;
    if ((score->windows != NULL && score->window_count > WINDOWS_MOST) ||
        (score->token_nll != NULL && score->token_nll_count > TOKEN_NLL_MOST)) {
        const struct document_piece arrays = {.partition = score->partition,
                                              .id = score->id,
                                              .id_bytes = score->id_bytes,
                                              .windows = score->windows,
                                              .window_count = score->window_count,
                                              .token_nll_first = score->token_nll_first,
                                              .token_nll = score->token_nll,
                                              .token_nll_count = score->token_nll_count};
        TRY(send_arrays(sink, &arrays, false));
        sent.windows = NULL;
        sent.token_nll = NULL;
        sent.window_count = sent.token_nll_count = 0;
    }
    if (sink->json) {
        sink->text.count = 0;
        TRY(result_json_score(&sent, &sink->ids, &sink->text));
    } else {
        TRY(codec_encode_score(&sent, &sink->ids, &sink->packed));
    }
    return send_value(sink, score->id, score->id_bytes, true);
}

static enum status sink_finish(struct sink *base, int32_t partition) {
    (void)base;
    (void)partition; // a topic is never complete
    return STATUS_OK;
}

static enum status sink_confirmed(struct sink *base, int64_t *count) {
    return kafka_producer_confirmed(((struct kafka_sink *)base)->producer, count);
}

static enum status sink_close(struct sink *base, bool complete) {
    struct kafka_sink *sink = (struct kafka_sink *)base;
    const enum status status = complete ? kafka_producer_flush(sink->producer) : STATUS_OK;
    kafka_producer_close(sink->producer);
    codec_bytes_free(&sink->packed);
    bytes_free(&sink->text);
    free(sink);
    return status;
}

enum status kafka_sink_open(const struct kafka_sink_settings *settings, struct sink **opened) {
    static const struct sink_table table = {
        .name = "kafka",
        .piece = sink_piece,
        .score = sink_score,
        .finish = sink_finish,
        .confirmed = sink_confirmed,
        .close = sink_close,
    };
    struct kafka_sink *sink = calloc(1, sizeof *sink);
    if (sink == NULL) return FAIL(NO_MEMORY, "kafka sink");
    sink->base.table = &table;
    sink->json = settings->json;
    sink->ids = settings->ids;
    const enum status status = kafka_producer_open(&settings->kafka, &sink->producer);
    if (status != STATUS_OK) {
        free(sink);
        return status;
    }
    *opened = &sink->base;
    return STATUS_OK;
}
