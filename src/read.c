// verb `read`: a topic's messages as JSON lines.

#include "src/kafka_options.h"

#ifdef LONGSCAN_WITH_KAFKA

#    include "pipeline/codec.h"
#    include "pipeline/kafka_consumer.h"
#    include "pipeline/output.h"
#    include "src/endpoints.h"
#    include "src/message_json.h"
#    include "src/table_sink.h"

#    include <inttypes.h>
#    include <stdio.h>
#    include <string.h>
#    include <sys/stat.h>

#    define FLUSH_BYTES ((size_t)256 * 1024)

struct read_counts {
    int64_t messages, bad;
};

// A score as a row of the table; pieces of one have no place in it.
static enum status print_row(const struct kafka_message *message, struct sink *table) {
    struct codec_score *read = NULL;
    TRY(codec_decode_score(message->value, message->value_bytes, &read));
    const enum status status = read->piece ? STATUS_OK : table->table->score(table, &read->score);
    codec_score_free(read);
    return status;
}

// table: where scores go; NULL: all messages are lines.
static enum status take(const struct kafka_message *message, bool envelope, struct output *output,
                        struct sink *table, struct read_counts *counts) {
    if (message->happening != KAFKA_MESSAGE) return STATUS_OK;
    counts->messages++;
    // results in JSON are lines as they are
    const bool json = message->value_bytes > 0 && *(const char *)message->value == '{';
    if (table != NULL && message->type == KAFKA_DOCUMENT_SCORE && message->value != NULL && !json) {
        const enum status printed = print_row(message, table);
        counts->bad += printed == STATUS_BAD_INPUT;
        return printed == STATUS_BAD_INPUT ? STATUS_OK : printed;
    }
    const enum status status = envelope ? message_json_envelope(message, &output->pending)
                                        : message_json(message, &output->pending);
    if (status == STATUS_BAD_INPUT) {
        counts->bad++;
        return STATUS_OK;
    }
    if (status != STATUS_OK) return status;
    TRY(bytes_put(&output->pending, "\n", 1));
    return output->pending.count >= FLUSH_BYTES ? output_write(output) : STATUS_OK;
}

static enum status copy(const struct settings *settings, struct kafka_consumer *consumer,
                        struct output *output, struct sink *table, struct read_counts *counts) {
    struct kafka_message message;
    while (settings->limit == 0 || counts->messages < settings->limit) {
        if (stop_requested()) return STATUS_STOPPED;
        const enum status status = kafka_consumer_next(consumer, 100, &message);
        if (status == STATUS_END) break;
        if (status == STATUS_AGAIN) {
            TRY(output_flush(output)); // who follows wants to see what has come
            continue;
        }
        if (status != STATUS_OK) return status;
        TRY(take(&message, settings->envelope, output, table, counts));
    }
    return STATUS_OK;
}

static enum status open_consumer(const struct settings *settings,
                                 struct kafka_consumer **consumer) {
    struct kafka_consumer_settings reading = {.kafka = kafka_options_client(settings), .groups = 1};
    TRY(kafka_options_until(settings->until, &reading.follow, &reading.idle_ms));
    return kafka_consumer_open(&reading, consumer);
}

// It takes one file; what score takes beside that is refused by name.
static enum status check_output(const char *path) {
    struct stat about;
    const size_t bytes = strlen(path);
    if (strncmp(path, "kafka:", 6) == 0) {
        return FAIL(USAGE,
                    "--output %s: read writes lines to a file or standard output; to copy messages "
                    "from topic to topic use a tool of Kafka's, or ./%s for a file of this name",
                    path, path);
    }
    if ((bytes > 0 && path[bytes - 1] == '/') ||
        (stat(path, &about) == 0 && S_ISDIR(about.st_mode))) {
        return FAIL(USAGE,
                    "--output %s is a folder; read writes one file: give its name, as in "
                    "%s%sscores.jsonl",
                    path, path, path[bytes - 1] == '/' ? "" : "/");
    }
    return STATUS_OK;
}

enum status verb_read(const struct settings *settings, int *exit_code) {
    enum status status = STATUS_OK;
    struct kafka_consumer *consumer = NULL;
    struct output *output = NULL;
    struct sink *table = NULL;
    struct read_counts counts = {0};
    (void)exit_code;
    TRY(check_output(settings->output));
    TRY_OUT(status, open_consumer(settings, &consumer));
    TRY_OUT(status, output_open(settings->output, &output));
    if (strcmp(settings->output, "-") == 0 && wants_table(settings) && !settings->envelope) {
        TRY_OUT(status, table_sink_open(stdout, &table));
    }
    status = copy(settings, consumer, output, table, &counts);
    if (status == STATUS_OK || status == STATUS_STOPPED) {
        const enum status finished = output_finish(output, true);
        output = NULL;
        if (finished != STATUS_OK) status = finished;
    }
    if (status == STATUS_OK && counts.bad > 0) {
        status = FAIL(BAD_INPUT, "topic %s: %" PRId64 " of %" PRId64 " messages cannot be read",
                      settings->topic, counts.bad, counts.messages);
    }
out:
    if (table != NULL) {
        const enum status closed = table->table->close(table, status == STATUS_OK);
        if (status == STATUS_OK) status = closed;
    }
    output_drop(output);
    kafka_consumer_close(consumer);
    return status;
}

#else

enum status verb_read(const struct settings *settings, int *exit_code) {
    (void)settings;
    (void)exit_code;
    return FAIL(USAGE, "%s", KAFKA_OPTIONS_MISSING);
}

#endif
