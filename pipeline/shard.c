// Input files, cut into records. Memory is one buffer of a record's size, or one JSONL line.
#include "pipeline/shard.h"

#include "ops/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_IN_FAULT 1000 // bytes

enum status shard_open(const struct shard_settings *settings, struct shard **opened) {
    struct shard *shard = calloc(1, sizeof *shard);
    if (shard == NULL) return FAIL(NO_MEMORY, "reading files");
    shard->settings = settings;
    jsonl_open(&shard->jsonl, settings->id_field, settings->text_field);
    shard->token = malloc((size_t)settings->record_tokens * sizeof *shard->token);
    if (shard->token == NULL) {
        shard_close(shard);
        return FAIL(NO_MEMORY, "records of %lld tokens", (long long)settings->record_tokens);
    }
    *opened = shard;
    return STATUS_OK;
}

enum status shard_begin(struct shard *shard, const struct input *input, int32_t partition) {
    shard->input = input;
    shard->partition = partition;
    shard->format = file_format_of(input, shard->settings->format);
    shard->line = 0;
    shard->scanned = 0;
    shard->skipping = shard->begun = shard->ended = shard->has_document = false;
    return byte_reader_open(&shard->reader, input->path);
}

static void drop_held(struct shard *shard) {
    while (shard->held_given < shard->held_count) {
        record_free(shard->held[shard->held_given++]);
    }
    shard->held_given = shard->held_count = 0;
    shard->giving = false;
}

void shard_end(struct shard *shard) {
    drop_held(shard);
    byte_reader_close(&shard->reader);
    shard->input = NULL;
}

void shard_close(struct shard *shard) {
    if (shard == NULL) return;
    drop_held(shard);
    byte_reader_free(&shard->reader);
    free(shard->token);
    free(shard);
}

// JSONL: the line, from 0. Otherwise the record. Either rises, and names FILE:LINE with one added.
static void set_place(const struct shard *shard, struct record *record, int64_t offset) {
    record->partition = shard->partition;
    record->offset = offset;
    record->serial = shard->format == FILE_JSONL ? (uint64_t)offset + 1 : 1;
    record->first = shard->first;
}

static int64_t offset_of(struct shard *shard) {
    return shard->format == FILE_JSONL ? shard->line - 1 : shard->line++;
}

// The document, and with it a file that is one document, cannot be used.
static enum status make_fault(struct shard *shard, const char *why, struct record **made) {
    const char *id = shard->begun ? shard->document.id : "";
    char text[PATH_IN_FAULT + 280]; // a longer path loses its end, not its reason
    if (shard->format == FILE_JSONL) {
        snprintf(text, sizeof text, "%.*s:%lld: %s", PATH_IN_FAULT, shard->reader.path,
                 (long long)shard->line, why);
    } else {
        snprintf(text, sizeof text, "%.*s: %s", PATH_IN_FAULT, shard->reader.path, why);
    }
    TRY(record_make_fault(id, shard->begun ? shard->document.id_bytes : 0, text, made));
    set_place(shard, *made, offset_of(shard));
    shard->ended = shard->format != FILE_JSONL;
    shard->begun = false;
    return STATUS_OK;
}

// A record of the tokens gathered so far.
static enum status make_record(struct shard *shard, bool last, struct record **made) {
    const struct jsonl_document *document = &shard->document;
    TRY(record_make(RECORD_TOKENS, document->id, document->id_bytes, document->attributes,
                    document->attributes_bytes, shard->tokens, made));
    struct record *record = *made;
    set_place(shard, record, offset_of(shard));
    memcpy(record_tokens(record), shard->token, (size_t)shard->tokens * sizeof *shard->token);
    record->last = last;
    record->text_bytes = document->text == NULL ? -1 : shard->text_bytes;
    shard->first += shard->tokens;
    shard->tokens = 0;
    shard->text_bytes = 0;
    if (last) {
        shard->ended = shard->format != FILE_JSONL;
        shard->begun = false;
    }
    return STATUS_OK;
}

static void begin_document(struct shard *shard, const struct jsonl_document *document) {
    shard->document = *document;
    shard->begun = true;
    shard->first = 0;
    shard->tokens = 0;
    shard->text_bytes = 0;
    shard->text_at = 0;
}

// Tokens of as much of the text as is sure to fit. *used: bytes of it.
static enum status encode(struct shard *shard, const char *text, size_t bytes, bool ends,
                          size_t *used) {
    struct tokenizer *tokenizer = shard->settings->tokenizer;
    size_t room = (size_t)(shard->settings->record_tokens - shard->tokens);
    int64_t tokens = 0;
    if (tokenizer == NULL) {
        return FAIL(USAGE, "%s holds text, and there is no tokenizer for it: give --tokenizer",
                    shard->reader.path);
    }
    *used = bytes < room ? bytes : room;
    TRY(tokenizer->encode(tokenizer, text, *used, ends && *used == bytes,
                          shard->token + shard->tokens, &tokens));
    shard->tokens += tokens;
    shard->text_bytes += (int64_t)*used;
    return STATUS_OK;
}

static enum status text_next(struct shard *shard, int64_t deadline_ms, struct record **record) {
    struct byte_reader *reader = &shard->reader;
    if (!shard->begun) {
        const char *name = shard->input->name;
        begin_document(
            shard, &(struct jsonl_document){.id = name, .id_bytes = strlen(name), .text = name});
    }
    for (;;) {
        // One byte more than can be used, to see whether the text ends here.
        size_t room = (size_t)(shard->settings->record_tokens - shard->tokens), used = 0;
        TRY(byte_reader_fill(reader, room + 1, deadline_ms));
        size_t have = reader->end - reader->begin;
        TRY(encode(shard, reader->data + reader->begin, have, reader->ended, &used));
        reader->begin += used;
        bool last = reader->ended && used == have;
        if (last || shard->tokens == shard->settings->record_tokens) {
            return make_record(shard, last, record);
        }
    }
}

static int32_t token_at(const char *data, size_t width) {
    const unsigned char *byte = (const unsigned char *)data;
    uint32_t value = byte[0] | (uint32_t)byte[1] << 8;
    if (width == 4) value |= (uint32_t)byte[2] << 16 | (uint32_t)byte[3] << 24;
    return value > INT32_MAX ? -1 : (int32_t)value;
}

static enum status raw_next(struct shard *shard, int64_t deadline_ms, struct record **record) {
    struct byte_reader *reader = &shard->reader;
    const size_t width = shard->format == FILE_U16 ? 2 : 4;
    const size_t most = (size_t)shard->settings->record_tokens * width;
    char why[128];
    if (!shard->begun) {
        const char *name = shard->input->name;
        begin_document(shard, &(struct jsonl_document){.id = name, .id_bytes = strlen(name)});
    }
    TRY(byte_reader_fill(reader, most + 1, deadline_ms));
    size_t have = reader->end - reader->begin;
    size_t odd = reader->ended && have <= most ? have % width : 0;
    // A regular file tells at its start that its end will be odd.
    if (odd == 0 && reader->size > 0 && reader->packing == PACKING_NONE)
        odd = (size_t)reader->size % width;
    if (odd != 0) {
        snprintf(why, sizeof why, "its last token is cut off: %zu bytes of %zu", odd, width);
        return make_fault(shard, why, record);
    }
    size_t bytes = have < most ? have : most;
    for (size_t at = 0; at < bytes; at += width) {
        int32_t token = token_at(reader->data + reader->begin + at, width);
        if (token < 0) {
            snprintf(why, sizeof why, "token %lld is larger than 2147483647",
                     (long long)(shard->first + (int64_t)(at / width)));
            return make_fault(shard, why, record);
        }
        shard->token[shard->tokens++] = token;
    }
    reader->begin += bytes;
    return make_record(shard, reader->ended && bytes == have, record);
}

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

// Opens the document of the next line, or makes a fault of it.
static enum status next_document(struct shard *shard, int64_t deadline_ms, struct record **record) {
    struct jsonl_document document;
    char *line = NULL;
    size_t bytes = 0;
    for (;;) {
        TRY(read_line(shard, deadline_ms, &line, &bytes));
        if (shard->line == 1 && bytes != SIZE_MAX && bytes >= 3 &&
            memcmp(line, "\xef\xbb\xbf", 3) == 0) { // a byte order mark, as some editors leave it
            line += 3;
            bytes -= 3;
        }
        if (bytes == SIZE_MAX || !is_blank(line, bytes)) break;
        if (clock_ms() > deadline_ms) return STATUS_AGAIN;
    }
    if (bytes == SIZE_MAX) {
        char why[128];
        snprintf(why, sizeof why, "the line is longer than %lld bytes (--max-line)",
                 (long long)shard->settings->max_line);
        return make_fault(shard, why, record);
    }
    if (!jsonl_parse(&shard->jsonl, line, bytes, &document)) {
        return make_fault(shard, shard->jsonl.wrong, record);
    }
    if (document.id == NULL) {
        int length = snprintf(shard->place, sizeof shard->place, "%.900s:%lld", shard->input->name,
                              (long long)shard->line);
        document.id = shard->place;
        document.id_bytes = (size_t)length;
    }
    begin_document(shard, &document);
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

static enum status jsonl_next(struct shard *shard, int64_t deadline_ms, struct record **record) {
    struct jsonl_document *document = &shard->document;
    const int64_t most = shard->settings->record_tokens;
    if (!shard->begun && !shard->giving) {
        TRY(begin_or_fault(shard, deadline_ms, record));
        if (*record != NULL) return STATUS_OK;
        shard->giving = shard->held_count > 0;
    }
    if (shard->giving) {
        *record = shard->held[shard->held_given++];
        if (shard->held_given == shard->held_count) drop_held(shard); // all are given
        return STATUS_OK;
    }
    if (document->text == NULL) {
        shard->tokens = jsonl_tokens_next(&document->tokens, shard->token, most);
        return make_record(shard, document->tokens.left == 0, record);
    }
    do {
        size_t left = document->text_bytes - shard->text_at, used = 0;
        TRY(encode(shard, document->text + shard->text_at, left, true, &used));
        shard->text_at += used;
    } while (shard->text_at < document->text_bytes && shard->tokens < most);
    return make_record(shard, shard->text_at == document->text_bytes, record);
}

enum status shard_next(struct shard *shard, int64_t deadline_ms, struct record **record) {
    if (shard->ended) return STATUS_END;
    switch (shard->format) {
    case FILE_JSONL: return jsonl_next(shard, deadline_ms, record);
    case FILE_TEXT: return text_next(shard, deadline_ms, record);
    case FILE_U16:
    case FILE_U32: return raw_next(shard, deadline_ms, record);
    case FILE_AUTO: break;
    }
    return FAIL(UNEXPECTED, "%s has no format", shard->input->path);
}
