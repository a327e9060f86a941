#include "src/passkey_description.h"

#include "ops/base/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LENGTH_MOST (INT64_C(1) << 40)
#define SHOWN_MOST  40 // bytes of a value in a message

__attribute__((format(printf, 2, 3))) static bool refuse(struct passkey_wrong *wrong,
                                                         const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(wrong->text, sizeof wrong->text, format, arguments);
    va_end(arguments);
    return false;
}

// Our own members, in the order of `fields`; the others name the task, or mean nothing here.
enum field { FIELD_ID, FIELD_LENGTH, FIELD_DEPTH, FIELD_KEY, FIELD_SEED, FIELDS };
static const char *const fields[FIELDS] = {"id", "length", "depth", "key", "seed"};

static enum field field_of(const char *key, size_t bytes) {
    int field = 0;
    while (field < FIELDS && !json_is(key, bytes, fields[field])) {
        field++;
    }
    return (enum field)field;
}

// Terminated into text[most], without control characters.
static bool take_text(struct json *json, const char *name, char *text, size_t most,
                      struct passkey_wrong *wrong) {
    char plain[PASSKEY_ID_MOST * 6]; // as long as its escapes are
    const char *raw = NULL;
    size_t raw_bytes = 0;
    if (!json_string(json, &raw, &raw_bytes)) return refuse(wrong, "%s is no string", name);
    const size_t bytes = raw_bytes <= sizeof plain ? json_unescape(raw, raw_bytes, plain) : most;
    if (bytes == 0 || bytes >= most) {
        return refuse(wrong, "%s has not 1 to %zu bytes", name, most - 1);
    }
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)plain[i] < 0x20 || plain[i] == 0x7f) {
            return refuse(wrong, "%s has a control character", name);
        }
    }
    memcpy(text, plain, bytes);
    text[bytes] = '\0';
    return true;
}

static bool take_field(struct json *json, enum field field, struct passkey_description *description,
                       struct passkey_wrong *wrong) {
    int64_t seed = 0;
    switch (field) {
    case FIELD_ID: return take_text(json, "id", description->id, sizeof description->id, wrong);
    case FIELD_LENGTH:
        if (json_int(json, &description->length) && description->length > 0 &&
            description->length <= LENGTH_MOST) {
            return true;
        }
        return refuse(wrong, "length is no number of tokens");
    case FIELD_DEPTH:
        if (json_number(json, &description->depth) && description->depth >= 0 &&
            description->depth <= 1) { // nor NaN
            return true;
        }
        return refuse(wrong, "depth is no number from 0 to 1");
    case FIELD_KEY: return take_text(json, "key", description->key, sizeof description->key, wrong);
    case FIELD_SEED:
        if (!json_int(json, &seed) || seed < 0) return refuse(wrong, "seed is no whole number");
        description->seed = (uint64_t)seed;
        return true;
    case FIELDS: break;
    }
    return false; // not reached: the caller has skipped it
}

// The job's own value of this member; false: the task has no such member.
static bool find_own(const char *task, const char *key, size_t key_bytes, const char **value,
                     size_t *value_bytes) {
    char name[512];
    struct json json;
    const char *own = NULL;
    size_t own_bytes = 0;
    if (key_bytes >= sizeof name) return false;
    name[json_unescape(key, key_bytes, name)] = '\0';
    json_open(&json, task, strlen(task));
    if (!json_object(&json)) return false;
    while (json_key(&json, &own, &own_bytes)) {
        if (!json_raw(&json, value, value_bytes)) return false;
        if (json_is(own, own_bytes, name)) return true;
    }
    return false;
}

// Equal as they are written, or as strings or numbers.
static bool is_equal(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    struct json left, right;
    double x = 0, y = 1;
    if (a_bytes == b_bytes && memcmp(a, b, a_bytes) == 0) return true;
    json_open(&left, a, a_bytes);
    json_open(&right, b, b_bytes);
    if (json_peek(&left) != json_peek(&right)) return false;
    if (json_peek(&left) == JSON_NUMBER) {
        return json_number(&left, &x) && json_number(&right, &y) && x <= y && y <= x;
    }
    return false;
}

static bool check_task(struct json *json, const char *task, const char *key, size_t key_bytes,
                       struct passkey_wrong *wrong) {
    const char *theirs = NULL, *ours = NULL;
    size_t theirs_bytes = 0, ours_bytes = 0;
    if (!json_raw(json, &theirs, &theirs_bytes)) return false;
    if (!find_own(task, key, key_bytes, &ours, &ours_bytes)) return true;
    if (is_equal(theirs, theirs_bytes, ours, ours_bytes)) return true;
    const bool cut = theirs_bytes > SHOWN_MOST, own_cut = ours_bytes > SHOWN_MOST;
    return refuse(wrong, "it is of another task: %.*s is %.*s%s, and %.*s%s in this job",
                  (int)key_bytes, key, cut ? SHOWN_MOST : (int)theirs_bytes, theirs,
                  cut ? "..." : "", own_cut ? SHOWN_MOST : (int)ours_bytes, ours,
                  own_cut ? "..." : "");
}

static bool take_member(struct json *json, const char *task, unsigned *seen, const char *key,
                        size_t key_bytes, struct passkey_description *description,
                        struct passkey_wrong *wrong) {
    const enum field field = field_of(key, key_bytes);
    if (field == FIELDS) return check_task(json, task, key, key_bytes, wrong);
    if ((*seen >> field & 1u) != 0) return refuse(wrong, "%s stands twice", fields[field]);
    *seen |= 1u << field;
    if (json_peek(json) == JSON_NULL && (field == FIELD_KEY || field == FIELD_SEED)) {
        return json_null(json);
    }
    return take_field(json, field, description, wrong);
}

bool passkey_description_read(const char *text, size_t bytes, const char *task, uint64_t seed,
                              struct passkey_description *description,
                              struct passkey_wrong *wrong) {
    struct passkey_description read = {.seed = seed, .place = description->place};
    struct json json;
    const char *key = NULL;
    size_t key_bytes = 0;
    unsigned seen = 0;
    wrong->text[0] = '\0';
    if (bytes > PASSKEY_MESSAGE_MOST) return refuse(wrong, "%zu bytes are too many", bytes);
    json_open(&json, text, bytes);
    if (!json_object(&json)) return refuse(wrong, "not a JSON object");
    while (json_key(&json, &key, &key_bytes)) {
        if (!take_member(&json, task, &seen, key, key_bytes, &read, wrong)) break;
    }
    if (json.wrong == NULL && wrong->text[0] == '\0') (void)json_end(&json);
    if (wrong->text[0] != '\0') return false;
    if (json.wrong != NULL)
        return refuse(wrong, "not JSON: %s at byte %zu", json.wrong, json.wrong_at);
    for (int field = FIELD_ID; field <= FIELD_DEPTH; field++) {
        if ((seen >> field & 1u) == 0) return refuse(wrong, "there is no %s", fields[field]);
    }
    *description = read;
    return true;
}
