// The pull reader: one pass over the text, no memory of its own, the first error stays.

#include "ops/base/json.h"

#include "ops/base/json_inner.h"
#include "ops/base/utf8.h"

void json_open(struct json *json, const char *text, size_t bytes) {
    *json = (struct json){.text = text, .bytes = bytes};
}

enum json_type json_peek(struct json *json) {
    if (json->wrong != NULL) return JSON_BAD;
    const int c = json_next_char(json);
    if (is_digit(c) || c == '-' || c == 'N' || c == 'I') return JSON_NUMBER;
    switch (c) {
    case '"': return JSON_STRING;
    case '[': return JSON_ARRAY;
    case '{': return JSON_OBJECT;
    case 't':
    case 'f': return JSON_BOOL;
    case 'n': return JSON_NULL;
    default: return JSON_BAD;
    }
}

static bool open_level(struct json *json, char kind, const char *expected) {
    if (json->wrong != NULL) return false;
    if (json_next_char(json) != kind) return json_refuse(json, expected);
    if (json->depth == JSON_DEPTH_MOST) return json_refuse(json, "nested too deeply");
    json->open[json->depth++] = kind;
    json->begun = false;
    json->at++;
    return true;
}

bool json_object(struct json *json) {
    return open_level(json, '{', "expected an object");
}

bool json_array(struct json *json) {
    return open_level(json, '[', "expected an array");
}

// To the level's next item. false: the level has ended (and is closed), or the text is wrong.
static bool next_item(struct json *json, char kind, char end) {
    if (json->wrong != NULL) return false;
    if (json->depth == 0 || json->open[json->depth - 1] != kind) {
        return json_refuse(json, "read as another kind of value than it is");
    }
    int c = json_next_char(json);
    if (c == end) {
        json->at++;
        json->depth--;
        json->begun = true;
        return false;
    }
    if (json->begun) {
        if (c != ',') return json_refuse(json, c < 0 ? "ends too early" : "expected a comma");
        json->at++;
        c = json_next_char(json);
        if (c == end) return json_refuse(json, "a comma before the end");
    }
    if (c < 0) return json_refuse(json, "ends too early");
    json->begun = true;
    return true;
}

bool json_item(struct json *json) {
    return next_item(json, '[', ']');
}

bool json_key(struct json *json, const char **key, size_t *bytes) {
    if (!next_item(json, '{', '}')) return false;
    if (!json_string(json, key, bytes)) return false;
    if (json_next_char(json) != ':') return json_refuse(json, "expected a colon");
    json->at++;
    return true;
}

bool json_bool(struct json *json, bool *value) {
    if (json->wrong != NULL) return false;
    json_next_char(json);
    const bool yes = json_take_word(json, "true");
    if (!yes && !json_take_word(json, "false")) return json_refuse(json, "expected true or false");
    *value = yes;
    return true;
}

bool json_null(struct json *json) {
    if (json->wrong != NULL) return false;
    json_next_char(json);
    return json_take_word(json, "null") || json_refuse(json, "expected null");
}

// How many of the next bytes are plain: ASCII, no quote, no backslash, no control character.
// Eight at a time; each term has a byte's top bit set if the byte is of that kind (or, for bytes
// above a hit only, by borrow; such a word is looked at byte by byte anyway).
static size_t plain_bytes(const char *text, size_t bytes) {
    const uint64_t ones = 0x0101010101010101U, tops = 0x8080808080808080U;
    size_t at = 0;
    for (; at + 8 <= bytes; at += 8) {
        uint64_t word;
        memcpy(&word, text + at, 8);
        const uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
        if (((word | (word - ones * 0x20) | (quote - ones) | (slash - ones)) & tops) != 0) break;
    }
    for (; at < bytes; at++) {
        const unsigned char c = (unsigned char)text[at];
        if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\') break;
    }
    return at;
}

// The bytes of the escape at text, which begins with a backslash; 0: it is none.
static size_t escape_bytes(const char *text, size_t bytes) {
    if (bytes < 2) return 0;
    if (text[1] != 'u') {
        return text[1] != '\0' && strchr("\"\\/bfnrt", text[1]) != NULL ? 2 : 0;
    }
    if (bytes < 6) return 0;
    for (size_t i = 2; i < 6; i++) {
        const int c = text[i] | 0x20;
        if (!is_digit((unsigned char)text[i]) && (c < 'a' || c > 'f')) return 0;
    }
    return 6;
}

bool json_string(struct json *json, const char **raw, size_t *raw_bytes) {
    if (json->wrong != NULL) return false;
    if (json_next_char(json) != '"') return json_refuse(json, "expected a string");
    const size_t first = ++json->at;
    for (;;) {
        json->at += plain_bytes(json->text + json->at, json->bytes - json->at);
        const char *text = json->text + json->at;
        const size_t left = json->bytes - json->at;
        if (left == 0) return json_refuse(json, "a string without an end");
        if (*text == '"') break;
        if ((unsigned char)*text < 0x20)
            return json_refuse(json, "a control character in a string");
        const size_t step = *text == '\\' ? escape_bytes(text, left) : utf8_sequence(text, left);
        if (step == 0) {
            return json_refuse(json, *text == '\\' ? "an unknown escape in a string" : "not UTF-8");
        }
        json->at += step;
    }
    *raw = json->text + first;
    *raw_bytes = json->at - first;
    json->at++;
    json->begun = true;
    return true;
}

static bool skip_scalar(struct json *json) {
    const char *raw;
    size_t raw_bytes;
    bool truth;
    switch (json_peek(json)) {
    case JSON_NULL: return json_null(json);
    case JSON_BOOL: return json_bool(json, &truth);
    case JSON_STRING: return json_string(json, &raw, &raw_bytes);
    case JSON_ARRAY: return json_array(json);
    case JSON_OBJECT: return json_object(json);
    case JSON_NUMBER: return json_skip_number(json);
    case JSON_BAD: break;
    }
    return json_refuse(json, "expected a value");
}

bool json_skip(struct json *json) {
    const int outer = json->depth;
    for (;;) {
        if (!skip_scalar(json)) return false;
        bool more = false;
        while (json->depth > outer && !more) {
            const char *key;
            size_t key_bytes;
            more = json->open[json->depth - 1] == '{' ? json_key(json, &key, &key_bytes)
                                                      : json_item(json);
            if (json->wrong != NULL) return false;
        }
        if (!more) return true;
    }
}

bool json_raw(struct json *json, const char **raw, size_t *raw_bytes) {
    if (json->wrong != NULL) return false;
    json_next_char(json);
    const size_t first = json->at;
    if (!json_skip(json)) return false;
    *raw = json->text + first;
    *raw_bytes = json->at - first;
    return true;
}

bool json_end(struct json *json) {
    if (json->wrong != NULL) return false;
    if (!json->begun || json->depth > 0) return json_refuse(json, "ends too early");
    if (json_next_char(json) >= 0) return json_refuse(json, "more after the end");
    return true;
}
