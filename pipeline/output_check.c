// Were the outputs that --resume wants to keep made as this run would make them?
#include "ops/base/json.h"
#include "pipeline/byte_reader.h"
#include "pipeline/file_sink.h"
#include "pipeline/output_names.h"

#include <inttypes.h>
#include <string.h>

#define LINE_MOST  ((size_t)64 * 1024 * 1024) // longer than any line of results
#define LINE_FIRST ((size_t)4096)

static const char *const id_names[] = {"model", "settings", "numerics"};
#define IDS 3

// What the lines up to a first result say of what they were made with.
struct made_with {
    bool known[IDS];
    uint64_t id[IDS];
    bool goes_on; // the last line: a piece of a document's arrays, or a document taken back
    bool token_nll, windows;
    int64_t window_least, window_most; // tokens of a window
};

static bool read_hash(const char *text, size_t bytes, uint64_t *hash) {
    static const char digits[] = "0123456789abcdef";
    *hash = 0;
    if (bytes != 21 || memcmp(text, "xxh3:", 5) != 0) return false;
    for (size_t i = 5; i < bytes; i++) {
        const char *digit = memchr(digits, text[i], 16);
        if (digit == NULL) return false;
        *hash = *hash << 4 | (uint64_t)(digit - digits);
    }
    return true;
}

static bool read_window(struct json *json, int64_t *first, int64_t *scored) {
    const char *key = NULL;
    size_t key_bytes = 0;
    if (!json_object(json)) return false;
    while (json_key(json, &key, &key_bytes)) {
        const bool good = json_is(key, key_bytes, "first")    ? json_int(json, first)
                          : json_is(key, key_bytes, "scored") ? json_int(json, scored)
                                                              : json_skip(json);
        if (!good) return false;
    }
    return *first >= 0 && *scored >= 0;
}

// Windows follow each other without a gap: from one to the next is their length. One alone holds no
// more positions than that.
static bool read_windows(struct json *json, struct made_with *made) {
    int64_t before = 0;
    made->windows = true;
    if (!json_array(json)) return false;
    for (int i = 0; json_item(json); i++) {
        int64_t first = 0, scored = 0;
        if (i > 1) {
            if (!json_skip(json)) return false;
            continue;
        }
        if (!read_window(json, &first, &scored)) return false;
        if (i == 1) made->window_least = made->window_most = first - before;
        if (scored > made->window_least) made->window_least = scored;
        before = first;
    }
    return true;
}

static bool read_value(struct json *json, const char *key, size_t key_bytes,
                       struct made_with *made) {
    const char *text = NULL;
    size_t text_bytes = 0;
    for (int i = 0; i < IDS; i++) {
        if (!json_is(key, key_bytes, id_names[i])) continue;
        if (!json_string(json, &text, &text_bytes)) return false;
        made->known[i] = read_hash(text, text_bytes, &made->id[i]);
        return true;
    }
    const bool windows = json_is(key, key_bytes, "windows");
    const bool token_nll = json_is(key, key_bytes, "token_nll");
    if (windows || token_nll || json_is(key, key_bytes, "retracted")) made->goes_on = true;
    if (token_nll) made->token_nll = true;
    return windows ? read_windows(json, made) : json_skip(json);
}

static bool read_line(const char *line, size_t bytes, struct made_with *made) {
    struct json json;
    const char *key = NULL;
    size_t key_bytes = 0;
    made->goes_on = false;
    json_open(&json, line, bytes);
    if (!json_object(&json)) return false;
    while (json_key(&json, &key, &key_bytes)) {
        if (!read_value(&json, key, key_bytes, made)) return false;
    }
    return json_end(&json);
}

// The next line, with its end; *bytes 0: there is none. false: too long, or cut off.
static enum status next_line(struct byte_reader *reader, size_t *bytes, bool *good) {
    const char *end = NULL;
    *good = true;
    for (size_t want = LINE_FIRST; end == NULL; want *= 2) {
        TRY(byte_reader_fill(reader, want, INT64_MAX));
        const size_t have = reader->end - reader->begin;
        end = have == 0 ? NULL : memchr(reader->data + reader->begin, '\n', have);
        *bytes = end == NULL ? have : (size_t)(end - reader->data) - reader->begin + 1;
        *good = end != NULL || have == 0;
        if (reader->ended || want > LINE_MOST) break;
    }
    return STATUS_OK;
}

static enum status other_arrays(const char *path, const char *what, const char *option) {
    return FAIL(MISMATCH,
                "--resume: %s %s, unlike what this run is asked for (%s): remove the old outputs, "
                "or choose another --output",
                path, what, option);
}

static enum status compare_arrays(const char *path, const struct made_with *made,
                                  const struct file_sink_settings *settings) {
    const int64_t every = settings->score_every;
    if (made->token_nll != settings->token_nll) {
        return other_arrays(path, made->token_nll ? "has \"token_nll\"" : "has no \"token_nll\"",
                            "--token-nll");
    }
    if (made->windows != (every > 0)) {
        return other_arrays(path, made->windows ? "has \"windows\"" : "has no \"windows\"",
                            "--score-every");
    }
    if (made->windows && (every < made->window_least || every > made->window_most)) {
        return other_arrays(path, "has \"windows\" of another length", "--score-every");
    }
    return STATUS_OK;
}

static enum status compare(const char *path, const struct made_with *made,
                           const struct result_ids *ids) {
    const uint64_t mine[IDS] = {ids->model, ids->settings, ids->numerics};
    for (int i = 0; i < IDS; i++) {
        if (made->id[i] == mine[i]) continue;
        return FAIL(MISMATCH,
                    "--resume: \"%s\" of %s is xxh3:%016" PRIx64 ", and this run's is "
                    "xxh3:%016" PRIx64 ": remove the old outputs, or choose another --output",
                    id_names[i], path, made->id[i], mine[i]);
    }
    return STATUS_OK;
}

static enum status not_ours(const char *path, const char *why) {
    return FAIL(MISMATCH,
                "--resume: %s is no output of score: %s; remove it to have its input scored, or "
                "choose another --output",
                path, why);
}

static enum status check_lines(const char *path, struct byte_reader *reader,
                               const struct file_sink_settings *settings) {
    struct made_with made = {.window_most = INT64_MAX};
    bool good = true;
    for (bool any = false;; any = true) {
        size_t bytes = 0;
        TRY(next_line(reader, &bytes, &good));
        if (bytes == 0 && !any) return STATUS_OK; // an input without documents
        if (!good || bytes == 0 || !read_line(reader->data + reader->begin, bytes, &made)) break;
        reader->begin += bytes;
        if (made.known[0] && made.known[1] && made.known[2]) {
            TRY(compare(path, &made, &settings->ids));
            return compare_arrays(path, &made, settings);
        }
        if (!made.goes_on) break;
    }
    return not_ours(path, "its first line is no result");
}

enum status file_sink_verify(const struct file_sink_settings *settings, const bool *complete) {
    struct output_names names = {0};
    struct byte_reader reader = {0};
    enum status status = STATUS_OK;
    TRY_OUT(status, output_names_build(settings, &names));
    for (int64_t i = 0; i < settings->inputs->count && status == STATUS_OK; i++) {
        const char *path = names.path[i];
        if (!complete[i]) continue;
        status = byte_reader_open(&reader, path);
        if (status == STATUS_OK) status = check_lines(path, &reader, settings);
        if (status == STATUS_IO) status = not_ours(path, reader.wrong);
        byte_reader_close(&reader);
    }
out:
    byte_reader_free(&reader);
    output_names_free(&names);
    return status;
}
