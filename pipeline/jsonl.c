// JSONL lines as documents.
#include "pipeline/jsonl.h"

#include "ops/base/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TOKENS_FIELD "tokens"

// What has been seen of a line. Strings still have their escapes; they point into the line.
struct line {
    char *id, *text;
    size_t id_bytes, text_bytes;
    bool has_tokens, id_is_text;
    unsigned keys; // bit i: the i-th of the keys that mean something here has come
};

void jsonl_open(struct jsonl *jsonl, const char *id_field, const char *text_field) {
    memset(jsonl, 0, sizeof *jsonl);
    jsonl->id_field = id_field;
    jsonl->text_field = text_field;
}

__attribute__((format(printf, 2, 3))) static bool refuse(struct jsonl *jsonl, const char *format,
                                                         ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(jsonl->wrong, sizeof jsonl->wrong, format, arguments);
    va_end(arguments);
    return false;
}

// Reads an integer as JSON writes it. Ids are 31 bits here; the vocabulary is checked later.
static bool take_token(const char **at, const char *end) {
    int64_t value = 0;
    const char *digit = *at;
    while (digit < end && *digit >= '0' && *digit <= '9') {
        value = value * 10 + (*digit++ - '0');
        if (value > INT32_MAX) return false;
    }
    if (digit == *at || (digit > *at + 1 && **at == '0')) return false;
    *at = digit;
    return true;
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static const char *skip_space(const char *at, const char *end) {
    while (at < end && is_space(*at))
        at++;
    return at;
}

// What follows an array's bracket, up to and with the other, if all of it is token ids; else NULL,
// and tokens->left of them are good. Several times as fast as the reader of any JSON.
static const char *scan_tokens(const char *at, const char *end, struct jsonl_tokens *tokens) {
    at = skip_space(at, end);
    *tokens = (struct jsonl_tokens){.at = at};
    if (at < end && *at == ']') return at + 1;
    for (;;) {
        if (!take_token(&at, end)) return NULL;
        at = skip_space(at, end);
        if (at == end || (*at != ',' && *at != ']')) return NULL;
        tokens->left++;
        if (*at++ == ']') return at;
        at = skip_space(at, end);
    }
}

int64_t jsonl_tokens_next(struct jsonl_tokens *tokens, int32_t *token, int64_t most) {
    int64_t count = tokens->left < most ? tokens->left : most;
    const char *at = tokens->at;
    for (int64_t i = 0; i < count; i++) {
        while (*at < '0' || *at > '9') {
            at++;
        }
        int32_t value = 0;
        while (*at >= '0' && *at <= '9') {
            value = value * 10 + (*at++ - '0');
        }
        token[i] = value;
    }
    tokens->at = at;
    tokens->left -= count;
    return count;
}

// The reader hands out const pointers into the line, which is ours to change.
static char *in_line(char *line, const char *within) {
    return line + (within - line);
}

static bool read_tokens(struct jsonl *jsonl, struct json *json, struct line *line,
                        struct jsonl_tokens *tokens) {
    const char *raw = NULL;
    size_t bytes = 0;
    enum json_type type = json_peek(json);
    if (type == JSON_NULL) return json_null(json);
    if (type != JSON_ARRAY && type != JSON_BAD) return refuse(jsonl, "its tokens are no array");
    if (type == JSON_ARRAY) {
        const char *end = scan_tokens(json->text + json->at + 1, json->text + json->bytes, tokens);
        if (end != NULL) {
            json->at = (size_t)(end - json->text);
            json->begun = true;
            line->has_tokens = true;
            return true;
        }
    }
    if (!json_raw(json, &raw, &bytes)) return false; // it is not even JSON
    return refuse(jsonl, "token %lld is not an integer from 0 to 2147483647",
                  (long long)tokens->left);
}

static bool read_id(struct jsonl *jsonl, struct json *json, char *start, struct line *line) {
    const char *raw = NULL;
    enum json_type type = json_peek(json);
    if (type == JSON_NULL) return json_null(json);
    line->id_is_text = type == JSON_STRING;
    if (type == JSON_STRING) {
        if (!json_string(json, &raw, &line->id_bytes)) return false;
    } else if (type == JSON_NUMBER || type == JSON_BAD) {
        if (!json_raw(json, &raw, &line->id_bytes)) return false;
    } else {
        return refuse(jsonl, "its \"%.64s\" is neither a string nor a number", jsonl->id_field);
    }
    line->id = in_line(start, raw);
    return true;
}

static bool read_text(struct jsonl *jsonl, struct json *json, char *start, struct line *line) {
    const char *raw = NULL;
    enum json_type type = json_peek(json);
    if (type == JSON_NULL) return json_null(json);
    if (type != JSON_STRING && type != JSON_BAD) {
        return refuse(jsonl, "its \"%.64s\" is no string", jsonl->text_field);
    }
    if (!json_string(json, &raw, &line->text_bytes)) return false;
    line->text = in_line(start, raw);
    return true;
}

// A key that the line has had before? They are few: all of them fit into ATTRIBUTES_BYTES_MOST.
static bool is_repeated(const struct jsonl *jsonl, const char *key, size_t bytes) {
    size_t first = 0;
    for (size_t i = 0; i < jsonl->key_count; i++) {
        size_t end = jsonl->key_end[i];
        if (end - first == bytes && memcmp(jsonl->keys + first, key, bytes) == 0) return true;
        first = end;
    }
    return false;
}

static bool read_attribute(struct jsonl *jsonl, struct json *json, const char *key,
                           size_t key_bytes) {
    const char *raw = NULL;
    size_t raw_bytes = 0;
    if (!json_raw(json, &raw, &raw_bytes)) return false;
    size_t have = jsonl->attributes_bytes, left = sizeof jsonl->attributes - have;
    size_t comma = have > 0;
    if (key_bytes >= left || raw_bytes >= left || comma + key_bytes + raw_bytes + 3 > left) {
        return refuse(jsonl, "its other fields take more than %d bytes", ATTRIBUTES_BYTES_MOST);
    }
    char *at = jsonl->attributes + have;
    if (comma) *at++ = ',';
    *at++ = '"';
    memcpy(at, key, key_bytes);
    at += key_bytes;
    *at++ = '"';
    *at++ = ':';
    memcpy(at, raw, raw_bytes);
    jsonl->attributes_bytes += comma + key_bytes + raw_bytes + 3;

    // The keys are no longer than the attributes they stand in, so they fit.
    size_t first = jsonl->key_count == 0 ? 0 : jsonl->key_end[jsonl->key_count - 1];
    size_t bytes = json_unescape(key, key_bytes, jsonl->keys + first);
    if (is_repeated(jsonl, jsonl->keys + first, bytes)) {
        return refuse(jsonl, "it has the key \"%.*s\" twice", key_bytes < 64 ? (int)key_bytes : 64,
                      key);
    }
    jsonl->key_end[jsonl->key_count++] = first + bytes;
    return true;
}

static bool read_member(struct jsonl *jsonl, struct json *json, char *start, const char *key,
                        size_t key_bytes, struct line *line, struct jsonl_tokens *tokens) {
    const char *const names[] = {jsonl->id_field, jsonl->text_field, TOKENS_FIELD};
    for (unsigned i = 0; i < 3; i++) {
        if (!json_is(key, key_bytes, names[i])) continue;
        if ((line->keys >> i & 1) != 0) {
            return refuse(jsonl, "it has the key \"%.64s\" twice", names[i]);
        }
        line->keys |= 1U << i;
        return i == 0   ? read_id(jsonl, json, start, line)
               : i == 1 ? read_text(jsonl, json, start, line)
                        : read_tokens(jsonl, json, line, tokens);
    }
    return read_attribute(jsonl, json, key, key_bytes);
}

static bool read_line(struct jsonl *jsonl, char *start, size_t bytes, struct line *line,
                      struct jsonl_tokens *tokens) {
    struct json json;
    const char *key = NULL;
    size_t key_bytes = 0;
    jsonl->wrong[0] = '\0';
    jsonl->attributes_bytes = 0;
    jsonl->key_count = 0;
    json_open(&json, start, bytes);
    bool good = json_object(&json);
    while (good && json_key(&json, &key, &key_bytes)) {
        good = read_member(jsonl, &json, start, key, key_bytes, line, tokens);
    }
    good = good && json_end(&json);
    if (good || jsonl->wrong[0] != '\0') return good;
    return refuse(jsonl, "it is not a JSON object: %s at byte %zu",
                  json.wrong == NULL ? "wrong" : json.wrong, json.wrong_at);
}

// What is wrong with it; NULL: nothing. A line that is refused stays as it came.
static const char *settle_id(struct line *line) {
    static const char too_long[] = "its id is longer than 1024 bytes";
    char id[6 * ID_BYTES_MOST]; // the longest escape of a byte
    _Static_assert(ID_BYTES_MOST == 1024, "said in words");
    if (!line->id_is_text) return line->id_bytes > ID_BYTES_MOST ? too_long : NULL;
    if (line->id_bytes > sizeof id) return too_long;
    const size_t bytes = json_unescape(line->id, line->id_bytes, id);
    if (bytes > ID_BYTES_MOST) return too_long;
    // in protobuf it would pass for another
    if (bytes > 0 && memchr(id, '\0', bytes) != NULL) return "its id has a NUL inside";
    if (bytes > 0) memcpy(line->id, id, bytes);
    line->id_bytes = bytes;
    return NULL;
}

bool jsonl_parse(struct jsonl *jsonl, char *line, size_t bytes, struct jsonl_document *document) {
    struct line seen = {0};
    struct jsonl_tokens tokens = {0};
    if (!read_line(jsonl, line, bytes, &seen, &tokens)) return false;
    if ((seen.text != NULL) == seen.has_tokens) {
        return refuse(jsonl,
                      seen.has_tokens ? "it has both \"%.64s\" and \"%s\""
                                      : "it has neither \"%.64s\" nor \"%s\"",
                      jsonl->text_field, TOKENS_FIELD);
    }
    const char *wrong = settle_id(&seen);
    if (wrong != NULL) return refuse(jsonl, "%s", wrong);
    if (seen.text != NULL) {
        seen.text_bytes = json_unescape(seen.text, seen.text_bytes, seen.text);
    }
    *document = (struct jsonl_document){
        .id = seen.id_bytes == 0 ? NULL : seen.id,
        .id_bytes = seen.id_bytes,
        .text = seen.text,
        .text_bytes = seen.text_bytes,
        .tokens = tokens,
        .attributes = jsonl->attributes,
        .attributes_bytes = jsonl->attributes_bytes,
    };
    return true;
}
