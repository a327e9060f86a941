// Results and dead letters: nouns into messages, and messages into nouns for reading a topic.

#include "ops/base/json.h"
#include "pipeline/codec.h"
#include "pipeline/codec_inner.h"
#include "proto/stream.pb-c.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A model, settings or numerics id as results show it: xxh3: and 16 hexadecimal digits.
#define LABEL_BYTES 24

static void write_id(uint64_t id, char *label) {
    snprintf(label, LABEL_BYTES, "xxh3:%016" PRIx64, id);
}

// Empty is 0, as protobuf leaves strings out.
static bool read_id(const char *label, uint64_t *id) {
    char again[LABEL_BYTES];
    *id = 0;
    if (label[0] == '\0') return true;
    if (strncmp(label, "xxh3:", 5) != 0) return false;
    *id = strtoull(label + 5, NULL, 16);
    write_id(*id, again);
    return strcmp(again, label) == 0;
}

// The arrays protobuf-c needs beside a message: structs, pointers to them, terminated strings.
struct score_parts {
    Longscan__WindowScore *window;
    Longscan__WindowScore **window_pointer;
    Longscan__DocumentScore__AttributesEntry *entry;
    Longscan__DocumentScore__AttributesEntry **entry_pointer;
    struct codec_attributes *attributes;
    char *id;
};

static void parts_free(struct score_parts *parts) {
    free(parts->window);
    free(parts->window_pointer);
    free(parts->entry);
    free(parts->entry_pointer);
    free(parts->attributes);
    free(parts->id);
}

static enum status add_id(const char *id, size_t bytes, struct score_parts *parts,
                          Longscan__DocumentScore *message) {
    parts->id = malloc(bytes + 1);
    if (parts->id == NULL) return FAIL(NO_MEMORY, "a result");
    memcpy(parts->id, id, bytes);
    parts->id[bytes] = '\0';
    message->id = parts->id;
    return STATUS_OK;
}

static enum status add_windows(const struct window_score *windows, int64_t count,
                               struct score_parts *parts, Longscan__DocumentScore *message) {
    if (windows == NULL) return STATUS_OK;
    message->with_windows = true;
    if (count == 0) return STATUS_OK;
    parts->window = calloc((size_t)count, sizeof *parts->window);
    parts->window_pointer = calloc((size_t)count, sizeof *parts->window_pointer);
    if (parts->window == NULL || parts->window_pointer == NULL) {
        return FAIL(NO_MEMORY, "%" PRId64 " windows of a result", count);
    }
    for (int64_t i = 0; i < count; i++) {
        longscan__window_score__init(&parts->window[i]);
        parts->window[i].first = windows[i].first;
        parts->window[i].scored = windows[i].scored;
        parts->window[i].nll = windows[i].nll;
        parts->window_pointer[i] = &parts->window[i];
    }
    message->n_windows = (size_t)count;
    message->windows = parts->window_pointer;
    return STATUS_OK;
}

static enum status add_attributes(const char *members, size_t bytes, struct score_parts *parts,
                                  Longscan__DocumentScore *message) {
    TRY(codec_parse_attributes(members, bytes, &parts->attributes));
    const size_t count = parts->attributes == NULL ? 0 : parts->attributes->count;
    if (count == 0) return STATUS_OK;
    parts->entry = calloc(count, sizeof *parts->entry);
    parts->entry_pointer = calloc(count, sizeof *parts->entry_pointer);
    if (parts->entry == NULL || parts->entry_pointer == NULL) {
        return FAIL(NO_MEMORY, "attributes of a result");
    }
    for (size_t i = 0; i < count; i++) {
        longscan__document_score__attributes_entry__init(&parts->entry[i]);
        parts->entry[i].key = codec_readable(parts->attributes->key[i]);
        parts->entry[i].value = codec_readable(parts->attributes->value[i]);
        parts->entry_pointer[i] = &parts->entry[i];
    }
    message->n_attributes = count;
    message->attributes = parts->entry_pointer;
    return STATUS_OK;
}

static void add_token_nll(int64_t first, const float *token_nll, int64_t count,
                          Longscan__DocumentScore *message) {
    if (token_nll == NULL) return;
    message->with_token_nll = true;
    message->token_nll_first = first;
    message->n_token_nll = (size_t)count;
    memcpy(&message->token_nll, &token_nll, sizeof token_nll); // packing only reads it
}

enum status codec_encode_score(const struct document_score *score, const struct result_ids *ids,
                               struct codec_bytes *out) {
    enum status status = STATUS_OK;
    struct score_parts parts = {0};
    char label[3][LABEL_BYTES];
    Longscan__DocumentScore message = LONGSCAN__DOCUMENT_SCORE__INIT;
    TRY_OUT(status, add_id(score->id, score->id_bytes, &parts, &message));
    TRY_OUT(status, add_windows(score->windows, score->window_count, &parts, &message));
    TRY_OUT(status, add_attributes(score->attributes, score->attributes_bytes, &parts, &message));
    add_token_nll(score->token_nll_first, score->token_nll, score->token_nll_count, &message);
    message.version = score->version;
    message.tokens = score->tokens;
    message.scored = score->scored;
    message.nll = score->nll;
    if (score->text_bytes >= 0) {
        message.text_bytes_known_case = LONGSCAN__DOCUMENT_SCORE__TEXT_BYTES_KNOWN_TEXT_BYTES;
        message.text_bytes = score->text_bytes;
    }
    message.truncated = score->truncated;
    write_id(ids->model, label[0]);
    write_id(ids->settings, label[1]);
    write_id(ids->numerics, label[2]);
    message.model = label[0];
    message.settings = label[1];
    message.numerics = label[2];
    status = codec_pack(&message.base, out);
out:
    parts_free(&parts);
    return status;
}

enum status codec_encode_window(const struct document_window *window, struct codec_bytes *out) {
    Longscan__WindowScore message = LONGSCAN__WINDOW_SCORE__INIT;
    char id[ID_BYTES_MOST + 1];
    memcpy(id, window->id, window->id_bytes);
    id[window->id_bytes] = '\0';
    message.id = id;
    message.version = window->version;
    message.first = window->window.first;
    message.scored = window->window.scored;
    message.nll = window->window.nll;
    return codec_pack(&message.base, out);
}

enum status codec_decode_window(const void *message, size_t bytes, char *id,
                                struct document_window *window) {
    struct codec_memory memory = {.left = 64 * 1024};
    ProtobufCAllocator allocator = codec_allocator(&memory);
    Longscan__WindowScore *unpacked = longscan__window_score__unpack(&allocator, bytes, message);
    if (unpacked == NULL) {
        if (memory.failed) return FAIL(NO_MEMORY, "a window of %zu bytes", bytes);
        return FAIL(BAD_INPUT, "a message of %zu bytes is no WindowScore", bytes);
    }
    const size_t id_bytes = strlen(unpacked->id);
    enum status status = STATUS_OK;
    if (id_bytes == 0 || id_bytes > ID_BYTES_MOST || !utf8_valid(unpacked->id, id_bytes)) {
        status = FAIL(BAD_INPUT, "a WindowScore without a usable id");
    } else {
        memcpy(id, unpacked->id, id_bytes);
        *window = (struct document_window){
            .id = id,
            .id_bytes = id_bytes,
            .version = unpacked->version,
            .window = {.first = unpacked->first, .scored = unpacked->scored, .nll = unpacked->nll}
        };
    }
    longscan__window_score__free_unpacked(unpacked, &allocator);
    return status;
}

enum status codec_encode_piece(const struct document_piece *piece, struct codec_bytes *out) {
    enum status status = STATUS_OK;
    struct score_parts parts = {0};
    Longscan__DocumentScore message = LONGSCAN__DOCUMENT_SCORE__INIT;
    TRY_OUT(status, add_id(piece->id, piece->id_bytes, &parts, &message));
    TRY_OUT(status, add_windows(piece->windows, piece->window_count, &parts, &message));
    add_token_nll(piece->token_nll_first, piece->token_nll, piece->token_nll_count, &message);
    message.piece = true;
    status = codec_pack(&message.base, out);
out:
    parts_free(&parts);
    return status;
}

// What a decoded score's block holds behind its struct.
struct score_block {
    struct codec_score score;
    char attributes[ATTRIBUTES_BYTES_MOST];
    char id[ID_BYTES_MOST + 1];
};

static void score_entry(const void *entries, size_t at, const char **key, const char **value) {
    Longscan__DocumentScore__AttributesEntry *const *entry = entries;
    *key = entry[at]->key;
    *value = entry[at]->value;
}

static enum status fill_block(const Longscan__DocumentScore *message, struct score_block *block) {
    struct document_score *score = &block->score.score;
    const struct codec_map map = {message->n_attributes, message->attributes, score_entry};
    score->id_bytes = strlen(message->id);
    if (score->id_bytes == 0 || score->id_bytes > ID_BYTES_MOST) {
        return FAIL(BAD_INPUT, "a DocumentScore's id has %zu bytes, not 1 to %d", score->id_bytes,
                    ID_BYTES_MOST);
    }
    if (!codec_members(&map, block->attributes, &score->attributes_bytes)) {
        return FAIL(BAD_INPUT, "DocumentScore %s has attributes of more than 4 KiB, or not UTF-8",
                    message->id);
    }
    if (!read_id(message->model, &block->score.ids.model) ||
        !read_id(message->settings, &block->score.ids.settings) ||
        !read_id(message->numerics, &block->score.ids.numerics)) {
        return FAIL(BAD_INPUT,
                    "DocumentScore %s: its model, settings or numerics id is not of "
                    "the form xxh3:0123456789abcdef",
                    message->id);
    }
    memcpy(block->id, message->id, score->id_bytes + 1);
    score->id = block->id;
    score->attributes = block->attributes;
    score->version = message->version;
    score->tokens = message->tokens;
    score->scored = message->scored;
    score->nll = message->nll;
    score->text_bytes =
        message->text_bytes_known_case == LONGSCAN__DOCUMENT_SCORE__TEXT_BYTES_KNOWN_TEXT_BYTES
            ? message->text_bytes
            : -1;
    score->truncated = message->truncated;
    block->score.piece = message->piece;
    return STATUS_OK;
}

// The message as one block: the struct, then its windows, then its token NLLs.
static enum status make_score(const Longscan__DocumentScore *message,
                              struct codec_score **decoded) {
    const size_t windows_bytes = message->n_windows * sizeof(struct window_score);
    const size_t nll_bytes = message->n_token_nll * sizeof(float);
    struct score_block *block = calloc(1, sizeof *block + windows_bytes + nll_bytes);
    if (block == NULL) return FAIL(NO_MEMORY, "a result of %zu windows", message->n_windows);
    const enum status status = fill_block(message, block);
    if (status != STATUS_OK) {
        free(block);
        return status;
    }
    struct document_score *score = &block->score.score;
    if (message->with_windows || message->n_windows > 0) {
        struct window_score *window = (struct window_score *)(void *)(block + 1);
        for (size_t i = 0; i < message->n_windows; i++) {
            window[i].first = message->windows[i]->first;
            window[i].scored = message->windows[i]->scored;
            window[i].nll = message->windows[i]->nll;
        }
        score->windows = window;
        score->window_count = (int64_t)message->n_windows;
    }
    if (message->with_token_nll || message->n_token_nll > 0) {
        float *nll = (float *)(void *)((char *)(block + 1) + windows_bytes);
        if (nll_bytes > 0) memcpy(nll, message->token_nll, nll_bytes);
        score->token_nll = nll;
        score->token_nll_count = (int64_t)message->n_token_nll;
        score->token_nll_first = message->token_nll_first;
    }
    *decoded = &block->score;
    return STATUS_OK;
}

enum status codec_decode_score(const void *message, size_t bytes, struct codec_score **decoded) {
    if (bytes > CODEC_MESSAGE_MOST) {
        return FAIL(BAD_INPUT, "a message of %zu bytes is no DocumentScore", bytes);
    }
    // A window of 20 bytes unpacks to a struct of 72, its head and a pointer.
    struct codec_memory memory = {.left = 16 * bytes + 1024 * 1024};
    ProtobufCAllocator allocator = codec_allocator(&memory);
    Longscan__DocumentScore *unpacked =
        longscan__document_score__unpack(&allocator, bytes, message);
    if (unpacked == NULL) {
        if (memory.failed) return FAIL(NO_MEMORY, "a result of %zu bytes", bytes);
        return FAIL(BAD_INPUT, "a message of %zu bytes is no DocumentScore", bytes);
    }
    const enum status status = make_score(unpacked, decoded);
    longscan__document_score__free_unpacked(unpacked, &allocator);
    return status;
}

void codec_score_free(struct codec_score *score) {
    free(score); // the first member of its block
}
