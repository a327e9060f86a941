#pragma once
// One input file as records: JSONL (a document a line), text or raw tokens (a document a file).

#include "pipeline/byte_reader.h"
#include "pipeline/file_format.h"
#include "pipeline/jsonl.h"
#include "pipeline/tokenizer.h"

struct shard_settings {
    enum file_format format;           // FILE_AUTO: by the file's extension
    struct tokenizer *tokenizer;       // borrowed; NULL: only tokens can be read
    const char *id_field, *text_field; // borrowed
    int64_t max_line;                  // bytes of a JSONL line
    int64_t record_tokens;             // of one record, 1 to RECORD_TOKENS_MOST
};

struct shard {
    const struct shard_settings *settings; // borrowed, like the input
    const struct input *input;
    enum file_format format;
    int32_t partition;
    struct byte_reader reader;

    int64_t line;       // lines read of JSONL; records made of a file that is one document
    size_t scanned;     // bytes from the reader's begin that hold no line end
    bool skipping;      // inside a line that is too long
    bool begun, ended;  // the document; the file, as far as records go
    int64_t first;      // the document's tokens in records so far
    int64_t text_bytes; // of its text in the next record
    size_t text_at;     // of its text, in a line

    int32_t *token; // [record_tokens] of the next record
    int64_t tokens;
    char place[1024]; // NAME:LINE, the id of a document without one
    struct jsonl jsonl;
    struct jsonl_document document;
};

// Errors: IO, NO_MEMORY.
enum status shard_open(const struct input *input, int32_t partition,
                       const struct shard_settings *settings, struct shard **opened);
// Owns: *record is the caller's. Errors: AGAIN, END, IO, NO_MEMORY, USAGE (text, no tokenizer).
enum status shard_next(struct shard *shard, int64_t deadline_ms, struct record **record);
void shard_close(struct shard *shard); // accepts NULL
