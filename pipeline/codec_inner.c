// The parts of the codec that know no message type: memory, packing, attributes.

#include "pipeline/codec_inner.h"

#include "ops/base/json.h"
#include "ops/base/room.h"

#include <stdlib.h>
#include <string.h>

// Each block is preceded by its size, so that what is released counts as room again.
#define BLOCK_HEAD 16

static void *limited_take(void *opaque, size_t bytes) {
    struct codec_memory *memory = opaque;
    if (memory->left < BLOCK_HEAD || bytes > memory->left - BLOCK_HEAD) {
        memory->exhausted = true;
        return NULL;
    }
    unsigned char *block = malloc(BLOCK_HEAD + bytes);
    if (block == NULL) {
        memory->failed = true;
        return NULL;
    }
    memory->left -= BLOCK_HEAD + bytes;
    memcpy(block, &bytes, sizeof bytes);
    return block + BLOCK_HEAD;
}

static void limited_give(void *opaque, void *pointer) {
    struct codec_memory *memory = opaque;
    size_t bytes;
    if (pointer == NULL) return;
    unsigned char *block = (unsigned char *)pointer - BLOCK_HEAD;
    memcpy(&bytes, block, sizeof bytes);
    memory->left += BLOCK_HEAD + bytes;
    free(block);
}

ProtobufCAllocator codec_allocator(struct codec_memory *memory) {
    const ProtobufCAllocator allocator = {limited_take, limited_give, memory};
    return allocator;
}

enum status codec_pack(const ProtobufCMessage *message, struct codec_bytes *out) {
    const size_t bytes = protobuf_c_message_get_packed_size(message);
    void *data = out->data;
    TRY(room_for(&data, &out->room, bytes, 1));
    out->data = data;
    out->bytes = protobuf_c_message_pack(message, out->data);
    return STATUS_OK;
}

void codec_bytes_free(struct codec_bytes *bytes) {
    free(bytes->data);
    memset(bytes, 0, sizeof *bytes);
}

// "string" at text + *at, if it fits.
static bool add_string(const char *string, char *text, size_t *at) {
    char escaped[6 * ATTRIBUTES_BYTES_MOST];
    const size_t bytes = strlen(string);
    // Mended to U+FFFD, two different keys could become one.
    if (bytes > ATTRIBUTES_BYTES_MOST || !utf8_valid(string, bytes)) return false;
    const size_t escaped_bytes = json_escape(string, bytes, escaped);
    if (escaped_bytes + 2 > ATTRIBUTES_BYTES_MOST - *at) return false;
    text[(*at)++] = '"';
    memcpy(text + *at, escaped, escaped_bytes);
    *at += escaped_bytes;
    text[(*at)++] = '"';
    return true;
}

static bool add_mark(char mark, char *text, size_t *at) {
    if (*at == ATTRIBUTES_BYTES_MOST) return false;
    text[(*at)++] = mark;
    return true;
}

static bool key_comes_again(const struct codec_map *map, size_t from, const char *key) {
    for (size_t i = from; i < map->count; i++) {
        const char *other, *value;
        map->entry(map->entries, i, &other, &value);
        if (strcmp(other, key) == 0) return true;
    }
    return false;
}

bool codec_members(const struct codec_map *map, char *text, size_t *bytes) {
    size_t at = 0;
    if (map->count > CODEC_ATTRIBUTES_MOST) return false;
    for (size_t i = 0; i < map->count; i++) {
        const char *key, *value;
        map->entry(map->entries, i, &key, &value);
        if (key_comes_again(map, i + 1, key)) continue;
        if (at > 0 && !add_mark(',', text, &at)) return false;
        if (!add_string(key, text, &at) || !add_mark(':', text, &at)) return false;
        if (!add_string(value, text, &at)) return false;
    }
    *bytes = at;
    return true;
}

// A terminated copy at strings + *at: of raw text, or of what a JSON string means. A NUL, which
// would end the string early, becomes SUBSTITUTE.
static const char *keep_string(const char *raw, size_t bytes, bool escaped, char *strings,
                               size_t *at) {
    char *kept = strings + *at;
    size_t kept_bytes = bytes;
    if (escaped) {
        kept_bytes = json_unescape(raw, bytes, kept);
    } else {
        memcpy(kept, raw, bytes);
    }
    for (size_t i = 0; i < kept_bytes; i++) {
        if (kept[i] == '\0') kept[i] = 0x1A;
    }
    kept[kept_bytes] = '\0';
    *at += kept_bytes + 1;
    return kept;
}

static bool parse_members(struct codec_attributes *parsed, size_t bytes) {
    struct json json;
    const char *raw;
    size_t raw_bytes, at = 0;
    json_open(&json, parsed->text, bytes);
    if (!json_object(&json)) return false;
    while (json_key(&json, &raw, &raw_bytes)) {
        if (parsed->count == CODEC_ATTRIBUTES_MOST) return false;
        parsed->key[parsed->count] = keep_string(raw, raw_bytes, true, parsed->strings, &at);
        const bool string = json_peek(&json) == JSON_STRING;
        if (!(string ? json_string(&json, &raw, &raw_bytes) : json_raw(&json, &raw, &raw_bytes))) {
            return false;
        }
        parsed->value[parsed->count++] = keep_string(raw, raw_bytes, string, parsed->strings, &at);
    }
    return json_end(&json);
}

enum status codec_parse_attributes(const char *members, size_t bytes,
                                   struct codec_attributes **parsed) {
    *parsed = NULL;
    if (bytes == 0) return STATUS_OK;
    if (bytes > ATTRIBUTES_BYTES_MOST) {
        return FAIL(BAD_INPUT, "attributes of %zu bytes, more than %d", bytes,
                    ATTRIBUTES_BYTES_MOST);
    }
    struct codec_attributes *made = malloc(sizeof *made);
    if (made == NULL) return FAIL(NO_MEMORY, "attributes of a document");
    made->count = 0;
    made->text[0] = '{';
    memcpy(made->text + 1, members, bytes);
    made->text[bytes + 1] = '}';
    if (!parse_members(made, bytes + 2)) {
        free(made);
        return FAIL(BAD_INPUT, "attributes are not members of a JSON object: %.*s",
                    bytes < 200 ? (int)bytes : 200, members);
    }
    *parsed = made;
    return STATUS_OK;
}
