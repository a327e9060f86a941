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
    bool json, windows_apart;
    int64_t score_every;
    struct result_ids ids;
    struct bytes text;
    struct codec_bytes packed;
};

// id, or id and a tail.
struct key {
    char text[ID_BYTES_MOST + 40];
    size_t bytes;
};

static void set_key(struct key *key, const char *id, size_t id_bytes, const char *mark,
                    int64_t first) {
    memcpy(key->text, id, id_bytes);
    key->bytes = id_bytes + (size_t)snprintf(key->text + id_bytes, 40, "%s%" PRId64, mark, first);
}

#define WINDOW_MARK "#"
#define NLL_MARK    "#nll#"

static enum status send_text(struct kafka_sink *sink, struct kafka_outgoing *message) {
    message->value = sink->json ? (const void *)sink->text.data : sink->packed.data;
    message->value_bytes = sink->json ? sink->text.count : sink->packed.bytes;
    return kafka_producer_send(sink->producer, message);
}

static enum status send_piece(struct kafka_sink *sink, const struct document_piece *piece,
                              bool ends_unit) {
    struct key key;
    if (piece->window_count > 0) {
        set_key(&key, piece->id, piece->id_bytes, WINDOW_MARK, piece->windows[0].first);
    } else {
        set_key(&key, piece->id, piece->id_bytes, NLL_MARK, piece->token_nll_first);
    }
    struct kafka_outgoing message = {.key = key.text,
                                     .key_bytes = key.bytes,
                                     .type = KAFKA_DOCUMENT_SCORE,
                                     .source_time_ms = piece->time_ms,
                                     .ends_unit = ends_unit};
    if (sink->json) {
        sink->text.count = 0;
        TRY(result_json_piece(piece, &sink->text));
    } else {
        TRY(codec_encode_piece(piece, &sink->packed));
    }
    return send_text(sink, &message);
}

static enum status send_windows(struct kafka_sink *sink, const struct document_piece *piece) {
    for (int64_t i = 0; i < piece->window_count; i++) {
        struct key key;
        set_key(&key, piece->id, piece->id_bytes, WINDOW_MARK, piece->windows[i].first);
        struct kafka_outgoing message = {.key = key.text,
                                         .key_bytes = key.bytes,
                                         .type = KAFKA_WINDOW_SCORE,
                                         .source_time_ms = piece->time_ms,
                                         .second_topic = true,
                                         .ends_unit = i + 1 == piece->window_count};
        const struct document_window window = {.id = piece->id,
                                               .id_bytes = piece->id_bytes,
                                               .version = piece->version,
                                               .window = piece->windows[i]};
        if (sink->json) {
            sink->text.count = 0;
            TRY(result_json_window(&window, &sink->text));
        } else {
            TRY(codec_encode_window(&window, &sink->packed));
        }
        TRY(send_text(sink, &message));
    }
    return STATUS_OK;
}

// The arrays in messages of their own, first the windows, then the token NLLs.
static enum status send_arrays(struct kafka_sink *sink, const struct document_piece *whole,
                               bool ends_unit) {
    int64_t windows = whole->windows == NULL ? 0 : whole->window_count;
    int64_t nlls = whole->token_nll == NULL ? 0 : whole->token_nll_count;
    struct document_piece part = *whole;
    part.token_nll = NULL;
    part.token_nll_count = 0;
    for (; windows > 0; windows -= part.window_count, part.windows += part.window_count) {
        part.window_count = windows < WINDOWS_MOST ? windows : WINDOWS_MOST;
        TRY(send_piece(sink, &part, ends_unit && windows == part.window_count && nlls == 0));
    }
    part = *whole;
    part.windows = NULL;
    part.window_count = 0;
    for (; nlls > 0; nlls -= part.token_nll_count, part.token_nll += part.token_nll_count,
                     part.token_nll_first += part.token_nll_count) {
        part.token_nll_count = nlls < TOKEN_NLL_MOST ? nlls : TOKEN_NLL_MOST;
        TRY(send_piece(sink, &part, ends_unit && nlls == part.token_nll_count));
    }
    return STATUS_OK;
}

// Nulls for the keys of what begins on the grid `origin`, origin + step, ... in [first, end).
static enum status send_nulls(struct kafka_sink *sink, const struct retraction *retraction,
                              const char *mark, int64_t origin, int64_t step, int64_t first,
                              int64_t end) {
    int64_t at = first <= origin ? origin : origin + (first - origin + step - 1) / step * step;
    for (; at < end; at += step) {
        struct key key;
        set_key(&key, retraction->id, retraction->id_bytes, mark, at);
        const bool window = sink->windows_apart && strcmp(mark, WINDOW_MARK) == 0;
        const struct kafka_outgoing message = {.key = key.text,
                                               .key_bytes = key.bytes,
                                               .type = window ? KAFKA_WINDOW_SCORE
                                                              : KAFKA_DOCUMENT_SCORE,
                                               .source_time_ms = -1,
                                               .second_topic = window};
        TRY(kafka_producer_send(sink->producer, &message));
    }
    return STATUS_OK;
}

// Whatever may have been written is overwritten by nothing; a key that never was is no harm. Pieces
// of token NLLs begin where those of 65,536 do, and inside them each TOKEN_NLL_MOST.
static enum status sink_retract(struct sink *base, const struct retraction *retraction) {
    struct kafka_sink *sink = (struct kafka_sink *)base;
    const struct retraction *r = retraction;
    if (sink->score_every > 0) {
        const int64_t step = sink->score_every * (sink->windows_apart ? 1 : WINDOWS_MOST);
        TRY(send_nulls(sink, r, WINDOW_MARK, 0, step, r->windows_first, r->windows_end));
    }
    for (int64_t inner = 0; inner < ARRAY_INLINE_MOST; inner += TOKEN_NLL_MOST) {
        TRY(send_nulls(sink, r, NLL_MARK, r->nll_origin + inner, ARRAY_INLINE_MOST, r->nll_first,
                       r->nll_end));
    }
    return kafka_producer_skip(sink->producer);
}

static enum status sink_piece(struct sink *base, const struct document_piece *piece) {
    struct kafka_sink *sink = (struct kafka_sink *)base;
    if (sink->windows_apart && piece->window_count > 0) return send_windows(sink, piece);
    return send_arrays(sink, piece, true);
}

static enum status sink_score(struct sink *base, const struct document_score *score) {
    struct kafka_sink *sink = (struct kafka_sink *)base;
    struct document_score sent = *score;
    if ((score->windows != NULL && score->window_count > WINDOWS_MOST) ||
        (score->token_nll != NULL && score->token_nll_count > TOKEN_NLL_MOST)) {
        const struct document_piece arrays = {.partition = score->partition,
                                              .id = score->id,
                                              .id_bytes = score->id_bytes,
                                              .version = score->version,
                                              .time_ms = score->time_ms,
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
    struct kafka_outgoing message = {.key = score->id,
                                     .key_bytes = score->id_bytes,
                                     .type = KAFKA_DOCUMENT_SCORE,
                                     .source_time_ms = score->time_ms,
                                     .ends_unit = true};
    return send_text(sink, &message);
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
        .retract = sink_retract,
        .finish = sink_finish,
        .confirmed = sink_confirmed,
        .close = sink_close,
    };
    struct kafka_sink *sink = calloc(1, sizeof *sink);
    if (sink == NULL) return FAIL(NO_MEMORY, "kafka sink");
    sink->base.table = &table;
    sink->json = settings->json;
    sink->ids = settings->ids;
    sink->windows_apart = settings->windows != NULL;
    sink->score_every = settings->score_every;
    enum status status = kafka_producer_open(&settings->kafka, &sink->producer);
    if (status == STATUS_OK && sink->windows_apart) {
        status = kafka_producer_add_topic(sink->producer, settings->windows);
    }
    if (status != STATUS_OK) {
        kafka_producer_close(sink->producer);
        free(sink);
        return status;
    }
    *opened = &sink->base;
    return STATUS_OK;
}
