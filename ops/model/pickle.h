#pragma once
// What the pickle of a torch state dict says, read by a fixed set of opcodes. Nothing is imported,
// called or executed: a global is a row of a table, a call is a case of a switch, and whatever is
// not in them is refused by its name.

#include "ops/model/tensor.h"

C_BEGIN

#define PICKLE_BYTES_MOST ((size_t)4 << 20) // a layer takes two kilobytes

struct pickle_storage {
    const char *key; // not terminated, in the pickle
    size_t key_bytes;
    enum dtype dtype;
    int64_t element_bytes;
    int64_t count; // of elements
};

// As the pickle says it: nothing of this has been held against the storage.
struct pickle_tensor {
    int64_t storage; // index
    int64_t offset;  // in elements
    int32_t dims;
    int64_t shape[TENSOR_DIMS_MOST], stride[TENSOR_DIMS_MOST];
};

struct pickle_item {
    const char *name; // not terminated, in the pickle
    size_t name_bytes;
    int64_t tensor; // index
};

struct state_dict {
    struct pickle_storage *storages;
    struct pickle_tensor *tensors;
    struct pickle_item *items; // in the order of the file; a name may stand twice
    int64_t storage_count, tensor_count, item_count;
};

// `bytes` stays the caller's and must outlive the result; `path` is for messages only.
// Errors: MISMATCH (what is in it, by name and byte), NO_MEMORY.
enum status pickle_parse(const char *path, const char *bytes, size_t size,
                         struct state_dict *parsed);
void state_dict_free(struct state_dict *dict); // accepts an empty one

C_END
