// The tokens of a tokenizer.json, its merges, and the tokens that were added to them.
#include "ops/base/room.h"
#include "pipeline/bpe_characters.h"
#include "pipeline/bpe_vocab_inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

// Each byte is written as one character: those that print as themselves, the others as U+0100 and
// on, in order.
static bool prints(int byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

#define LETTERS (0x100 + 68)

// Which byte each character up to LETTERS stands for; -1: none.
static void fill_letters(int16_t letter[LETTERS]) {
    int others = 0x100;
    memset(letter, -1, LETTERS * sizeof *letter);
    for (int byte = 0; byte < 256; byte++) {
        letter[prints(byte) ? byte : others++] = (int16_t)byte;
    }
}

// false: a character stands for no byte. out needs `bytes`.
static bool to_bytes(const int16_t letter[LETTERS], const char *text, size_t bytes, char *out,
                     uint32_t *count) {
    *count = 0;
    for (size_t at = 0, length = 0; at < bytes; at += length) {
        const uint32_t code = character_at(text + at, &length);
        if (code >= LETTERS || letter[code] < 0) return false;
        out[(*count)++] = (char)(unsigned char)letter[code];
    }
    return true;
}

// Where the name is or would be.
static uint32_t *slot_of(const struct vocab_parsing *parsing, const char *text, size_t bytes) {
    const size_t mask = parsing->slots - 1;
    for (size_t i = XXH3_64bits(text, bytes) & mask;; i = (i + 1) & mask) {
        uint32_t *slot = &parsing->slot[i];
        if (*slot == 0) return slot;
        const struct vocab_name *name = &parsing->name[*slot - 1];
        if (name->bytes == bytes && memcmp(name->text, text, bytes) == 0) return slot;
    }
}

static int32_t id_of(const struct vocab_parsing *parsing, const char *text, size_t bytes) {
    const uint32_t slot = *slot_of(parsing, text, bytes);
    return slot == 0 ? -1 : parsing->name[slot - 1].id;
}

// Every name, in its order; not yet in the table.
static enum status read_names(struct vocab_parsing *parsing, const struct vocab_member *vocab) {
    struct json json;
    const char *key = NULL;
    size_t key_bytes = 0, room = 0;
    char *at = parsing->name_text;
    json_open(&json, vocab->raw, vocab->bytes);
    json_object(&json);
    while (json_key(&json, &key, &key_bytes)) {
        int64_t id = 0;
        void *names = parsing->name;
        if (!json_int(&json, &id)) break;
        const size_t bytes = json_unescape(key, key_bytes, at);
        if (id < 0 || id >= VOCAB_IDS_MOST || bytes == 0 || bytes > 2 * VOCAB_TOKEN_BYTES) {
            return FAIL(MISMATCH,
                        "%s: model.vocab: \"%.*s\" has id %lld: ids are 0 to %d, tokens 1 to %d "
                        "bytes",
                        parsing->path, key_bytes < 64 ? (int)key_bytes : 64, key, (long long)id,
                        VOCAB_IDS_MOST - 1, VOCAB_TOKEN_BYTES);
        }
        if (parsing->names >= VOCAB_IDS_MOST) {
            return FAIL(MISMATCH, "%s: model.vocab has more than %d tokens", parsing->path,
                        VOCAB_IDS_MOST);
        }
        TRY(room_for(&names, &room, parsing->names + 1, sizeof *parsing->name));
        parsing->name = names;
        parsing->name[parsing->names++] =
            (struct vocab_name){.text = at, .bytes = (uint32_t)bytes, .id = (int32_t)id};
        if (id >= parsing->vocab->ids) parsing->vocab->ids = (int32_t)id + 1;
        at += bytes;
    }
    if (json_end(&json) && parsing->names > 0) return STATUS_OK;
    return FAIL(MISMATCH,
                "%s: model.vocab is no object of tokens and their ids: %s at its byte %zu",
                parsing->path, json.wrong == NULL ? "it is empty" : json.wrong, json.wrong_at);
}

// All arrays of a size that the names and the added tokens fit in.
static enum status make_room(struct vocab_parsing *parsing, size_t text_bytes) {
    struct vocab *vocab = parsing->vocab;
    parsing->slots = 64;
    while (parsing->slots < 2 * parsing->names) {
        parsing->slots *= 2;
    }
    parsing->slot = calloc(parsing->slots, sizeof *parsing->slot);
    parsing->odd = calloc((size_t)VOCAB_IDS_MOST, sizeof *parsing->odd);
    vocab->token = calloc((size_t)VOCAB_IDS_MOST, sizeof *vocab->token);
    vocab->text = malloc(text_bytes + 1);
    parsing->text_at = vocab->text;
    if (parsing->slot != NULL && parsing->odd != NULL && vocab->token != NULL &&
        vocab->text != NULL) {
        return STATUS_OK;
    }
    return FAIL(NO_MEMORY, "a vocabulary of %zu tokens", parsing->names);
}

enum status vocab_read_tokens(struct vocab_parsing *parsing, const struct vocab_member *vocab,
                              size_t added_bytes) {
    int16_t letter[LETTERS];
    if (vocab_is_null(vocab)) return FAIL(MISMATCH, "%s has no model.vocab", parsing->path);
    parsing->name_text = malloc(vocab->bytes);
    if (parsing->name_text == NULL) return FAIL(NO_MEMORY, "a vocabulary");
    TRY(read_names(parsing, vocab));
    TRY(make_room(parsing, vocab->bytes + added_bytes));
    fill_letters(letter);
    for (size_t i = 0; i < parsing->names; i++) {
        const struct vocab_name *name = &parsing->name[i];
        struct vocab_token *token = &parsing->vocab->token[name->id];
        uint32_t *slot = slot_of(parsing, name->text, name->bytes);
        if (*slot != 0 || token->text != NULL) {
            return FAIL(MISMATCH, "%s: model.vocab has %s: \"%.*s\", id %d", parsing->path,
                        *slot != 0 ? "a token twice" : "two tokens of one id",
                        name->bytes < 64 ? (int)name->bytes : 64, name->text, name->id);
        }
        *slot = (uint32_t)i + 1;
        token->text = parsing->text_at;
        parsing->odd[name->id] =
            !to_bytes(letter, name->text, name->bytes, parsing->text_at, &token->bytes) ||
            token->bytes > VOCAB_TOKEN_BYTES;
        parsing->text_at += token->bytes;
        token->of_merges = !parsing->odd[name->id];
    }
    for (int byte = 0; byte < 256; byte++) {
        parsing->vocab->byte[byte] = -1;
    }
    for (size_t i = 0; i < parsing->names; i++) {
        const struct vocab_token *token = &parsing->vocab->token[parsing->name[i].id];
        if (token->bytes != 1 || parsing->odd[parsing->name[i].id]) continue;
        parsing->vocab->byte[(unsigned char)token->text[0]] = parsing->name[i].id;
    }
    return STATUS_OK;
}

#define MERGE_BYTES (4 * VOCAB_TOKEN_BYTES) // of a merge's two names

// The two names of a merge into `both`, one behind the other; "a b" or ["a", "b"].
static bool read_merge(struct json *json, char both[MERGE_BYTES], size_t *left, size_t *bytes) {
    const char *raw = NULL;
    size_t raw_bytes = 0;
    if (json_peek(json) == JSON_STRING) {
        if (!json_string(json, &raw, &raw_bytes) || raw_bytes > MERGE_BYTES) return false;
        *bytes = json_unescape(raw, raw_bytes, both);
        const char *space = memchr(both, ' ', *bytes);
        if (space == NULL) return false;
        *left = (size_t)(space - both);
        *bytes -= *left + 1;
        memmove(both + *left, space + 1, *bytes);
        return memchr(both + *left, ' ', *bytes) == NULL;
    }
    size_t length[2] = {0, 0};
    int parts = 0;
    json_array(json);
    while (json_item(json)) {
        if (!json_string(json, &raw, &raw_bytes) || parts == 2) return false;
        const size_t before = parts == 0 ? 0 : length[0];
        if (raw_bytes > MERGE_BYTES - before) return false;
        length[parts++] = json_unescape(raw, raw_bytes, both + before);
    }
    *left = length[0];
    *bytes = length[1];
    return parts == 2;
}

enum status vocab_read_merges(struct vocab_parsing *parsing, const struct vocab_member *merges) {
    struct json json;
    char both[MERGE_BYTES];
    int32_t rank = 0;
    if (vocab_is_null(merges)) return FAIL(MISMATCH, "%s has no model.merges", parsing->path);
    json_open(&json, merges->raw, merges->bytes);
    json_array(&json);
    for (; json_item(&json); rank++) {
        size_t left = 0, right = 0;
        if (!read_merge(&json, both, &left, &right)) {
            if (json.wrong != NULL) break;
            return FAIL(MISMATCH, "%s: model.merges[%d] is not two tokens", parsing->path, rank);
        }
        const char *const text[] = {both, both + left, both};
        const size_t bytes[] = {left, right, left + right};
        int32_t id[3];
        for (int i = 0; i < 3; i++) {
            id[i] = id_of(parsing, text[i], bytes[i]);
            if (id[i] >= 0) continue;
            return FAIL(MISMATCH,
                        "%s: model.merges[%d] names \"%.*s\", which is not in model.vocab",
                        parsing->path, rank, bytes[i] < 64 ? (int)bytes[i] : 64, text[i]);
        }
        if (rank == INT32_MAX - 1) break;
        TRY(merges_add(&parsing->vocab->merges, id[0], id[1], rank, id[2]));
    }
    if (json_end(&json)) return STATUS_OK;
    return FAIL(MISMATCH, "%s: model.merges is no list of merges: %s at its byte %zu",
                parsing->path, json.wrong == NULL ? "too long" : json.wrong, json.wrong_at);
}

struct added {
    int64_t id;
    const char *content; // as it is written
    size_t content_bytes;
    bool normalized;
};

static enum status read_added_token(const struct vocab_parsing *parsing, int index, const char *raw,
                                    size_t bytes, struct added *added) {
    enum { ID, CONTENT, NORMALIZED, SPECIAL, WORD, LEFT, RIGHT, MEMBERS };
    struct vocab_member member[MEMBERS] = {
        {.name = "id"},          {.name = "content"}, {.name = "normalized"}, {.name = "special"},
        {.name = "single_word"}, {.name = "lstrip"},  {.name = "rstrip"}};
    char where[64];
    struct json json;
    bool special = false, value = false;
    snprintf(where, sizeof where, "added_tokens[%d]", index);
    TRY(vocab_members(parsing, where, raw, bytes, member, MEMBERS));
    for (int i = WORD; i <= RIGHT; i++) {
        TRY(vocab_flag(parsing, where, &member[i], false, &value));
        if (!value) continue;
        return FAIL(MISMATCH, "%s: %s.%s is true, which is not supported", parsing->path, where,
                    member[i].name);
    }
    TRY(vocab_flag(parsing, where, &member[SPECIAL], false, &special));
    TRY(vocab_flag(parsing, where, &member[NORMALIZED], !special, &added->normalized));
    json_open(&json, member[ID].raw == NULL ? "" : member[ID].raw, member[ID].bytes);
    if (!json_int(&json, &added->id) || member[CONTENT].raw == NULL ||
        member[CONTENT].raw[0] != '"') {
        return FAIL(MISMATCH, "%s: %s needs an id and a content", parsing->path, where);
    }
    added->content = member[CONTENT].raw + 1;
    added->content_bytes = member[CONTENT].bytes - 2;
    return STATUS_OK;
}

// Hugging Face does not believe the file's id: it takes that of model.vocab, or the next free one.
static int32_t expected_id(const struct vocab_parsing *parsing, const char *content, size_t bytes,
                           int32_t highest) {
    const int32_t id = id_of(parsing, content, bytes);
    const int32_t names = (int32_t)parsing->names;
    if (id >= 0) return id;
    return highest >= names ? highest + 1 : names;
}

static enum status add(struct vocab_parsing *parsing, int index, const struct added *added,
                       int32_t *highest) {
    struct vocab *vocab = parsing->vocab;
    const size_t bytes = json_unescape(added->content, added->content_bytes, parsing->text_at);
    if (bytes == 0 || bytes > VOCAB_TOKEN_BYTES) {
        return FAIL(MISMATCH, "%s: added_tokens[%d].content has %zu bytes, not 1 to %d",
                    parsing->path, index, bytes, VOCAB_TOKEN_BYTES);
    }
    const int32_t id = expected_id(parsing, parsing->text_at, bytes, *highest);
    if (added->id != id || id >= VOCAB_IDS_MOST) {
        return FAIL(MISMATCH,
                    "%s: added_tokens[%d].id is %lld; the vocabulary makes \"%.*s\" %d (ids are "
                    "below %d)",
                    parsing->path, index, (long long)added->id, bytes < 64 ? (int)bytes : 64,
                    parsing->text_at, id, VOCAB_IDS_MOST);
    }
    struct vocab_token *token = &vocab->token[id];
    const bool named = id_of(parsing, parsing->text_at, bytes) >= 0;
    // By chance its characters may be those that another token's bytes are written with.
    const bool other = named && !parsing->odd[id] &&
                       (token->bytes != bytes || memcmp(token->text, parsing->text_at, bytes) != 0);
    if (token->added || other || (token->text != NULL && !named)) {
        return FAIL(MISMATCH, "%s: added_tokens[%d].id: %d is another token's", parsing->path,
                    index, id);
    }
    *token = (struct vocab_token){.text = parsing->text_at,
                                  .bytes = (uint32_t)bytes,
                                  .added = true,
                                  .of_merges = token->of_merges,
                                  .normalized = added->normalized};
    parsing->text_at += bytes;
    if (id >= vocab->ids) vocab->ids = id + 1;
    if (id > *highest) *highest = id;
    return STATUS_OK;
}

enum status vocab_read_added(struct vocab_parsing *parsing, const struct vocab_member *added) {
    struct json json;
    int32_t highest = -1;
    if (vocab_is_null(added)) return STATUS_OK;
    json_open(&json, added->raw, added->bytes);
    json_array(&json);
    for (int index = 0; json_item(&json); index++) {
        const char *raw = NULL;
        size_t bytes = 0;
        struct added token = {0};
        if (!json_raw(&json, &raw, &bytes)) break;
        TRY(read_added_token(parsing, index, raw, bytes, &token));
        TRY(add(parsing, index, &token, &highest));
    }
    if (json_end(&json)) return STATUS_OK;
    return FAIL(MISMATCH, "%s: added_tokens is no list: %s at its byte %zu", parsing->path,
                json.wrong, json.wrong_at);
}

enum status vocab_check_tokens(struct vocab_parsing *parsing) {
    const struct vocab *vocab = parsing->vocab;
    for (size_t i = 0; i < parsing->names; i++) {
        const struct vocab_name *name = &parsing->name[i];
        if (!parsing->odd[name->id] || vocab->token[name->id].added) continue;
        return FAIL(
            MISMATCH,
            "%s: model.vocab: \"%.*s\" is longer than %d bytes or has characters that stand "
            "for no byte, as in a vocabulary that is not of bytes",
            parsing->path, name->bytes < 64 ? (int)name->bytes : 64, name->text, VOCAB_TOKEN_BYTES);
    }
    for (int byte = 0; byte < 256; byte++) {
        const bool never = byte == 0xC0 || byte == 0xC1 || byte > 0xF4; // in no UTF-8
        if (vocab->byte[byte] >= 0 || never) continue;
        return FAIL(MISMATCH, "%s: model.vocab has no token for the byte 0x%02X", parsing->path,
                    (unsigned)byte);
    }
    return STATUS_OK;
}
