// Dead letters: input that could not be used, as a message and back.

#include "pipeline/codec.h"
#include "pipeline/codec_inner.h"
#include "proto/stream.pb-c.h"

#include <stdlib.h>
#include <string.h>

enum status codec_encode_dead_letter(const struct dead_letter *letter, struct codec_bytes *out) {
    Longscan__DeadLetter message = LONGSCAN__DEAD_LETTER__INIT;
    char *id = NULL;
    if (letter->id != NULL) {
        id = malloc(letter->id_bytes + 1);
        if (id == NULL) return FAIL(NO_MEMORY, "a dead letter");
        memcpy(id, letter->id, letter->id_bytes);
        id[letter->id_bytes] = '\0';
        message.id_known_case = LONGSCAN__DEAD_LETTER__ID_KNOWN_ID;
        message.id = id;
    }
    message.reason = codec_readable(letter->reason);
    message.topic = codec_readable(letter->topic);
    message.partition = letter->partition;
    message.offset = letter->offset;
    message.expected_first = letter->expected_first;
    message.found_first = letter->found_first;
    message.message_bytes = letter->message_bytes;
    message.record.len = letter->record_bytes;
    memcpy(&message.record.data, &letter->record, sizeof message.record.data);
    const enum status status = codec_pack(&message.base, out);
    free(id);
    return status;
}

static char *copy_string(const char *from, size_t bytes, char **at) {
    char *to = *at;
    memcpy(to, from, bytes);
    to[bytes] = '\0';
    *at += bytes + 1;
    return to;
}

static enum status make_letter(const Longscan__DeadLetter *message, struct dead_letter **decoded) {
    const bool known = message->id_known_case == LONGSCAN__DEAD_LETTER__ID_KNOWN_ID;
    const size_t id_bytes = known ? strlen(message->id) : 0;
    const size_t reason_bytes = strlen(message->reason), topic_bytes = strlen(message->topic);
    struct dead_letter *letter =
        calloc(1, sizeof *letter + id_bytes + reason_bytes + topic_bytes + 3 + message->record.len);
    if (letter == NULL) return FAIL(NO_MEMORY, "a dead letter");
    char *at = (char *)(letter + 1);
    if (known) letter->id = copy_string(message->id, id_bytes, &at);
    letter->id_bytes = id_bytes;
    letter->reason = copy_string(message->reason, reason_bytes, &at);
    letter->topic = copy_string(message->topic, topic_bytes, &at);
    letter->partition = message->partition;
    letter->offset = message->offset;
    letter->expected_first = message->expected_first;
    letter->found_first = message->found_first;
    if (message->record.len > 0) memcpy(at, message->record.data, message->record.len);
    letter->record = at;
    letter->record_bytes = message->record.len;
    letter->message_bytes = message->message_bytes;
    *decoded = letter;
    return STATUS_OK;
}

enum status codec_decode_dead_letter(const void *message, size_t bytes,
                                     struct dead_letter **decoded) {
    // A dead letter holds the record it is about, so it may be a little larger than one.
    if (bytes > CODEC_MESSAGE_MOST + 64 * 1024) {
        return FAIL(BAD_INPUT, "a message of %zu bytes is no DeadLetter", bytes);
    }
    struct codec_memory memory = {.left = bytes + 1024 * 1024};
    ProtobufCAllocator allocator = codec_allocator(&memory);
    Longscan__DeadLetter *unpacked = longscan__dead_letter__unpack(&allocator, bytes, message);
    if (unpacked == NULL) {
        if (memory.failed) return FAIL(NO_MEMORY, "a dead letter of %zu bytes", bytes);
        return FAIL(BAD_INPUT, "a message of %zu bytes is no DeadLetter", bytes);
    }
    const enum status status = make_letter(unpacked, decoded);
    longscan__dead_letter__free_unpacked(unpacked, &allocator);
    return status;
}
