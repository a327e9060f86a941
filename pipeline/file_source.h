#pragma once
// Files as a source of records: partition i is the i-th input.

#include "pipeline/shard.h"
#include "pipeline/source.h"

#define FILE_RECORD_TOKENS 65536 // tokens of a record, if nothing else is asked for

struct file_source_settings {
    struct shard_settings shard; // record_tokens 0: FILE_RECORD_TOKENS; fields NULL: "id", "text"
    int32_t group, groups;       // this is the source of one group; groups 0: there is one
    const bool *skip; // [inputs], borrowed during open: these need not be read; NULL: all are
    int64_t limit; // most documents of this group, then inputs that go on are marked as cut; 0: all
};

// Inputs are given to groups longest first, each to the group with the least; the same whatever
// is skipped, so that groups agree even if they see different outputs complete.
// An input that cannot be read, or not to its end, is a RECORD_FAULT with `last` set, of the
// document that it was in, and is marked in the inputs, so that its output is not taken for a
// complete one. It ends the run (BAD_INPUT) where it is all that --input names. Borrows the inputs and the tokenizer. Errors: USAGE, NO_MEMORY.
enum status file_source_open(struct inputs *inputs, const struct file_source_settings *settings,
                             struct source **opened);
