#pragma once
// What the codec's files share: limited memory for unpacking, and attributes between protobuf maps
// and JSON members. Included by codec files only.

#include "pipeline/codec.h"

#include <protobuf-c/protobuf-c.h>

// Memory that protobuf-c may take for one message. Set `left` to the limit first.
struct codec_memory {
    size_t left;
    bool exhausted; // the message asked for more than the limit
    bool failed;    // the machine had no more: not the message's fault
};
ProtobufCAllocator codec_allocator(struct codec_memory *memory);

// Room for an encoded message in out, and the packing. Errors: NO_MEMORY.
enum status codec_pack(const ProtobufCMessage *message, struct codec_bytes *out);

// The map entries of two message types have one shape but two types; this reads either.
struct codec_map {
    size_t count;
    const void *entries;
    void (*entry)(const void *entries, size_t at, const char **key, const char **value);
};

// JSON members without braces, as a record carries them. false: more than ATTRIBUTES_BYTES_MOST
// bytes, or not UTF-8. As in every protobuf map the last of equal keys counts.
bool codec_members(const struct codec_map *map, char *text, size_t *bytes);

#define CODEC_ATTRIBUTES_MOST (ATTRIBUTES_BYTES_MOST / 4) // "":1 is the shortest member

// JSON members taken apart into terminated strings. Too large for a stack in a deep call.
struct codec_attributes {
    size_t count;
    const char *key[CODEC_ATTRIBUTES_MOST], *value[CODEC_ATTRIBUTES_MOST];
    char text[ATTRIBUTES_BYTES_MOST + 4]; // the members in braces
    char strings[2 * ATTRIBUTES_BYTES_MOST + 8];
};
// Owns: *parsed is the caller's, release with free; NULL when there are none.
// Errors: BAD_INPUT, NO_MEMORY.
enum status codec_parse_attributes(const char *members, size_t bytes,
                                   struct codec_attributes **parsed);

// protobuf-c has no const strings; packing only reads them.
static inline char *codec_readable(const char *string) {
    union {
        const char *given;
        char *taken;
    } same = {string};
    return same.taken;
}
