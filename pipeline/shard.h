#pragma once
// Input files as records, one file after another: JSONL (a document a line), text or raw tokens (a
// document a file).

#include "pipeline/byte_reader.h"
#include "pipeline/file_format.h"
#include "pipeline/jsonl.h"
#include "pipeline/tokenizer.h"

#define SHARD_HELD      100
#define SHARD_LINE_KEPT ((size_t)64 * 1024) // a longer line is not kept for a dead letter

struct shard_settings {
    enum file_format format;           // FILE_AUTO: by the file's extension
    struct tokenizer *tokenizer;       // borrowed; NULL: only tokens can be read
    const char *id_field, *text_field; // borrowed
    int64_t max_line;                  // bytes of a JSONL line
    bool keep_lines;                   // in the faults of JSONL, up to SHARD_LINE_KEPT bytes
    int64_t record_tokens;             // of one record, 1 to RECORD_TOKENS_MOST
};

struct shard {
    const struct shard_settings *settings; // borrowed, like the input
    const struct input *input;             // NULL: no file is open
    enum file_format format;
    int32_t partition;
    struct byte_reader reader;

    int64_t line;       // lines read of JSONL; records made of a file that is one document
    size_t scanned;     // bytes from the reader's begin that hold no line end
    bool skipping;      // inside a line that is too long
    bool has_document;  // of JSONL: one of its lines was one
    bool begun, ended;  // the document; the file, as far as records go
    int64_t first;      // the document's tokens in records so far
    int64_t text_bytes; // of its text in the next record
    size_t text_at;     // of its text, in a line

    int32_t *token; // [record_tokens] of the next record
    int64_t tokens;
    char place[1024]; // NAME:LINE, the id of a document without one
    // Faults of a JSONL file's first lines, until one of them is a document: of a file that is no
    // JSONL at all they are one fault.
    struct record *held[SHARD_HELD];
    int held_count, held_given;
    bool giving; // what is held, before anything else
    struct jsonl jsonl;
    struct jsonl_document document;
};

// The buffers, for as many files as there are. Errors: NO_MEMORY.
enum status shard_open(const struct shard_settings *settings, struct shard **opened);
// Opens a file. Errors: IO (not logged: reader.wrong says why), NO_MEMORY.
enum status shard_begin(struct shard *shard, const struct input *input, int32_t partition);
// Owns: *record is the caller's. Errors: AGAIN, END, IO (not logged, as above), NO_MEMORY, USAGE
// (text, no tokenizer). A JSONL file whose first SHARD_HELD lines are all no documents is an IO too.
enum status shard_next(struct shard *shard, int64_t deadline_ms, struct record **record);
// After a document: OK if more of the file is left. It may not be read on after that. Errors: END
// (nothing is left), AGAIN, IO, NO_MEMORY.
enum status shard_more(struct shard *shard, int64_t deadline_ms);
void shard_end(struct shard *shard);   // closes the file
void shard_close(struct shard *shard); // accepts NULL
