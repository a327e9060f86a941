// Dead letters into messages of a topic of their own.

#include "pipeline/codec.h"
#include "pipeline/kafka_producer.h"
#include "pipeline/kafka_sink.h"
#include "pipeline/letter_json.h"

#include <stdlib.h>

// A letter's own fields beside the record it is about.
#define RECORD_MOST (KAFKA_MESSAGE_MOST - 16 * 1024)

struct kafka_letters {
    struct sink base;
    struct kafka_producer *producer;
    bool json;
    struct bytes text;
    struct codec_bytes packed;
};

static enum status encode(struct kafka_letters *letters, const struct dead_letter *letter) {
    if (!letters->json) return codec_encode_dead_letter(letter, &letters->packed);
    letters->text.count = 0;
    return letter_json(letter, &letters->text);
}

static enum status letters_letter(struct sink *base, const struct dead_letter *letter) {
    struct kafka_letters *letters = (struct kafka_letters *)base;
    struct dead_letter sent = *letter;
    // Base64 takes four bytes for three.
    if (sent.record_bytes > (letters->json
                                 ? RECORD_MOST / 4 * 3
                                 : RECORD_MOST)) { // its place in its topic says where it is
        sent.record = NULL;
        sent.record_bytes = 0;
    }
    TRY(encode(letters, &sent));
    const struct kafka_outgoing message = {
        .key = letter->id,
        .key_bytes = letter->id_bytes,
        .value = letters->json ? (const void *)letters->text.data : letters->packed.data,
        .value_bytes = letters->json ? letters->text.count : letters->packed.bytes,
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
    bytes_free(&letters->text);
    free(letters);
    return status;
}

enum status kafka_letters_open(const struct kafka_settings *settings, bool json,
                               struct sink **opened) {
    static const struct sink_table table = {
        .name = "kafka letters",
        .letter = letters_letter,
        .confirmed = letters_confirmed,
        .close = letters_close,
    };
    struct kafka_letters *letters = calloc(1, sizeof *letters);
    if (letters == NULL) return FAIL(NO_MEMORY, "dead letters");
    letters->base.table = &table;
    letters->json = json;
    const enum status status = kafka_producer_open(settings, &letters->producer);
    if (status != STATUS_OK) {
        free(letters);
        return status;
    }
    *opened = &letters->base;
    return STATUS_OK;
}
