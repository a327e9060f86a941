// Results as JSON text.
#include "pipeline/result_json.h"

#include "ops/base/json.h"
#include "pipeline/json_put.h"
#include "pipeline/number_text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define LN_2 0x1.62e42fefa39efp-1

static const char *const field_names[] = {
    "id",
    "tokens",
    "scored",
    "nll",
    "nll_per_token",
    "perplexity",
    "bits_per_byte",
    "windows",
    "token_nll_first",
    "token_nll",
    "model",
    "settings",
    "numerics",
    "truncated",
};

static enum status put_hash(struct bytes *out, const char *name, uint64_t hash) {
    char text[64];
    int bytes = snprintf(text, sizeof text, ",\"%s\":\"xxh3:%016" PRIx64 "\"", name, hash);
    return bytes_put(out, text, (size_t)bytes);
}

static enum status put_windows(struct bytes *out, const struct window_score *windows,
                               int64_t count) {
    if (windows == NULL) return STATUS_OK;
    TRY(json_put(out, ",\"windows\":["));
    for (int64_t i = 0; i < count; i++) {
        TRY(json_put_int(out, i == 0 ? "{\"first\":" : ",{\"first\":", windows[i].first));
        TRY(json_put_int(out, ",\"scored\":", windows[i].scored));
        TRY(json_put_double(out, ",\"nll\":", windows[i].nll));
        TRY(json_put(out, "}"));
    }
    return json_put(out, "]");
}

static enum status put_token_nll(struct bytes *out, int64_t first, const float *nll,
                                 int64_t count) {
    if (nll == NULL) return STATUS_OK;
    TRY(json_put_int(out, ",\"token_nll_first\":", first));
    TRY(json_put(out, ",\"token_nll\":["));
    for (int64_t i = 0; i < count; i++) {
        TRY(bytes_room(out, NUMBER_TEXT_BYTES + 1));
        if (i > 0) out->data[out->count++] = ',';
        out->count += number_text_float(nll[i], out->data + out->count);
    }
    return json_put(out, "]");
}

static bool is_field(const char *key, size_t bytes) {
    for (size_t i = 0; i < sizeof field_names / sizeof field_names[0]; i++) {
        if (json_is(key, bytes, field_names[i])) return true;
    }
    return false;
}

// Sources cap attributes and check that they are members of an object. What is not is left out
// from the first wrong byte on, so that the line stays JSON whatever came in.
static enum status put_attributes(struct bytes *out, const char *attributes, size_t bytes,
                                  bool versioned) {
    if (bytes == 0 || bytes > ATTRIBUTES_BYTES_MOST) return STATUS_OK;
    char text[ATTRIBUTES_BYTES_MOST + 2];
    struct json json;
    const char *key = NULL, *raw = NULL;
    size_t key_bytes = 0, raw_bytes = 0;
    text[0] = '{';
    memcpy(text + 1, attributes, bytes);
    text[bytes + 1] = '}';
    json_open(&json, text, bytes + 2);
    if (!json_object(&json)) return STATUS_OK;
    while (json_key(&json, &key, &key_bytes) && json_raw(&json, &raw, &raw_bytes)) {
        if (is_field(key, key_bytes)) continue;
        if (versioned && json_is(key, key_bytes, "version")) continue;
        TRY(json_put(out, ",\""));
        TRY(bytes_put(out, key, key_bytes));
        TRY(json_put(out, "\":"));
        TRY(bytes_put(out, raw, raw_bytes));
    }
    return STATUS_OK;
}

static enum status put_score(const struct document_score *score, const struct result_ids *ids,
                             struct bytes *out) {
    TRY(json_put_string(out, "{\"id\":", score->id, score->id_bytes));
    if (score->version > 0) TRY(json_put_count(out, ",\"version\":", score->version));
    TRY(json_put_int(out, ",\"tokens\":", score->tokens));
    TRY(json_put_int(out, ",\"scored\":", score->scored));
    if (score->scored > 0) {
        double per_token = score->nll / (double)score->scored;
        TRY(json_put_double(out, ",\"nll\":", score->nll));
        TRY(json_put_double(out, ",\"nll_per_token\":", per_token));
        TRY(json_put_double(out, ",\"perplexity\":", number_exp(per_token)));
        if (score->text_bytes > 0) {
            double bits = score->nll / (LN_2 * (double)score->text_bytes);
            TRY(json_put_double(out, ",\"bits_per_byte\":", bits));
        }
    } else {
        TRY(json_put(out, ",\"nll\":0,\"nll_per_token\":null,\"perplexity\":null"));
    }
    TRY(put_windows(out, score->windows, score->window_count));
    TRY(put_token_nll(out, score->token_nll_first, score->token_nll, score->token_nll_count));
    TRY(put_attributes(out, score->attributes, score->attributes_bytes, score->version > 0));
    TRY(put_hash(out, "model", ids->model));
    TRY(put_hash(out, "settings", ids->settings));
    TRY(put_hash(out, "numerics", ids->numerics));
    return json_put(out, score->truncated ? ",\"truncated\":true}" : ",\"truncated\":false}");
}

static enum status put_piece(const struct document_piece *piece, struct bytes *out) {
    TRY(json_put_string(out, "{\"id\":", piece->id, piece->id_bytes));
    TRY(put_windows(out, piece->windows, piece->window_count));
    TRY(put_token_nll(out, piece->token_nll_first, piece->token_nll, piece->token_nll_count));
    return json_put(out, "}");
}

static enum status put_window(const struct document_window *window, struct bytes *out) {
    TRY(json_put_string(out, "{\"id\":", window->id, window->id_bytes));
    TRY(json_put_count(out, ",\"version\":", window->version));
    TRY(json_put_int(out, ",\"first\":", window->window.first));
    TRY(json_put_int(out, ",\"scored\":", window->window.scored));
    TRY(json_put_double(out, ",\"nll\":", window->window.nll));
    return json_put(out, "}");
}

static enum status put_retraction(const struct retraction *retraction, struct bytes *out) {
    TRY(json_put_string(out, "{\"id\":", retraction->id, retraction->id_bytes));
    return json_put(out, ",\"retracted\":true}");
}

// Half a line is no line.
static enum status whole(enum status status, size_t before, struct bytes *out) {
    if (status != STATUS_OK) out->count = before;
    return status;
}

enum status result_json_score(const struct document_score *score, const struct result_ids *ids,
                              struct bytes *out) {
    const size_t before = out->count;
    return whole(put_score(score, ids, out), before, out);
}

enum status result_json_piece(const struct document_piece *piece, struct bytes *out) {
    const size_t before = out->count;
    return whole(put_piece(piece, out), before, out);
}

enum status result_json_window(const struct document_window *window, struct bytes *out) {
    const size_t before = out->count;
    return whole(put_window(window, out), before, out);
}

enum status result_json_retraction(const struct retraction *retraction, struct bytes *out) {
    const size_t before = out->count;
    return whole(put_retraction(retraction, out), before, out);
}
