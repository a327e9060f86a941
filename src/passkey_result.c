#include "src/passkey_result.h"

#include "ops/base/json.h"
#include "ops/base/utf8.h"
#include "pipeline/json_put.h"
#include "src/passkey_report_inner.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

enum status passkey_put_hash(struct bytes *out, const char *before, uint64_t hash) {
    char text[24];
    snprintf(text, sizeof text, "xxh3:%016" PRIx64, hash);
    return passkey_put_text(out, before, text);
}

enum status passkey_put_text(struct bytes *out, const char *before, const char *text) {
    if (text != NULL) return json_put_string(out, before, text, strlen(text));
    TRY(json_put(out, before));
    return json_put(out, "null");
}

static enum status put_bool(struct bytes *out, const char *before, bool value) {
    TRY(json_put(out, before));
    return json_put(out, value ? "true" : "false");
}

enum status passkey_put_sample(struct bytes *out, const struct passkey_sample *sample) {
    TRY(passkey_put_text(out, "{\"id\":", sample->id));
    TRY(json_put_int(out, ",\"length\":", sample->length));
    TRY(json_put_short(out, ",\"depth\":", sample->depth));
    TRY(json_put_int(out, ",\"number\":", sample->number));
    TRY(json_put_int(out, ",\"position\":", sample->position));
    TRY(json_put_int(out, ",\"units\":", sample->units));
    return passkey_put_text(out, ",\"key\":", sample->key);
}

static enum status put_line(const struct passkey_run *run, const struct passkey_result *result,
                            struct bytes *out) {
    TRY(passkey_put_sample(out, &result->sample));
    TRY(json_put_int(out, ",\"tokens\":", result->tokens));
    TRY(json_put_int(out, ",\"answer_tokens\":", result->answer_tokens));
    TRY(json_put_string(out, ",\"prediction\":", result->prediction, result->prediction_bytes));
    TRY(put_bool(out, ",\"correct\":", result->correct));
    TRY(put_bool(out, ",\"exact\":", result->exact));
    TRY(json_put_double(out, ",\"answer_nll\":", result->answer_nll));
    TRY(json_put_double(out, ",\"margin\":", result->margin));
    if (run->task != NULL && run->task[0] != '\0') {
        TRY(json_put(out, ","));
        TRY(json_put(out, run->task));
    }
    TRY(passkey_put_hash(out, ",\"model\":", run->model));
    TRY(passkey_put_hash(out, ",\"settings\":", run->settings));
    TRY(passkey_put_hash(out, ",\"numerics\":", run->numerics));
    return json_put(out, "}\n");
}

enum status passkey_result_put(const struct passkey_run *run, const struct passkey_result *result,
                               struct bytes *out) {
    const size_t before = out->count;
    const enum status status = put_line(run, result, out);
    if (status != STATUS_OK) out->count = before; // half a line is no line
    return status;
}

// What a line is read into; the caller's own stays as it is until the line has proved good.
struct line {
    struct passkey_result result;
    struct passkey_run run;
};

// Text with its end, for members that are compared and printed: no zero bytes, and not empty.
static bool read_text(struct json *json, size_t room, char *text) {
    char whole[6 * PASSKEY_ID_MOST];
    const char *raw = NULL;
    size_t raw_bytes = 0;
    if (!json_string(json, &raw, &raw_bytes) || raw_bytes > sizeof whole) return false;
    const size_t bytes = json_unescape(raw, raw_bytes, whole);
    if (bytes == 0 || bytes >= room || memchr(whole, '\0', bytes) != NULL) return false;
    memcpy(text, whole, bytes);
    text[bytes] = '\0';
    return true;
}

static bool read_id(struct json *json, void *id) {
    return read_text(json, PASSKEY_ID_MOST, id);
}

static bool read_key(struct json *json, void *key) {
    return read_text(json, PASSKEY_KEY_MOST, key);
}

// Bytes that were not UTF-8 have become U+FFFD, which is longer: what there is no room for any more is
// cut between two characters.
static bool read_prediction(struct json *json, void *read) {
    struct passkey_result *result = read;
    char whole[6 * PASSKEY_PREDICTION_MOST];
    const char *raw = NULL;
    size_t raw_bytes = 0, bytes = 0;
    if (!json_string(json, &raw, &raw_bytes) || raw_bytes > sizeof whole) return false;
    const size_t whole_bytes = json_unescape(raw, raw_bytes, whole);
    while (bytes < whole_bytes) {
        const size_t step = utf8_sequence(whole + bytes, whole_bytes - bytes);
        if (step == 0 || bytes + step > sizeof result->prediction) break;
        bytes += step;
    }
    memcpy(result->prediction, whole, bytes);
    result->prediction_bytes = bytes;
    return true;
}

static bool read_hash(struct json *json, void *read) {
    static const char digits[] = "0123456789abcdef";
    const char *raw = NULL;
    size_t raw_bytes = 0;
    uint64_t hash = 0;
    if (!json_string(json, &raw, &raw_bytes)) return false;
    if (raw_bytes != 21 || memcmp(raw, "xxh3:", 5) != 0) return false;
    for (size_t i = 5; i < raw_bytes; i++) {
        const char *digit = memchr(digits, raw[i], 16);
        if (digit == NULL) return false;
        hash = hash << 4 | (uint64_t)(digit - digits);
    }
    *(uint64_t *)read = hash;
    return true;
}

static bool read_count(struct json *json, void *count) {
    return json_int(json, count) && *(int64_t *)count >= 0;
}

static bool read_length(struct json *json, void *length) {
    return json_int(json, length) && *(int64_t *)length > 0;
}

// null: a number that was not finite.
static bool read_number(struct json *json, void *number) {
    *(double *)number = (double)NAN;
    return json_peek(json) == JSON_NULL ? json_null(json) : json_number(json, number);
}

static bool read_share(struct json *json, void *share) {
    return json_number(json, share) && *(double *)share >= 0 && *(double *)share <= 1;
}

static bool read_bool(struct json *json, void *truth) {
    return json_bool(json, truth);
}

#define MEMBER(name, member, read)                                                 \
    {                                                                              \
        name, "\"" name "\" is missing, there twice, or not what it may be", read, \
            offsetof(struct line, member)                                          \
    }

static const struct {
    const char *name, *wrong;
    bool (*read)(struct json *json, void *into);
    size_t at;
} members[] = {
    MEMBER("id", result.sample.id, read_id),
    MEMBER("length", result.sample.length, read_length),
    MEMBER("depth", result.sample.depth, read_share),
    MEMBER("number", result.sample.number, read_count),
    MEMBER("position", result.sample.position, read_count),
    MEMBER("units", result.sample.units, read_count),
    MEMBER("key", result.sample.key, read_key),
    MEMBER("tokens", result.tokens, read_count),
    MEMBER("answer_tokens", result.answer_tokens, read_count),
    MEMBER("prediction", result, read_prediction),
    MEMBER("correct", result.correct, read_bool),
    MEMBER("exact", result.exact, read_bool),
    MEMBER("answer_nll", result.answer_nll, read_number),
    MEMBER("margin", result.margin, read_number),
    MEMBER("model", run.model, read_hash),
    MEMBER("settings", run.settings, read_hash),
    MEMBER("numerics", run.numerics, read_hash),
};
#define MEMBERS (sizeof members / sizeof members[0])

static const char *read_member(struct json *json, const char *key, size_t key_bytes,
                               struct line *line, bool *seen) {
    for (size_t i = 0; i < MEMBERS; i++) {
        if (!json_is(key, key_bytes, members[i].name)) continue;
        if (seen[i] || !members[i].read(json, (char *)line + members[i].at)) {
            return members[i].wrong;
        }
        seen[i] = true;
        return NULL;
    }
    return json_skip(json) ? NULL : json->wrong;
}

static const char *read_line(struct json *json, struct line *line) {
    bool seen[MEMBERS] = {0};
    const char *key = NULL;
    size_t key_bytes = 0;
    if (!json_object(json)) return json->wrong;
    while (json_key(json, &key, &key_bytes)) {
        const char *wrong = read_member(json, key, key_bytes, line, seen);
        if (wrong != NULL) return wrong;
    }
    if (!json_end(json)) return json->wrong;
    for (size_t i = 0; i < MEMBERS; i++) {
        if (!seen[i]) return members[i].wrong;
    }
    return NULL;
}

enum status passkey_result_read(const char *line, size_t bytes, struct passkey_result *result,
                                struct passkey_run *run, const char **wrong) {
    struct line read = {0};
    struct json json;
    json_open(&json, line, bytes);
    *wrong = read_line(&json, &read);
    if (*wrong != NULL) return STATUS_BAD_INPUT;
    *result = read.result;
    run->model = read.run.model;
    run->settings = read.run.settings;
    run->numerics = read.run.numerics;
    return STATUS_OK;
}

static int by_place(const void *left, const void *right) {
    const struct passkey_sample *a = &((const struct passkey_result *)left)->sample;
    const struct passkey_sample *b = &((const struct passkey_result *)right)->sample;
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    if (a->number != b->number) return a->number < b->number ? -1 : 1;
    return strcmp(a->id, b->id);
}

void passkey_results_sort(struct passkey_result *results, size_t count) {
    if (count > 0) qsort(results, count, sizeof *results, by_place);
}
