// Files of JSONL, line by line.
#include "ops/base/clock.h"
#include "pipeline/shard_inner.h"

#include <stdio.h>
#include <string.h>

// The next line, without its end. It stays until the reader is used again. *bytes SIZE_MAX: it was
// longer than allowed, and nothing of it is kept.
static enum status read_line(struct shard *shard, int64_t deadline_ms, char **line, size_t *bytes) {
    struct byte_reader *reader = &shard->reader;
    for (;;) {
        size_t have = reader->end - reader->begin;
        char *start = have == 0 ? reader->data : reader->data + reader->begin;
        char *end = have == shard->scanned
                        ? NULL
                        : memchr(start + shard->scanned, '\n', have - shard->scanned);
        size_t length = end == NULL ? have : (size_t)(end - start);
        bool too_long = shard->skipping || length > (size_t)shard->settings->max_line;
        if (end == NULL && reader->ended && have == 0 && !shard->skipping) return STATUS_END;
        if (end != NULL || reader->ended) {
            reader->begin += length + (end != NULL);
            shard->scanned = 0;
            shard->skipping = false;
            shard->line++;
            *line = start;
            *bytes = too_long ? SIZE_MAX : length;
            return STATUS_OK;
        }
        shard->scanned = have;
        if (too_long) {
            shard->skipping = true;
            reader->begin = reader->end;
            shard->scanned = 0;
        }
        TRY(byte_reader_fill(reader, shard->scanned + 1, deadline_ms));
        // A few bytes can unpack into a line that takes hours to skip.
        if (shard->skipping && clock_ms() > deadline_ms) return STATUS_AGAIN;
    }
}

static bool is_blank(const char *line, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r') return false;
    }
    return true;
}

// Of a line that is no document.
static enum status make_line_fault(struct shard *shard, const char *line, size_t bytes,
                                   struct record **made) {
    TRY(shard_make_fault(shard, shard->jsonl.wrong, made));
    if (!shard->settings->keep_lines || bytes > SHARD_LINE_KEPT) return STATUS_OK;
    const enum status status = record_keep(*made, line, bytes);
    if (status != STATUS_OK) {
        record_free(*made);
        *made = NULL;
    }
    return status;
}

// The next line that is not blank, as read_line has it.
static enum status next_line(struct shard *shard, int64_t deadline_ms, char **line, size_t *bytes) {
    for (;;) {
        TRY(read_line(shard, deadline_ms, line, bytes));
        if (shard->line == 1 && *bytes != SIZE_MAX && *bytes >= 3 &&
            memcmp(*line, "\xef\xbb\xbf", 3) == 0) { // a byte order mark, as some editors leave it
            *line += 3;
            *bytes -= 3;
        }
        if (*bytes == SIZE_MAX || !is_blank(*line, *bytes)) return STATUS_OK;
        if (clock_ms() > deadline_ms) return STATUS_AGAIN;
    }
}

enum status shard_jsonl_more(struct shard *shard, int64_t deadline_ms) {
    char *line = NULL;
    size_t bytes = 0;
    if (shard->begun || shard->held_count > 0) return STATUS_OK;
    return next_line(shard, deadline_ms, &line, &bytes);
}

// Opens the document of the next line, or makes a fault of it.
static enum status next_document(struct shard *shard, int64_t deadline_ms, struct record **record) {
    struct jsonl_document document;
    char *line = NULL;
    size_t bytes = 0;
    TRY(next_line(shard, deadline_ms, &line, &bytes));
    if (bytes == SIZE_MAX) {
        char why[128];
        snprintf(why, sizeof why, "the line is longer than %lld bytes (--max-line)",
                 (long long)shard->settings->max_line);
        return shard_make_fault(shard, why, record);
    }
    if (!jsonl_parse(&shard->jsonl, line, bytes, &document)) {
        return make_line_fault(shard, line, bytes, record);
    }
    if (document.id == NULL) {
        int length = snprintf(shard->place, sizeof shard->place, "%.900s:%lld", shard->input->name,
                              (long long)shard->line);
        document.id = shard->place;
        document.id_bytes = (size_t)length;
    }
    shard_begin_document(shard, &document);
    return STATUS_OK;
}

// Every first line of the file was refused.
static enum status no_jsonl(struct shard *shard, const struct record *first) {
    const size_t path = strnlen(shard->reader.path, PATH_IN_FAULT);
    const char *why = strstr(first->fault + path, ": ");
    snprintf(shard->reader.wrong, sizeof shard->reader.wrong,
             "it is no JSONL: its first %d lines are all no documents; line %lld: %.160s",
             SHARD_HELD, (long long)first->offset + 1, why == NULL ? "" : why + 2);
    return STATUS_IO;
}

// Opens the next document, or gives the next fault, or (*record NULL, and no document begun) leaves
// only held faults to give.
static enum status begin_or_fault(struct shard *shard, int64_t deadline_ms,
                                  struct record **record) {
    for (;;) {
        *record = NULL;
        enum status status = next_document(shard, deadline_ms, record);
        if (status == STATUS_END && shard->held_count > 0) return STATUS_OK;
        if (status != STATUS_OK) return status;
        if (*record == NULL) {
            shard->has_document = true;
            return STATUS_OK;
        }
        if (shard->has_document) return STATUS_OK;
        shard->held[shard->held_count++] = *record;
        if (shard->held_count == SHARD_HELD) return no_jsonl(shard, shard->held[0]);
    }
}

enum status shard_jsonl_next(struct shard *shard, int64_t deadline_ms, struct record **record) {
    struct jsonl_document *document = &shard->document;
    const int64_t most = shard->settings->record_tokens;
    if (!shard->begun && !shard->giving) {
        TRY(begin_or_fault(shard, deadline_ms, record));
        if (*record != NULL) return STATUS_OK;
        shard->giving = shard->held_count > 0;
    }
    if (shard->giving) {
        *record = shard->held[shard->held_given++];
        if (shard->held_given == shard->held_count) shard_drop_held(shard); // all are given
        return STATUS_OK;
    }
    if (document->text == NULL) {
        shard->tokens = jsonl_tokens_next(&document->tokens, shard->token, most);
        return shard_make_record(shard, document->tokens.left == 0, record);
    }
    bool done = false;
    const size_t left = document->text_bytes - shard->text_at;
    size_t used = 0;
    const enum status status =
        shard_encode(shard, document->text + shard->text_at, left, true, &used, &done);
    if (status == STATUS_BAD_INPUT) {
        return shard_make_fault(shard, shard->settings->tokenizer->wrong, record);
    }
    if (status != STATUS_OK) return status;
    shard->text_at += used;
    return shard_make_record(shard, done, record);
}
