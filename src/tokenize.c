// verb `tokenize`: documents of text as token ids, or back.

#include "ops/base/clock.h"
#include "ops/base/json.h"
#include "pipeline/file_source.h"
#include "pipeline/json_put.h"
#include "pipeline/number_text.h"
#include "pipeline/output.h"
#include "pipeline/utf8_check.h"
#include "src/tokenizer_choice.h"

#include <inttypes.h>
#include <string.h>

#define FLUSH_BYTES ((size_t)1024 * 1024)

struct tokenize {
    const struct settings *settings;
    struct inputs inputs;
    struct tokenizer *tokenizer;
    struct source *source;
    struct output *output;
    size_t line;             // where the document's line begins in what is pending
    bool begun, cut;         // the line; it has been written in part
    struct utf8_check check; // --decode: whether tokens end inside a character
    struct bytes whole;      // whole characters of them
    struct {
        int64_t tokens, text_bytes;
    } document, all; // `all`: of documents that were not dropped
    int64_t documents, bad;
};

static enum status open_all(struct tokenize *t) {
    const struct settings *settings = t->settings;
    struct file_source_settings source = {
        .shard = {.id_field = settings->id_field,
                  .text_field = settings->text_field,
                  .max_line = settings->max_line},
        .limit = settings->limit
    };
    if (settings->tokenizer == NULL && settings->model == NULL) {
        return FAIL(USAGE, "tokenize needs --tokenizer (byte or the path of a tokenizer.json) or "
                           "--model with the folder it is in");
    }
    TRY(inputs_expand(settings->input, &t->inputs));
    TRY(settings->tokenizer != NULL ? tokenizer_named(settings, settings->tokenizer, &t->tokenizer)
                                    : tokenizer_of_folder(settings, &t->tokenizer));
    LOG(INFO, "tokenizer: %s, %d ids, xxh3:%016" PRIx64, t->tokenizer->name,
        t->tokenizer->vocab_size, t->tokenizer->hash);
    TRY(file_format_parse(settings->format, &source.shard.format));
    source.shard.tokenizer = t->tokenizer;
    TRY(file_source_open(&t->inputs, &source, &t->source));
    return output_open(settings->output, &t->output);
}

static enum status put_ids(struct tokenize *t, const struct record *record) {
    struct bytes *out = &t->output->pending;
    for (int64_t i = 0; i < record->tokens; i++) {
        TRY(bytes_room(out, NUMBER_TEXT_BYTES + 1));
        if (i > 0 || record->first > 0) out->data[out->count++] = ',';
        out->count += number_text_int(record->token[i], out->data + out->count);
    }
    return STATUS_OK;
}

static enum status put_escaped(struct bytes *out, const char *text, size_t bytes) {
    TRY(bytes_room(out, 6 * bytes));
    out->count += json_escape(text, bytes, out->data + out->count);
    return STATUS_OK;
}

// Tokens end inside characters. What is no UTF-8 comes out as U+FFFD, as --errors replace reads it.
static enum status put_text(struct tokenize *t, const struct record *record) {
    bool good;
    for (int64_t i = 0; i < record->tokens; i++) {
        size_t bytes = 0;
        const char *text = t->tokenizer->bytes_of(t->tokenizer, record->token[i], &bytes);
        if (text == NULL) {
            LOG(WARN, "document %.*s: there is no token %d", (int)record->id_bytes, record->id,
                record->token[i]);
            return STATUS_BAD_INPUT;
        }
        t->whole.count = 0;
        TRY(utf8_check_put(&t->check, text, bytes, false, &t->whole, &good));
        TRY(put_escaped(&t->output->pending, t->whole.data, t->whole.count));
    }
    if (!record->last) return STATUS_OK;
    t->whole.count = 0;
    TRY(utf8_check_put(&t->check, "", 0, true, &t->whole, &good));
    return put_escaped(&t->output->pending, t->whole.data, t->whole.count);
}

// The rest of the document is left out. A line that has been written in part ends as no JSON does.
static enum status drop_line(struct tokenize *t) {
    t->bad++;
    if (!t->begun) return STATUS_OK;
    t->begun = false;
    t->output->pending.count = t->line;
    return t->cut ? json_put(&t->output->pending, "\n") : STATUS_OK;
}

static enum status put_record(struct tokenize *t, const struct record *record) {
    struct bytes *out = &t->output->pending;
    const bool decode = t->settings->decode;
    if (!t->begun && record->first > 0) return STATUS_OK; // of a document that was left out
    if (!t->begun) {
        t->begun = true;
        t->cut = false;
        t->line = out->count;
        t->check = (struct utf8_check){.errors = TEXT_REPLACE};
        t->document.tokens = t->document.text_bytes = 0;
        TRY(json_put_string(out, "{\"id\":", record->id, record->id_bytes));
        if (record->attributes_bytes > 0) {
            TRY(json_put(out, ","));
            TRY(bytes_put(out, record->attributes, record->attributes_bytes));
        }
        TRY(json_put(out, decode ? ",\"text\":\"" : ",\"tokens\":["));
    }
    TRY(decode ? put_text(t, record) : put_ids(t, record));
    t->document.tokens += record->tokens;
    if (record->text_bytes > 0) t->document.text_bytes += record->text_bytes;
    if (record->last) {
        t->all.tokens += t->document.tokens;
        t->all.text_bytes += t->document.text_bytes;
        TRY(json_put(out, decode ? "\"}\n" : "]}\n"));
        t->documents++;
        t->begun = false;
    }
    if (out->count < FLUSH_BYTES) return STATUS_OK;
    t->cut = t->begun;
    t->line = 0;
    return output_write(t->output);
}

static enum status take(struct tokenize *t, const struct record *record) {
    if (record->kind == RECORD_PARTITION_END) return STATUS_OK;
    if (record->kind == RECORD_FAULT) {
        LOG(WARN, "%s", record->fault);
        return drop_line(t);
    }
    const enum status status = put_record(t, record);
    return status == STATUS_BAD_INPUT ? drop_line(t) : status;
}

static enum status copy_all(struct tokenize *t) {
    for (;;) {
        struct record *record = NULL;
        if (stop_requested()) return STATUS_STOPPED;
        const enum status next = t->source->table->next(t->source, 100, &record);
        if (next == STATUS_AGAIN) TRY(output_flush(t->output));
        if (next == STATUS_AGAIN) continue;
        if (next == STATUS_END) return STATUS_OK;
        if (next != STATUS_OK) return next;
        const enum status status = take(t, record);
        record_free(record);
        if (status != STATUS_OK) return status;
    }
}

static enum status report(const struct tokenize *t, int64_t start_ns) {
    const double seconds = (double)(clock_ns() - start_ns + 1) / 1e9;
    const int64_t all = t->documents + t->bad;
    LOG(INFO,
        "%" PRId64 " documents, %" PRId64 " tokens of %" PRId64 " bytes in %.2f s (%.1f MB/s); "
        "%" PRId64 " bad",
        t->documents, t->all.tokens, t->all.text_bytes, seconds,
        (double)t->all.text_bytes / seconds / 1e6, t->bad);
    if ((double)t->bad <= t->settings->max_bad * (double)all) return STATUS_OK;
    return FAIL(BAD_INPUT, "%" PRId64 " of %" PRId64 " documents are bad, more than --max-bad %g%%",
                t->bad, all, 100.0 * t->settings->max_bad);
}

static enum status run(struct tokenize *t) {
    TRY(open_all(t));
    const int64_t start_ns = clock_ns();
    TRY(copy_all(t));
    struct output *output = t->output;
    t->output = NULL; // freed in any case
    TRY(output_finish(output, true));
    return report(t, start_ns);
}

enum status verb_tokenize(const struct settings *settings, int *exit_code) {
    struct tokenize t = {.settings = settings};
    (void)exit_code;
    enum status status = run(&t);
    output_drop(t.output);
    if (t.source != NULL) {
        const enum status closed = t.source->table->close(t.source);
        if (status == STATUS_OK) status = closed;
    }
    if (t.tokenizer != NULL) t.tokenizer->close(t.tokenizer);
    bytes_free(&t.whole);
    inputs_free(&t.inputs);
    return status;
}
