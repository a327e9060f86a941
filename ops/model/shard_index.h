#pragma once
// model.safetensors.index.json: which tensor of a checkpoint in several files stands in which.

#include "ops/base/status.h"

#include <stddef.h>
#include <stdint.h>

C_BEGIN

struct shard_row {
    const char *tensor; // terminated
    int32_t file;
};

struct shard_index {
    struct shard_row *rows; // by tensor
    int64_t count;
    const char **files; // names without a folder, none twice
    int32_t file_count;
    char *names; // what the names point into
};

// Files are names in the index's own folder: a path, "..", or a name that begins with a dot is
// refused. `path` is for messages only. Errors: MISMATCH, NO_MEMORY.
enum status shard_index_parse(const char *path, const char *text, size_t bytes,
                              struct shard_index *parsed);
// The file of a tensor; -1: the index does not name it.
int32_t shard_index_find(const struct shard_index *index, const char *tensor);
void shard_index_free(struct shard_index *index); // accepts an empty one

C_END
