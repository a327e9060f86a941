// verb `publish`: documents from files into a topic of token records.

#include "src/kafka_options.h"

#ifdef LONGSCAN_WITH_KAFKA

#    include "ops/base/clock.h"
#    include "pipeline/codec.h"
#    include "pipeline/file_source.h"
#    include "pipeline/kafka_producer.h"
#    include "src/tokenizer_choice.h"

#    include <inttypes.h>
#    include <string.h>

// A record stays under 512 KiB with the longest id and attributes, and at 4 bytes a token.
#    define PUBLISH_TOKENS_MOST ((512 * 1024 - ID_BYTES_MOST - ATTRIBUTES_BYTES_MOST - 1024) / 4)

struct publish {
    const struct settings *settings;
    struct inputs inputs;
    struct tokenizer *tokenizer; // NULL: tokens only
    struct source *source;
    struct kafka_producer *producer;
    struct codec_bytes bytes;
    int64_t documents, records, tokens, bad;
};

static enum status choose_tokenizer(struct publish *publish) {
    const char *name = publish->settings->tokenizer;
    if (name == NULL) return STATUS_OK;
    return tokenizer_named(publish->settings, name, &publish->tokenizer);
}

static enum status open_all(struct publish *publish) {
    const struct settings *settings = publish->settings;
    const struct kafka_settings kafka = kafka_options_client(settings);
    struct file_source_settings source = {
        .shard = {.id_field = settings->id_field,
                  .text_field = settings->text_field,
                  .max_line = settings->max_line,
                  .record_tokens = settings->record_tokens < PUBLISH_TOKENS_MOST
                                       ? settings->record_tokens
                                       : PUBLISH_TOKENS_MOST},
        .limit = settings->limit
    };
    TRY(inputs_expand(settings->input, &publish->inputs));
    TRY(choose_tokenizer(publish));
    TRY(file_format_parse(settings->format, &source.shard.format));
    source.shard.tokenizer = publish->tokenizer;
    TRY(file_source_open(&publish->inputs, &source, &publish->source));
    return kafka_producer_open(&kafka, &publish->producer);
}

// 2 bytes a token wherever they do.
static int32_t width_of(const struct record *record) {
    for (int64_t i = 0; i < record->tokens; i++) {
        if (record->token[i] > UINT16_MAX) return 4;
    }
    return 2;
}

static enum status send_record(struct publish *publish, struct record *record) {
    record->version = (uint64_t)publish->settings->document_version;
    TRY(codec_encode_record(record, width_of(record), &publish->bytes));
    const struct kafka_outgoing message = {.key = record->id,
                                           .key_bytes = record->id_bytes,
                                           .value = publish->bytes.data,
                                           .value_bytes = publish->bytes.bytes,
                                           .type = KAFKA_TOKEN_RECORD,
                                           .source_time_ms = -1,
                                           .ends_unit = true};
    TRY(kafka_producer_send(publish->producer, &message));
    publish->records++;
    publish->tokens += record->tokens;
    if (record->last) publish->documents++;
    return STATUS_OK;
}

static enum status take(struct publish *publish, struct record *record) {
    switch (record->kind) {
    case RECORD_PARTITION_END: return STATUS_OK;
    case RECORD_FAULT:
        publish->bad++;
        if (record->last) { // a file, and it is named
            LOG(WARN, "%s", record->fault);
            return STATUS_OK;
        }
        if (record->id_bytes > 0) {
            LOG(WARN, "document %.*s is left out: %s", (int)record->id_bytes, record->id,
                record->fault);
        } else {
            LOG(WARN, "a document is left out: %s", record->fault);
        }
        return STATUS_OK;
    case RECORD_TOKENS: break;
    }
    return send_record(publish, record);
}

static enum status send_all(struct publish *publish) {
    for (;;) {
        struct record *record = NULL;
        const enum status next = publish->source->table->next(publish->source, 100, &record);
        if (next == STATUS_END) break;
        if (next != STATUS_OK && next != STATUS_AGAIN) return next;
        if (next == STATUS_OK) {
            const enum status status = take(publish, record);
            record_free(record);
            if (status != STATUS_OK) return status;
        }
        if (stop_requested()) {
            TRY(kafka_producer_flush(publish->producer));
            LOG(WARN, "stopped: the document that was being written has no last record");
            return STATUS_STOPPED;
        }
    }
    return kafka_producer_flush(publish->producer);
}

static const char *plural(int64_t count) {
    return count == 1 ? "" : "s";
}

static enum status report(const struct publish *publish, int64_t start_ms) {
    const double seconds = (double)(clock_ms() - start_ms + 1) / 1000;
    const int64_t all = publish->documents + publish->bad;
    LOG(INFO,
        "topic %s: %" PRId64 " document%s, %" PRId64 " record%s, %" PRId64 " token%s published and "
        "acknowledged in %.1f s (%.0f tokens/s); %" PRId64 " bad",
        publish->settings->topic, publish->documents, plural(publish->documents), publish->records,
        plural(publish->records), publish->tokens, plural(publish->tokens), seconds,
        (double)publish->tokens / seconds, publish->bad);
    if ((double)publish->bad > publish->settings->max_bad * (double)all) {
        return FAIL(BAD_INPUT,
                    "%" PRId64 " of %" PRId64 " documents are bad, more than --max-bad %g%%",
                    publish->bad, all, 100.0 * publish->settings->max_bad);
    }
    return STATUS_OK;
}

enum status verb_publish(const struct settings *settings, int *exit_code) {
    enum status status = STATUS_OK;
    struct publish publish = {.settings = settings};
    const int64_t start_ms = clock_ms();
    (void)exit_code;
    TRY_OUT(status, open_all(&publish));
    TRY_OUT(status, send_all(&publish));
    status = report(&publish, start_ms);
out:
    kafka_producer_close(publish.producer);
    if (publish.source != NULL) {
        const enum status closed = publish.source->table->close(publish.source);
        if (status == STATUS_OK) status = closed;
    }
    if (publish.tokenizer != NULL) publish.tokenizer->close(publish.tokenizer);
    codec_bytes_free(&publish.bytes);
    inputs_free(&publish.inputs);
    return status;
}

#else

enum status verb_publish(const struct settings *settings, int *exit_code) {
    (void)settings;
    (void)exit_code;
    return FAIL(USAGE, "%s", KAFKA_OPTIONS_MISSING);
}

#endif
