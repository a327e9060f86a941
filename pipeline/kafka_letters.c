// Dead letters into messages of a topic of their own.

#include "pipeline/codec.h"
#include "pipeline/kafka_producer.h"
#include "pipeline/kafka_sink.h"

#include <stdlib.h>

// A letter's own fields beside the record it is about.
#define RECORD_MOST (KAFKA_MESSAGE_MOST - 8 * 1024)

struct kafka_letters {
    struct sink base;
    struct kafka_producer *producer;
    struct codec_bytes packed;
};

static enum status letters_letter(struct sink *base, const struct dead_letter *letter) {
    struct kafka_letters *letters = (struct kafka_letters *)base;
    struct dead_letter sent = *letter;
    if (sent.record_bytes > RECORD_MOST) { // its place in its topic says where it is
        sent.record = NULL;
        sent.record_bytes = 0;
    }
    TRY(codec_encode_dead_letter(&sent, &letters->packed));
    const struct kafka_outgoing message = {.key = letter->id,
                                           .key_bytes = letter->id_bytes,
                                           .value = letters->packed.data,
                                           .value_bytes = letters->packed.bytes,
                                           .type = KAFKA_DEAD_LETTER,
                                           .source_time_ms = -1,
                                           .ends_unit = true};
    return kafka_producer_send(letters->producer, &message);
}

static enum status letters_confirmed(struct sink *base, int64_t *count) {
    return kafka_producer_confirmed(((struct kafka_letters *)base)->producer, count);
}

static enum status letters_close(struct sink *base, bool complete) {
    struct kafka_letters *letters = (struct kafka_letters *)base;
    const enum status status = complete ? kafka_producer_flush(letters->producer) : STATUS_OK;
    kafka_producer_close(letters->producer);
    codec_bytes_free(&letters->packed);
    free(letters);
    return status;
}

enum status kafka_letters_open(const struct kafka_settings *settings, struct sink **opened) {
    static const struct sink_table table = {
        .name = "kafka letters",
        .letter = letters_letter,
        .confirmed = letters_confirmed,
        .close = letters_close,
    };
    struct kafka_letters *letters = calloc(1, sizeof *letters);
    if (letters == NULL) return FAIL(NO_MEMORY, "dead letters");
    letters->base.table = &table;
    const enum status status = kafka_producer_open(settings, &letters->producer);
    if (status != STATUS_OK) {
        free(letters);
        return status;
    }
    *opened = &letters->base;
    return STATUS_OK;
}
