#pragma once
// What the readers of the formats share. Errors: those of shard_next.

#include "pipeline/shard.h"

#define PATH_IN_FAULT 1000 // bytes; a longer path loses its end, not its reason

void shard_begin_document(struct shard *shard, const struct jsonl_document *document);
// Tokens of as much of the text as fits. *used: bytes of it; *done: the document has no more tokens.
// Errors: BAD_INPUT too: the tokenizer says what is wrong with the text.
enum status shard_encode(struct shard *shard, const char *text, size_t bytes, bool ends,
                         size_t *used, bool *done);
// A record of the tokens gathered so far.
enum status shard_make_record(struct shard *shard, bool last, struct record **made);
// The document, and with it a file that is one document, cannot be used.
enum status shard_make_fault(struct shard *shard, const char *why, struct record **made);

void shard_drop_held(struct shard *shard); // those not given yet
enum status shard_jsonl_more(struct shard *shard, int64_t deadline_ms);
enum status shard_jsonl_next(struct shard *shard, int64_t deadline_ms, struct record **record);
