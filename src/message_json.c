// What kind a message is (its type header, else its bytes), and its JSON.

#include "src/message_json.h"

#ifdef LONGSCAN_WITH_KAFKA

#    include "ops/base/json.h"
#    include "pipeline/codec.h"
#    include "pipeline/json_put.h"
#    include "pipeline/kafka_consumer.h"
#    include "pipeline/letter_json.h"

#    include <inttypes.h>
#    include <stdlib.h>
#    include <string.h>

static enum status put_record(const struct record *record, struct bytes *out) {
    TRY(json_put_string(out, "{\"id\":", record->id, record->id_bytes));
    TRY(json_put_count(out, ",\"version\":", record->version));
    TRY(json_put_int(out, ",\"first\":", record->first));
    TRY(json_put(out,
                 record->last ? ",\"last\":true,\"tokens\":[" : ",\"last\":false,\"tokens\":["));
    for (int64_t i = 0; i < record->tokens; i++) {
        TRY(json_put_int(out, i == 0 ? "" : ",", record->token[i]));
    }
    TRY(json_put(out, record->attributes_bytes > 0 ? "],\"attributes\":{" : "]"));
    TRY(bytes_put(out, record->attributes, record->attributes_bytes));
    return json_put(out, record->attributes_bytes > 0 ? "}}" : "}");
}

static enum status record_line(const struct kafka_message *message, struct bytes *out) {
    struct record *record = NULL;
    TRY(codec_decode_record(message->value, message->value_bytes, message->key, message->key_bytes,
                            &record));
    enum status status = STATUS_BAD_INPUT;
    if (record->kind == RECORD_FAULT) {
        LOG(ERROR, "%s", record->fault);
    } else {
        status = put_record(record, out);
    }
    record_free(record);
    return status;
}

static enum status score_line(const struct kafka_message *message, struct bytes *out) {
    struct codec_score *read = NULL;
    enum status status;
    TRY(codec_decode_score(message->value, message->value_bytes, &read));
    const struct document_score *score = &read->score;
    if (read->piece) {
        const struct document_piece piece = {.id = score->id,
                                             .id_bytes = score->id_bytes,
                                             .windows = score->windows,
                                             .window_count = score->window_count,
                                             .token_nll_first = score->token_nll_first,
                                             .token_nll = score->token_nll,
                                             .token_nll_count = score->token_nll_count};
        status = result_json_piece(&piece, out);
    } else {
        status = result_json_score(score, &read->ids, out);
    }
    codec_score_free(read);
    return status;
}

static enum status window_line(const struct kafka_message *message, struct bytes *out) {
    char id[ID_BYTES_MOST];
    struct document_window window;
    TRY(codec_decode_window(message->value, message->value_bytes, id, &window));
    return result_json_window(&window, out);
}

static enum status letter_line(const struct kafka_message *message, struct bytes *out) {
    struct dead_letter *letter = NULL;
    TRY(codec_decode_dead_letter(message->value, message->value_bytes, &letter));
    const enum status status = letter_json(letter, out);
    free(letter);
    return status;
}

// JSON as it came, once it is sure to be one line of it.
static enum status json_line(const struct kafka_message *message, struct bytes *out) {
    struct json json;
    json_open(&json, message->value, message->value_bytes);
    if (!json_skip(&json) || !json_end(&json) ||
        memchr(message->value, '\n', message->value_bytes) != NULL) {
        return FAIL(BAD_INPUT, "not one line of JSON: %s", json.wrong == NULL ? "" : json.wrong);
    }
    return bytes_put(out, message->value, message->value_bytes);
}

static enum status line_of(const struct kafka_message *message, struct bytes *out) {
    if (message->value == NULL) {
        TRY(json_put_string(out, "{\"id\":", message->key, message->key_bytes));
        return json_put(out, ",\"retracted\":true}");
    }
    if (message->value_bytes > 0 && *(const char *)message->value == '{') {
        return json_line(message, out);
    }
    switch (message->type) {
    case KAFKA_DOCUMENT_SCORE: return score_line(message, out);
    case KAFKA_WINDOW_SCORE: return window_line(message, out);
    case KAFKA_DEAD_LETTER: return letter_line(message, out);
    case KAFKA_TYPES:
    case KAFKA_TOKEN_RECORD:
    case KAFKA_UNKNOWN: break; // who writes no header most likely feeds us
    }
    return record_line(message, out);
}

enum status message_json(const struct kafka_message *message, struct bytes *out) {
    const size_t before = out->count;
    const enum status status = line_of(message, out);
    if (status == STATUS_BAD_INPUT) {
        LOG(WARN, "partition %" PRId32 " offset %" PRId64 " cannot be read and is left out",
            message->partition, message->offset);
    }
    if (status != STATUS_OK) out->count = before;
    return status;
}

static enum status put_place(const struct kafka_message *message, struct bytes *out) {
    TRY(json_put_int(out, "{\"partition\":", message->partition));
    TRY(json_put_int(out, ",\"offset\":", message->offset));
    TRY(json_put_int(out, ",\"time_ms\":", message->time_ms));
    if (message->source_time_ms >= 0) {
        TRY(json_put_int(out, ",\"source_time_ms\":", message->source_time_ms));
    }
    if (message->key == NULL) return json_put(out, ",\"key\":null,\"value\":");
    TRY(json_put_string(out, ",\"key\":", message->key, message->key_bytes));
    return json_put(out, ",\"value\":");
}

enum status message_json_envelope(const struct kafka_message *message, struct bytes *out) {
    const size_t before = out->count;
    TRY(put_place(message, out));
    const enum status status =
        message->value == NULL ? json_put(out, "null") : message_json(message, out);
    if (status != STATUS_OK) {
        out->count = before;
        return status;
    }
    return json_put(out, "}");
}

#endif
