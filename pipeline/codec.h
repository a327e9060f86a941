#pragma once
// The streams' protobuf messages (proto/stream.proto) and the program's nouns, one into the other.
// Only codec files know protobuf-c. What is decoded is hostile until checked: sizes are capped
// before unpacking, memory is limited, and a message that cannot be used becomes a RECORD_FAULT.

#include "pipeline/record.h"
#include "pipeline/result_json.h"

// The largest message that is looked at: a full record at 4 bytes a token, its id and attributes.
#define CODEC_MESSAGE_MOST ((size_t)RECORD_TOKENS_MOST * 4 + 64 * 1024)

// An encoded message. Starts zeroed, grows and is used again; codec_bytes_free.
struct codec_bytes {
    uint8_t *data;
    size_t bytes, room;
};
void codec_bytes_free(struct codec_bytes *bytes); // accepts a zeroed one

// A TokenRecord as a record of RECORD_TOKENS, or a RECORD_FAULT that says what is wrong with it.
// `key` is the message's Kafka key; if there is one (key != NULL) it must be the document's id.
// The caller fills in partition and offset. Errors: NO_MEMORY.
enum status codec_decode_record(const void *message, size_t bytes, const void *key,
                                size_t key_bytes, struct record **decoded);

// A record of RECORD_TOKENS at `width` (2 or 4) bytes a token. Attributes must be members of a
// JSON object; values that are no strings travel as their JSON text.
// Errors: BAD_INPUT (a token that does not fit the width, bad attributes), NO_MEMORY.
enum status codec_encode_record(const struct record *record, int32_t width,
                                struct codec_bytes *out);

// Errors: BAD_INPUT (bad attributes), NO_MEMORY.
enum status codec_encode_score(const struct document_score *score, const struct result_ids *ids,
                               struct codec_bytes *out);
enum status codec_encode_piece(const struct document_piece *piece, struct codec_bytes *out);
enum status codec_encode_window(const struct document_window *window, struct codec_bytes *out);
// id: [ID_BYTES_MOST], the window's id will point there. Errors: BAD_INPUT (logged), NO_MEMORY.
enum status codec_decode_window(const void *message, size_t bytes, char *id,
                                struct document_window *window);

// A DocumentScore as it was read. Everything lies in one block; codec_score_free.
struct codec_score {
    struct document_score score; // partition 0: the caller's to fill in
    struct result_ids ids;       // 0 in a piece, and where a message leaves one out
    bool piece;                  // id and arrays only
};
// Errors: BAD_INPUT (logged with what is wrong), NO_MEMORY.
enum status codec_decode_score(const void *message, size_t bytes, struct codec_score **decoded);
void codec_score_free(struct codec_score *score); // accepts NULL

// Errors: NO_MEMORY.
enum status codec_encode_dead_letter(const struct dead_letter *letter, struct codec_bytes *out);
// Errors: BAD_INPUT (logged with what is wrong), NO_MEMORY. One block; release with free.
enum status codec_decode_dead_letter(const void *message, size_t bytes,
                                     struct dead_letter **decoded);
