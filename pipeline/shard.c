// Input files, cut into records. Memory is one buffer of a record's size, or one JSONL line.
#include "pipeline/shard_inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

void shard_drop_held(struct shard *shard) {
    while (shard->held_given < shard->held_count) {
        record_free(shard->held[shard->held_given++]);
    }
    shard->held_given = shard->held_count = 0;
    shard->giving = false;
}

void shard_end(struct shard *shard) {
    shard_drop_held(shard);
    byte_reader_close(&shard->reader);
    shard->input = NULL;
}

void shard_close(struct shard *shard) {
    if (shard == NULL) return;
    shard_drop_held(shard);
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

enum status shard_make_fault(struct shard *shard, const char *why, struct record **made) {
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
    if (!shard->begun) (*made)->first = -1; // no document, no position
    shard->ended = shard->format != FILE_JSONL;
    shard->begun = false;
    return STATUS_OK;
}

enum status shard_make_record(struct shard *shard, bool last, struct record **made) {
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

void shard_begin_document(struct shard *shard, const struct jsonl_document *document) {
    shard->document = *document;
    shard->begun = true;
    shard->first = 0;
    shard->tokens = 0;
    shard->text_bytes = 0;
    shard->text_at = 0;
    struct tokenizer *tokenizer = shard->settings->tokenizer;
    if (tokenizer != NULL && document->text != NULL) tokenizer->begin(tokenizer);
}

enum status shard_encode(struct shard *shard, const char *text, size_t bytes, bool ends,
                         size_t *used, bool *done) {
    struct tokenizer *tokenizer = shard->settings->tokenizer;
    struct tokenizer_turn turn = {.text = text,
                                  .bytes = bytes,
                                  .ends = ends,
                                  .token = shard->token + shard->tokens,
                                  .room = shard->settings->record_tokens - shard->tokens};
    if (tokenizer == NULL) {
        return FAIL(USAGE, "%s holds text, and there is no tokenizer for it: give --tokenizer",
                    shard->reader.path);
    }
    TRY(tokenizer->encode(tokenizer, &turn));
    *used = turn.used;
    *done = turn.done;
    shard->tokens += turn.tokens;
    shard->text_bytes += (int64_t)turn.used;
    return STATUS_OK;
}

static enum status text_next(struct shard *shard, int64_t deadline_ms, struct record **record) {
    struct byte_reader *reader = &shard->reader;
    if (!shard->begun) {
        const char *name = shard->input->name;
        shard_begin_document(
            shard, &(struct jsonl_document){.id = name, .id_bytes = strlen(name), .text = name});
    }
    for (;;) {
        // One byte more than a tokenizer of bytes can use, to see whether the text ends here.
        size_t room = (size_t)(shard->settings->record_tokens - shard->tokens), used = 0;
        bool done = false;
        TRY(byte_reader_fill(reader, room + 1, deadline_ms));
        size_t have = reader->end - reader->begin;
        const enum status status =
            shard_encode(shard, reader->data + reader->begin, have, reader->ended, &used, &done);
        if (status == STATUS_BAD_INPUT) { // the file is the document: it is as if damaged
            snprintf(reader->wrong, sizeof reader->wrong, "%s", shard->settings->tokenizer->wrong);
            return STATUS_IO;
        }
        if (status != STATUS_OK) return status;
        reader->begin += used;
        if (done || shard->tokens == shard->settings->record_tokens) {
            return shard_make_record(shard, done, record);
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
        shard_begin_document(shard, &(struct jsonl_document){.id = name, .id_bytes = strlen(name)});
    }
    TRY(byte_reader_fill(reader, most + 1, deadline_ms));
    size_t have = reader->end - reader->begin;
    size_t odd = reader->ended && have <= most ? have % width : 0;
    // A regular file tells at its start that its end will be odd.
    if (odd == 0 && reader->size > 0 && reader->packing == PACKING_NONE)
        odd = (size_t)reader->size % width;
    if (odd != 0) {
        snprintf(why, sizeof why, "its last token is cut off: %zu bytes of %zu", odd, width);
        return shard_make_fault(shard, why, record);
    }
    size_t bytes = have < most ? have : most;
    for (size_t at = 0; at < bytes; at += width) {
        int32_t token = token_at(reader->data + reader->begin + at, width);
        if (token < 0) {
            snprintf(why, sizeof why, "token %lld is larger than 2147483647",
                     (long long)(shard->first + (int64_t)(at / width)));
            return shard_make_fault(shard, why, record);
        }
        shard->token[shard->tokens++] = token;
    }
    reader->begin += bytes;
    return shard_make_record(shard, reader->ended && bytes == have, record);
}

enum status shard_next(struct shard *shard, int64_t deadline_ms, struct record **record) {
    if (shard->ended) return STATUS_END;
    switch (shard->format) {
    case FILE_JSONL: return shard_jsonl_next(shard, deadline_ms, record);
    case FILE_TEXT: return text_next(shard, deadline_ms, record);
    case FILE_U16:
    case FILE_U32: return raw_next(shard, deadline_ms, record);
    case FILE_AUTO: break;
    }
    return FAIL(UNEXPECTED, "%s has no format", shard->input->path);
}

enum status shard_more(struct shard *shard, int64_t deadline_ms) {
    if (shard->ended) return STATUS_END;
    return shard->format == FILE_JSONL ? shard_jsonl_more(shard, deadline_ms) : STATUS_OK;
}
