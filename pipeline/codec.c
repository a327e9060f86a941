// Token records: hostile bytes into checked records, and records into messages.

#include "pipeline/codec.h"

#include "ops/base/json.h"
#include "pipeline/codec_inner.h"
#include "proto/stream.pb-c.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "token bytes are copied as they lie");

#define REASON_BYTES 256

static bool take_varint(const uint8_t *data, size_t bytes, size_t *at, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64 && *at < bytes; shift += 7) {
        const uint8_t byte = data[(*at)++];
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

// The length on the wire of a message's string field 1 (its last occurrence, as protobuf has it).
// protobuf-c gives strings without their length: an id with a NUL inside would pass for another.
static size_t wire_id_bytes(const uint8_t *data, size_t bytes) {
    size_t at = 0, found = 0;
    uint64_t tag, length;
    while (at < bytes && take_varint(data, bytes, &at, &tag)) {
        const int type = (int)(tag & 7);
        if (type == 0) {
            if (!take_varint(data, bytes, &at, &length)) break;
            continue;
        }
        if (type == 2) {
            if (!take_varint(data, bytes, &at, &length)) break;
            if (tag >> 3 == 1) found = (size_t)length;
        } else if (type == 1 || type == 5) {
            length = type == 1 ? 8 : 4;
        } else {
            break;
        }
        if (length > bytes - at) break;
        at += (size_t)length;
    }
    return found;
}

// The id that a message's key names, though its value cannot be read.
static enum status make_keyed_fault(const void *key, size_t key_bytes, const char *reason,
                                    struct record **decoded) {
    const bool named =
        key != NULL && key_bytes > 0 && key_bytes <= ID_BYTES_MOST && utf8_valid(key, key_bytes);
    return record_make_fault(named ? key : "", named ? key_bytes : 0, reason, decoded);
}

static void record_entry(const void *entries, size_t at, const char **key, const char **value) {
    Longscan__TokenRecord__AttributesEntry *const *entry = entries;
    *key = entry[at]->key;
    *value = entry[at]->value;
}

// One widening loop a width. false: an id of 2^31 or more.
static bool widen(const uint8_t *data, int64_t tokens, uint32_t width, int32_t *token) {
    uint32_t all = 0;
    if (width == 2) {
        for (int64_t i = 0; i < tokens; i++) {
            uint16_t id;
            memcpy(&id, data + 2 * i, sizeof id);
            token[i] = id;
        }
        return true;
    }
    if (tokens > 0) memcpy(token, data, (size_t)tokens * sizeof *token);
    for (int64_t i = 0; i < tokens; i++) {
        all |= (uint32_t)token[i];
    }
    return all < 0x80000000U;
}

// What is wrong with the id, in words; NULL: nothing.
static const char *check_id(const char *id, size_t wire_bytes, const void *key, size_t key_bytes,
                            char *reason) {
    const size_t bytes = strlen(id);
    if (bytes != wire_bytes) return "its id has a NUL inside";
    if (bytes == 0) return "it has no id";
    if (bytes > ID_BYTES_MOST) {
        snprintf(reason, REASON_BYTES, "its id has %zu bytes, more than %d", bytes, ID_BYTES_MOST);
        return reason;
    }
    if (!utf8_valid(id, bytes)) return "its id is not UTF-8";
    if (key != NULL && (key_bytes != bytes || memcmp(key, id, bytes) != 0)) {
        return "its id is not its Kafka key, so its document may be spread over partitions";
    }
    return NULL;
}

static const char *check_tokens(const Longscan__TokenRecord *message, char *reason) {
    const size_t bytes = message->tokens.len;
    if (message->width != 2 && message->width != 4 && (bytes > 0 || message->width != 0)) {
        snprintf(reason, REASON_BYTES, "its width is %" PRIu32 " bytes a token, not 2 or 4",
                 message->width);
        return reason;
    }
    if (bytes > 0 && bytes % message->width != 0) {
        snprintf(reason, REASON_BYTES, "its %zu bytes of tokens are no multiple of its width %u",
                 bytes, message->width);
        return reason;
    }
    if (bytes > 0 && bytes / message->width > RECORD_TOKENS_MOST) {
        snprintf(reason, REASON_BYTES, "it has %zu tokens, more than %d", bytes / message->width,
                 RECORD_TOKENS_MOST);
        return reason;
    }
    const int64_t tokens = bytes > 0 ? (int64_t)(bytes / message->width) : 0;
    if (message->first < 0 || message->first > INT64_MAX - tokens) {
        snprintf(reason, REASON_BYTES, "its first position is %" PRId64, message->first);
        return reason;
    }
    return NULL;
}

static enum status make_record(const Longscan__TokenRecord *message, struct record **decoded) {
    const char *const id = message->id;
    const struct codec_map map = {message->n_attributes, message->attributes, record_entry};
    const size_t bytes = message->tokens.len;
    const int64_t tokens = bytes > 0 ? (int64_t)(bytes / message->width) : 0;
    char attributes[ATTRIBUTES_BYTES_MOST];
    size_t attributes_bytes = 0;
    struct record *record = NULL;

    if (!codec_members(&map, attributes, &attributes_bytes)) {
        return record_make_fault(
            id, strlen(id), "its attributes are more than 4 KiB of JSON, or not UTF-8", decoded);
    }
    TRY(record_make(RECORD_TOKENS, id, strlen(id), attributes, attributes_bytes, tokens, &record));
    if (!widen(message->tokens.data, tokens, message->width, record_tokens(record))) {
        record_free(record);
        return record_make_fault(id, strlen(id), "it has a token id of 2^31 or more", decoded);
    }
    record->serial = 0;
    record->version = message->version;
    record->first = message->first;
    record->last = message->last;
    record->text_bytes = -1;
    *decoded = record;
    return STATUS_OK;
}

// Why bytes that do not unpack might not: the two mistakes that are easily made.
static const char *guess_format(const uint8_t *data, bool exhausted) {
    if (data[0] == '{') {
        return "it is no TokenRecord but looks like JSON: is --input-format jsonl meant?";
    }
    if (data[0] == 0) return "it is no TokenRecord; a schema registry's framing is not supported";
    if (exhausted) return "it is no TokenRecord: it would unpack to far more memory than it holds";
    return "it is no TokenRecord";
}

enum status codec_decode_record(const void *message, size_t bytes, const void *key,
                                size_t key_bytes, struct record **decoded) {
    char reason[REASON_BYTES];
    if (bytes > CODEC_MESSAGE_MOST) {
        snprintf(reason, sizeof reason, "it has %zu bytes, more than %zu", bytes,
                 CODEC_MESSAGE_MOST);
        return make_keyed_fault(key, key_bytes, reason, decoded);
    }
    if (bytes == 0) return make_keyed_fault(key, key_bytes, "it is empty", decoded);

    // A record's tokens and attributes unpack to little more than their bytes.
    struct codec_memory memory = {.left = bytes + 1024 * 1024};
    ProtobufCAllocator allocator = codec_allocator(&memory);
    Longscan__TokenRecord *unpacked = longscan__token_record__unpack(&allocator, bytes, message);
    if (unpacked == NULL) {
        if (memory.failed) return FAIL(NO_MEMORY, "a record of %zu bytes", bytes);
        return make_keyed_fault(key, key_bytes, guess_format(message, memory.exhausted), decoded);
    }
    enum status status;
    const char *id = unpacked->id;
    size_t id_bytes = strlen(id);
    const char *wrong = check_id(id, wire_id_bytes(message, bytes), key, key_bytes, reason);
    if (wrong != NULL) {
        id_bytes = 0; // whose record it is cannot be known
    } else {
        wrong = check_tokens(unpacked, reason);
    }
    if (wrong != NULL) {
        status = record_make_fault(id, id_bytes, wrong, decoded);
    } else {
        status = make_record(unpacked, decoded);
    }
    if (status == STATUS_OK && (*decoded)->kind == RECORD_FAULT && id_bytes > 0) {
        (*decoded)->version = unpacked->version;
        (*decoded)->first = unpacked->first < 0 ? 0 : unpacked->first;
        (*decoded)->last = unpacked->last;
    }
    longscan__token_record__free_unpacked(unpacked, &allocator);
    return status;
}

// Tokens at 2 or 4 bytes each; false: one does not fit.
static bool narrow(const int32_t *token, int64_t tokens, int32_t width, uint8_t *data) {
    uint32_t all = 0;
    for (int64_t i = 0; i < tokens; i++) {
        all |= (uint32_t)token[i];
    }
    if (width == 4) {
        if (tokens > 0) memcpy(data, token, (size_t)tokens * sizeof *token);
        return all < 0x80000000U;
    }
    for (int64_t i = 0; i < tokens; i++) {
        const uint16_t id = (uint16_t)token[i];
        memcpy(data + 2 * i, &id, sizeof id);
    }
    return all < 0x10000U;
}

static enum status pack_record(Longscan__TokenRecord *message,
                               const struct codec_attributes *attributes, struct codec_bytes *out) {
    const size_t count = attributes == NULL ? 0 : attributes->count;
    struct {
        Longscan__TokenRecord__AttributesEntry entry[CODEC_ATTRIBUTES_MOST];
        Longscan__TokenRecord__AttributesEntry *pointer[CODEC_ATTRIBUTES_MOST];
    } *map = count == 0 ? NULL : malloc(sizeof *map);
    if (count > 0 && map == NULL) return FAIL(NO_MEMORY, "attributes of a record");
    for (size_t i = 0; i < count; i++) {
        longscan__token_record__attributes_entry__init(&map->entry[i]);
        map->entry[i].key = codec_readable(attributes->key[i]);
        map->entry[i].value = codec_readable(attributes->value[i]);
        map->pointer[i] = &map->entry[i];
    }
    message->n_attributes = count;
    message->attributes = count == 0 ? NULL : map->pointer;
    const enum status status = codec_pack(&message->base, out);
    free(map);
    return status;
}

enum status codec_encode_record(const struct record *record, int32_t width,
                                struct codec_bytes *out) {
    enum status status = STATUS_OK;
    struct codec_attributes *attributes = NULL;
    Longscan__TokenRecord message = LONGSCAN__TOKEN_RECORD__INIT;
    const size_t bytes = (size_t)record->tokens * (size_t)width;
    uint8_t *data = malloc(bytes + 1);
    char *id = malloc(record->id_bytes + 1);
    if (data == NULL || id == NULL) {
        status = FAIL(NO_MEMORY, "a record of %" PRId64 " tokens", record->tokens);
        goto out;
    }
    if (!narrow(record->token, record->tokens, width, data)) {
        status = FAIL(BAD_INPUT, "document %.*s has a token id that does not fit %d bytes",
                      (int)record->id_bytes, record->id, (int)width);
        goto out;
    }
    TRY_OUT(status,
            codec_parse_attributes(record->attributes, record->attributes_bytes, &attributes));
    memcpy(id, record->id, record->id_bytes);
    id[record->id_bytes] = '\0';
    message.id = id;
    message.version = record->version;
    message.first = record->first;
    message.width = (uint32_t)width;
    message.tokens.data = data;
    message.tokens.len = bytes;
    message.last = record->last;
    status = pack_record(&message, attributes, out);
out:
    free(attributes);
    free(id);
    free(data);
    return status;
}
