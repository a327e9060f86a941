#pragma once
// A pull reader for JSON text in memory, and the few things a writer needs. One for all: config
// files (which hold Infinity in the wild), safetensors headers (64-bit offsets), JSONL lines
// (long strings, long arrays of ids). Checks syntax, UTF-8, escapes, depth and number ranges; allocates
// nothing. docs/adr/0003 says why no library.

#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

C_BEGIN

#define JSON_DEPTH_MOST 64

// Set up by json_open; the text need not be terminated and stays the caller's.
struct json {
    const char *text;
    size_t bytes, at;
    int depth;
    char open[JSON_DEPTH_MOST]; // '{' or '[' of each level
    bool begun;                 // the level has had an item
    bool infinities;   // json_skip and json_raw take NaN and Infinity too; set by the caller
    const char *wrong; // what is wrong with the text; NULL: nothing so far
    size_t wrong_at;
};

enum json_type {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
    JSON_BAD
};

void json_open(struct json *json, const char *text, size_t bytes);
enum json_type json_peek(struct json *json); // of the value that comes next

// Each reads one value. false: it is not of that kind or not well formed, and json->wrong says so;
// after that every call returns false. So a reader may check once, at the end.
bool json_object(struct json *json); // then: while (json_key(...)) { read a value }
bool json_array(struct json *json);  // then: while (json_item(...)) { read a value }
// The next key, its raw text between the quotes (escapes not undone); false at the object's end.
bool json_key(struct json *json, const char **key, size_t *bytes);
bool json_item(struct json *json); // is there another? false at the array's end
bool json_is(const char *key, size_t bytes, const char *name); // key, its escapes undone, == name
bool json_int(struct json *json, int64_t *value);   // an integer in range; 1.0 and 1e3 are not
bool json_number(struct json *json, double *value); // also NaN, Infinity, -Infinity
bool json_bool(struct json *json, bool *value);
bool json_null(struct json *json);
// The raw text between the quotes; json_unescape makes bytes of it.
bool json_string(struct json *json, const char **raw, size_t *raw_bytes);
bool json_skip(struct json *json);                                     // any value
bool json_raw(struct json *json, const char **raw, size_t *raw_bytes); // any value, as written
bool json_end(struct json *json);                                      // nothing but space follows

// Undo escapes; out needs raw_bytes. A lone surrogate becomes U+FFFD. Returns the bytes written.
size_t json_unescape(const char *raw, size_t raw_bytes, char *out);
// Escape bytes for between quotes; out needs 6 * bytes. Bytes that are not UTF-8 become U+FFFD.
size_t json_escape(const char *bytes, size_t count, char *out);
bool utf8_valid(const char *bytes, size_t count);

C_END
