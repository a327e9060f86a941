// Were the outputs that --resume wants to keep made as this run would make them?
#include "ops/base/json.h"
#include "pipeline/byte_reader.h"
#include "pipeline/file_sink.h"
#include "pipeline/output_names.h"

#include <inttypes.h>
#include <stdio.h>

#define LINE_MOST  ((size_t)64 * 1024 * 1024) // longer than any line of results
#define LINE_FIRST ((size_t)4096)

static const char *const id_names[] = {"model", "settings", "numerics"};
#define IDS 3

// What a line of results says of what it was made with.
struct made_with {
    bool known[IDS];
    uint64_t id[IDS];
    bool piece; // a part of the arrays of a document whose result comes further down
};

static bool read_hash(const char *text, size_t bytes, uint64_t *hash) {
    char copy[22];
    int end = 0;
    if (bytes != 21) return false;
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    return sscanf(copy, "xxh3:%16" SCNx64 "%n", hash, &end) == 1 && end == 21;
}

static bool read_line(const char *line, size_t bytes, struct made_with *made) {
    struct json json;
    const char *key = NULL, *text = NULL;
    size_t key_bytes = 0, text_bytes = 0;
    *made = (struct made_with){0};
    json_open(&json, line, bytes);
    if (!json_object(&json)) return false;
    while (json_key(&json, &key, &key_bytes)) {
        int which = 0;
        while (which < IDS && !json_is(key, key_bytes, id_names[which])) {
            which++;
        }
        if (json_is(key, key_bytes, "windows") || json_is(key, key_bytes, "token_nll")) {
            made->piece = true;
        }
        if (which == IDS) {
            if (!json_skip(&json)) return false;
        } else {
            if (!json_string(&json, &text, &text_bytes)) return false;
            made->known[which] = read_hash(text, text_bytes, &made->id[which]);
        }
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
                               const struct result_ids *ids) {
    struct made_with made = {.piece = true};
    bool good = true;
    for (bool any = false;; any = true) {
        size_t bytes = 0;
        TRY(next_line(reader, &bytes, &good));
        if (bytes == 0 && !any) return STATUS_OK; // an input without documents
        if (!good || bytes == 0 || !read_line(reader->data + reader->begin, bytes, &made)) break;
        reader->begin += bytes;
        if (made.known[0] && made.known[1] && made.known[2]) return compare(path, &made, ids);
        if (!made.piece) break;
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
        if (status == STATUS_OK) status = check_lines(path, &reader, &settings->ids);
        if (status == STATUS_IO) status = not_ours(path, reader.wrong);
        byte_reader_close(&reader);
    }
out:
    byte_reader_free(&reader);
    output_names_free(&names);
    return status;
}
