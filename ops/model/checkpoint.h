#pragma once
// The tensors of a model's folder, whichever files hold them and however those spell the names.

#include "ops/model/mapped_file.h"
#include "ops/model/tensor.h"

C_BEGIN

struct checkpoint_file {
    char *path;
    struct mapped_file file; // empty if the bytes are the caller's
    char *names;             // of its tensors
};

// Owns everything but the bytes that checkpoint_parse was given.
struct checkpoint {
    // Sorted. Names are those of HF's Mamba2ForCausalLM: "backbone.embedding." of the original code
    // reads "backbone.embeddings.", and a "model." before "backbone." and "lm_head." is left out.
    struct tensors tensors;
    struct checkpoint_file *files;
    int32_t file_count;
};

// Maps the folder's weights, the first of these that is there: model.safetensors,
// model.safetensors.index.json and its shards, pytorch_model.bin, pytorch_model.bin.index.json and
// its shards, consolidated.safetensors. Numbers stay in the files.
// Errors: USAGE (there are no weights, or a shard is missing), MISMATCH, IO, NO_MEMORY.
enum status checkpoint_open(const char *dir, struct checkpoint *opened);
// The same for one file in memory, which must outlive the result; its name says its format.
enum status checkpoint_parse(const char *path, const char *bytes, size_t size,
                             struct checkpoint *opened);
void checkpoint_close(struct checkpoint *checkpoint); // accepts an empty one

C_END
