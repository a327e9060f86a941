// Messages into records. A TokenRecord gives one; a whole document is cut into several, so that
// its tokens never stand in memory all at once.

#include "pipeline/kafka_source.h"

#include "ops/base/json.h"
#include "ops/base/room.h"
#include "pipeline/codec.h"
#include "pipeline/jsonl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_TOKENS     65536 // of a whole document, in one record
#define TOPIC_NAME_BYTES 250   // Kafka allows one less, and here is a terminator

struct kafka_source {
    struct source base;
    struct kafka_consumer *consumer;
    char topic[TOPIC_NAME_BYTES]; // for messages to people, and dead letters
    enum kafka_form form;
    bool keep_messages;
    struct tokenizer *tokenizer;
    struct jsonl jsonl;

    // The whole document that is being cut up.
    bool begun;
    struct jsonl_document document;
    int32_t *token; // [PIECE_TOKENS] of its next record
    int32_t partition;
    int64_t offset, time_ms, first;
    size_t text_at;
    char *value; // a copy of the message: parsing changes it
    size_t value_room;
    char id[ID_BYTES_MOST];
};

enum status kafka_form_parse(const char *name, enum kafka_form *form) {
    static const char *const names[] = {"tokens", "jsonl", "text"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(names[i], name) != 0) continue;
        *form = (enum kafka_form)i;
        return STATUS_OK;
    }
    return FAIL(USAGE, "--input-format %s: not tokens, jsonl or text", name);
}

// Where and when the record's message was, and the message itself for a dead letter.
static enum status set_place(const struct kafka_source *source, const struct kafka_message *message,
                             struct record *record) {
    record->partition = message->partition;
    record->offset = message->offset;
    record->time_ms = message->time_ms;
    if (!source->keep_messages || message->value == NULL) return STATUS_OK;
    return record_keep(record, message->value, message->value_bytes);
}

static enum status make_fault(const struct kafka_source *source,
                              const struct kafka_message *message, const char *why,
                              struct record **made) {
    struct record *record = NULL;
    TRY(record_make_fault("", 0, why, &record));
    const enum status status = set_place(source, message, record);
    if (status != STATUS_OK) {
        record_free(record);
        return status;
    }
    *made = record;
    return STATUS_OK;
}

// The message's value as a document of its own in source->document, or a fault in *record.
static enum status begin_document(struct kafka_source *source, const struct kafka_message *message,
                                  struct record **record) {
    void *value = source->value;
    struct jsonl_document document = {.attributes = ""};
    if (message->value == NULL) {
        return make_fault(source, message, "it has no value, so it is no document", record);
    }
    if (message->type != KAFKA_UNKNOWN) {
        return make_fault(source, message,
                          "it is a message of longscan's own and no text; is --input-format tokens "
                          "meant?",
                          record);
    }
    TRY(room_for(&value, &source->value_room, message->value_bytes + 1, 1));
    source->value = value;
    memcpy(source->value, message->value, message->value_bytes);
    if (source->form == KAFKA_FORM_TEXT) {
        document.text = source->value;
        document.text_bytes = message->value_bytes;
    } else if (!jsonl_parse(&source->jsonl, source->value, message->value_bytes, &document)) {
        return make_fault(source, message, source->jsonl.wrong, record);
    }
    char place[TOPIC_NAME_BYTES + 40];
    if (document.id == NULL && message->key_bytes > 0) {
        document.id = message->key;
        document.id_bytes = message->key_bytes;
    } else if (document.id == NULL) {
        document.id = place;
        document.id_bytes = (size_t)snprintf(place, sizeof place, "%s:%" PRId32 ":%" PRId64,
                                             source->topic, message->partition, message->offset);
    }
    if (document.id_bytes == 0 || document.id_bytes > ID_BYTES_MOST ||
        !utf8_valid(document.id, document.id_bytes) ||
        memchr(document.id, '\0', document.id_bytes) != NULL) {
        return make_fault(source, message,
                          "its id (or key) is not 1 to 1024 bytes of UTF-8 without a NUL", record);
    }
    memcpy(source->id, document.id, document.id_bytes); // the key goes with its message
    document.id = source->id;
    source->document = document;
    source->partition = message->partition;
    source->offset = message->offset;
    source->time_ms = message->time_ms;
    source->first = 0;
    source->text_at = 0;
    source->begun = true;
    if (source->tokenizer != NULL && document.text != NULL) {
        source->tokenizer->begin(source->tokenizer);
    }
    return STATUS_OK;
}

struct fill { // of a record
    int64_t tokens, text_bytes;
    bool last;
};

// The next tokens of the document's text, or the tokens that stood in its line.
static enum status fill(struct kafka_source *source, struct fill *fill) {
    struct jsonl_document *document = &source->document;
    if (document->text == NULL) {
        fill->tokens = jsonl_tokens_next(&document->tokens, source->token, PIECE_TOKENS);
        fill->text_bytes = -1;
        fill->last = document->tokens.left == 0;
        return STATUS_OK;
    }
    if (source->tokenizer == NULL) {
        return FAIL(USAGE, "the topic holds text, and there is no tokenizer for it: give "
                           "--tokenizer");
    }
    struct tokenizer_turn turn = {.text = document->text + source->text_at,
                                  .bytes = document->text_bytes - source->text_at,
                                  .ends = true,
                                  .token = source->token,
                                  .room = PIECE_TOKENS};
    TRY(source->tokenizer->encode(source->tokenizer, &turn));
    source->text_at += turn.used;
    *fill = (struct fill){turn.tokens, (int64_t)turn.used, turn.done};
    return STATUS_OK;
}

static void set_document(const struct kafka_source *source, struct record *record) {
    record->partition = source->partition;
    record->offset = source->offset;
    record->time_ms = source->time_ms;
    record->serial = (uint64_t)source->offset + 1;
    record->first = source->first;
}

// The text cannot be tokenised, so nothing of the document is used.
static enum status refuse_text(struct kafka_source *source, struct record **made) {
    const struct jsonl_document *document = &source->document;
    TRY(record_make_fault(document->id, document->id_bytes, source->tokenizer->wrong, made));
    set_document(source, *made);
    source->begun = false;
    if (!source->keep_messages || source->form != KAFKA_FORM_TEXT) return STATUS_OK;
    const enum status status = record_keep(*made, document->text, document->text_bytes);
    if (status != STATUS_OK) {
        record_free(*made);
        *made = NULL;
    }
    return status;
}

static enum status next_piece(struct kafka_source *source, struct record **made) {
    const struct jsonl_document *document = &source->document;
    struct fill filled = {0};
    const enum status status = fill(source, &filled);
    if (status == STATUS_BAD_INPUT) return refuse_text(source, made);
    if (status != STATUS_OK) return status;
    TRY(record_make(RECORD_TOKENS, document->id, document->id_bytes, document->attributes,
                    document->attributes_bytes, filled.tokens, made));
    memcpy(record_tokens(*made), source->token, (size_t)filled.tokens * sizeof *source->token);
    set_document(source, *made);
    (*made)->text_bytes = filled.text_bytes;
    (*made)->last = filled.last;
    source->first += filled.tokens;
    source->begun = !filled.last;
    return STATUS_OK;
}

static enum status take_tokens(const struct kafka_source *source,
                               const struct kafka_message *message, struct record **made) {
    struct record *record = NULL;
    TRY(codec_decode_record(message->value, message->value_bytes, message->key, message->key_bytes,
                            &record));
    const enum status status = set_place(source, message, record);
    if (status != STATUS_OK) {
        record_free(record);
        return status;
    }
    *made = record;
    return STATUS_OK;
}

static enum status take_message(struct kafka_source *source, const struct kafka_message *message,
                                struct record **record) {
    if (message->happening == KAFKA_PARTITION_END) {
        TRY(record_make(RECORD_PARTITION_END, "", 0, "", 0, 0, record));
        (*record)->partition = message->partition;
        (*record)->offset = message->offset;
        return STATUS_OK;
    }
    if (source->form == KAFKA_FORM_TOKENS) return take_tokens(source, message, record);
    *record = NULL;
    TRY(begin_document(source, message, record));
    return *record != NULL ? STATUS_OK : next_piece(source, record);
}

static enum status source_next(struct source *base, int32_t timeout_ms, struct record **record) {
    struct kafka_source *source = (struct kafka_source *)base;
    struct kafka_message message;
    if (source->begun) return next_piece(source, record);
    TRY(kafka_consumer_next(source->consumer, timeout_ms, &message));
    return take_message(source, &message, record);
}

static enum status source_tend(struct source *base) {
    return kafka_consumer_tend(((struct kafka_source *)base)->consumer);
}

static enum status source_commit(struct source *base, int32_t partition, int64_t offset,
                                 const char *blob) {
    struct kafka_source *source = (struct kafka_source *)base;
    return kafka_consumer_commit(source->consumer, partition, offset, blob);
}

static bool source_resumed(struct source *base, int32_t partition, int64_t *offset,
                           const char **blob) {
    struct kafka_source *source = (struct kafka_source *)base;
    return kafka_consumer_started(source->consumer, partition, offset, blob) && *offset >= 0;
}

static const char *source_origin(struct source *base, int32_t partition) {
    (void)partition;
    return ((struct kafka_source *)base)->topic;
}

static void source_progress(struct source *base, struct source_progress *progress) {
    struct kafka_source *source = (struct kafka_source *)base;
    const struct kafka_position position = kafka_consumer_position(source->consumer);
    *progress = (struct source_progress){
        .done = position.done, .total = position.total, .unit = "records", .lag = position.lag};
}

static enum status source_close(struct source *base) {
    struct kafka_source *source = (struct kafka_source *)base;
    const enum status status = kafka_consumer_commit_wait(source->consumer);
    kafka_consumer_close(source->consumer);
    free(source->value);
    free(source->token);
    free(source);
    return status;
}

enum status kafka_source_open(const struct kafka_source_settings *settings,
                              struct source **opened) {
    static const struct source_table table = {
        .name = "kafka",
        .next = source_next,
        .tend = source_tend,
        .commit = source_commit,
        .resumed = source_resumed,
        .origin = source_origin,
        .progress = source_progress,
        .close = source_close,
    };
    static const struct source_table table_without_commits = {
        .name = "kafka",
        .next = source_next,
        .origin = source_origin,
        .tend = source_tend,
        .progress = source_progress,
        .close = source_close,
    };
    struct kafka_source *source = calloc(1, sizeof *source);
    if (source == NULL) return FAIL(NO_MEMORY, "kafka source");
    source->base.table = settings->consumer.group_id != NULL ? &table : &table_without_commits;
    source->form = settings->form;
    source->keep_messages = settings->keep_messages;
    snprintf(source->topic, sizeof source->topic, "%s", settings->consumer.kafka.topic);
    source->tokenizer = settings->tokenizer;
    jsonl_open(&source->jsonl, settings->id_field != NULL ? settings->id_field : "id",
               settings->text_field != NULL ? settings->text_field : "text");
    source->token = malloc(PIECE_TOKENS * sizeof *source->token);
    if (source->token == NULL) {
        free(source);
        return FAIL(NO_MEMORY, "kafka source");
    }
    const enum status status = kafka_consumer_open(&settings->consumer, &source->consumer);
    if (status != STATUS_OK) {
        free(source->token);
        free(source);
        return status;
    }
    *opened = &source->base;
    return STATUS_OK;
}

struct kafka_consumer *kafka_source_consumer(struct source *source) {
    return ((struct kafka_source *)source)->consumer;
}
