// verb `read`: a topic's messages as JSON lines.

#include "src/kafka_options.h"

#ifdef LONGSCAN_WITH_KAFKA

#    include "pipeline/kafka_consumer.h"
#    include "pipeline/output.h"
#    include "src/message_json.h"

#    include <inttypes.h>

#    define FLUSH_BYTES ((size_t)256 * 1024)

struct read_counts {
    int64_t messages, bad;
};

static enum status take(const struct kafka_message *message, struct output *output,
                        struct read_counts *counts) {
    if (message->happening != KAFKA_MESSAGE) return STATUS_OK;
    counts->messages++;
    const enum status status = message_json(message, &output->pending);
    if (status == STATUS_BAD_INPUT) {
        counts->bad++;
        return STATUS_OK;
    }
    if (status != STATUS_OK) return status;
    TRY(bytes_put(&output->pending, "\n", 1));
    return output->pending.count >= FLUSH_BYTES ? output_flush(output) : STATUS_OK;
}

static enum status copy(const struct settings *settings, struct kafka_consumer *consumer,
                        struct output *output, struct read_counts *counts) {
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
        TRY(take(&message, output, counts));
    }
    return STATUS_OK;
}

static enum status open_consumer(const struct settings *settings,
                                 struct kafka_consumer **consumer) {
    struct kafka_consumer_settings reading = {.kafka = kafka_options_client(settings), .groups = 1};
    TRY(kafka_options_until(settings->until, &reading.follow, &reading.idle_ms));
    return kafka_consumer_open(&reading, consumer);
}

enum status verb_read(const struct settings *settings, int *exit_code) {
    enum status status = STATUS_OK;
    struct kafka_consumer *consumer = NULL;
    struct output *output = NULL;
    struct read_counts counts = {0};
    (void)exit_code;
    TRY_OUT(status, open_consumer(settings, &consumer));
    TRY_OUT(status, output_open(settings->output, &output));
    status = copy(settings, consumer, output, &counts);
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
