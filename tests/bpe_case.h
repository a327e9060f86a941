#pragma once
// Tokenizers made for a test, and texts encoded whole or cut up at random.

#include "ops/base/json.h"
#include "ops/base/utf8.h"
#include "pipeline/bpe_tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline uint64_t draw_bits(uint64_t *state) { // splitmix64
    uint64_t z = *state += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

static inline size_t draw_below(uint64_t *state, size_t below) {
    return (size_t)(draw_bits(state) % below);
}

struct ids {
    int32_t *id; // freed by the next encode_text and by ids_free
    size_t count, room;
};

static inline void ids_free(struct ids *ids) {
    free(ids->id);
    *ids = (struct ids){0};
}

// cuts: the state of the draw that cuts text and room; NULL: in one go.
static inline enum status encode_text(struct tokenizer *tokenizer, const char *text, size_t bytes,
                                      uint64_t *cuts, struct ids *ids) {
    ids->count = 0;
    tokenizer->begin(tokenizer);
    for (bool done = false; !done;) {
        static const size_t sizes[] = {2, 40, 5000};
        const size_t most = cuts == NULL ? bytes : sizes[draw_below(cuts, 3)];
        size_t some = cuts == NULL ? bytes : draw_below(cuts, most + 1);
        if (some > bytes) some = bytes;
        const size_t room = cuts == NULL ? 65536 : 1 + draw_below(cuts, 300);
        if (ids->count + room > ids->room) {
            ids->room = 2 * (ids->count + room);
            ids->id = realloc(ids->id, ids->room * sizeof *ids->id);
            if (ids->id == NULL) abort();
        }
        // in memory of its own, so that sanitizers see a step too far
        char *piece = malloc(some + 1);
        if (piece == NULL) abort();
        if (some > 0) memcpy(piece, text, some);
        struct tokenizer_turn turn = {.text = piece,
                                      .bytes = some,
                                      .ends = some == bytes,
                                      .token = ids->id + ids->count,
                                      .room = (int64_t)room};
        const enum status status = tokenizer->encode(tokenizer, &turn);
        free(piece);
        if (status != STATUS_OK) return status;
        if (turn.used > some || turn.tokens > turn.room) abort();
        if (turn.used < some && turn.tokens < turn.room) abort(); // it may not idle
        text += turn.used;
        bytes -= turn.used;
        ids->count += (size_t)turn.tokens;
        done = turn.done;
    }
    return STATUS_OK;
}

// Owns: free. Terminated.
static inline char *decode_ids(struct tokenizer *tokenizer, const struct ids *ids, size_t *bytes) {
    size_t room = 16;
    char *text = malloc(room);
    if (text == NULL) abort();
    *bytes = 0;
    for (size_t i = 0; i < ids->count; i++) {
        size_t more = 0;
        const char *token = tokenizer->bytes_of(tokenizer, ids->id[i], &more);
        if (token == NULL) abort();
        while (*bytes + more + 1 > room) {
            room *= 2;
            text = realloc(text, room);
            if (text == NULL) abort();
        }
        memcpy(text + *bytes, token, more);
        *bytes += more;
    }
    text[*bytes] = '\0';
    return text;
}

// The letter of a byte, as GPT-2 defined it.
static inline size_t byte_letter(int byte, char out[4]) {
    const bool prints =
        (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    uint32_t code = 0x100;
    if (prints) return utf8_write((uint32_t)byte, out);
    for (int before = 0; before < byte; before++) {
        code += !((before >= '!' && before <= '~') || (before >= 0xA1 && before <= 0xAC) ||
                  before >= 0xAE);
    }
    return utf8_write(code, out);
}

// What a tokenizer.json is put together from; NULL: the plain case.
struct bpe_case {
    const char *vocab;   // members behind those of the bytes, ids 256 and up, each after a comma
    const char *merges;  // of a list
    const char *added;   // of a list
    const char *outside; // members of the file: normalizer, pre_tokenizer, ...
    const char *model;   // members of the model, each after a comma
};

#define BYTE_LEVEL "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define NFC_FIRST  "\"normalizer\":{\"type\":\"NFC\"}," BYTE_LEVEL

// Owns: free.
static inline char *bpe_json(const struct bpe_case *c) {
    const char *vocab = c->vocab == NULL ? "" : c->vocab;
    const char *merges = c->merges == NULL ? "" : c->merges;
    const char *added = c->added == NULL ? "" : c->added;
    const char *outside = c->outside == NULL ? BYTE_LEVEL : c->outside;
    const char *model = c->model == NULL ? "" : c->model;
    const size_t room =
        8192 + strlen(vocab) + strlen(merges) + strlen(added) + strlen(outside) + strlen(model);
    char *json = malloc(room);
    if (json == NULL) abort();
    int at =
        snprintf(json, room, "{%s,\"added_tokens\":[%s],\"model\":{\"type\":\"BPE\"%s,\"vocab\":{",
                 outside, added, model);
    for (int byte = 0; byte < 256; byte++) {
        char letter[4], escaped[24];
        const size_t count = byte_letter(byte, letter);
        const size_t bytes = json_escape(letter, count, escaped);
        at += snprintf(json + at, room - (size_t)at, "%s\"%.*s\":%d", byte == 0 ? "" : ",",
                       (int)bytes, escaped, byte);
    }
    snprintf(json + at, room - (size_t)at, "%s},\"merges\":[%s]}}", vocab, merges);
    return json;
}

static inline enum status bpe_make(const struct bpe_case *c, enum text_errors errors,
                                   struct tokenizer **tokenizer) {
    char *json = bpe_json(c);
    const size_t bytes = strlen(json);
    char *exact = malloc(bytes);
    if (exact == NULL) abort();
    memcpy(exact, json, bytes);
    free(json);
    const enum status status = bpe_tokenizer_make("case.json", exact, bytes, errors, tokenizer);
    free(exact);
    return status;
}
