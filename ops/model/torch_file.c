#include "ops/model/torch_file.h"

#include "ops/model/pickle.h"
#include "ops/model/zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PICKLE     "data.pkl"
#define NAME_BYTES 512 // of an entry in the zip

struct parsing {
    const char *path;
    const struct zip *zip;
    const char *folder; // of the pickle in the zip, with its slash; not terminated
    size_t folder_bytes;
    const struct state_dict *dict;
    struct tensors *tensors;
};

// The one pickle there is.
static enum status find_pickle(struct parsing *parsing, const struct zip_entry **found) {
    const size_t tail = strlen(PICKLE);
    *found = NULL;
    for (int64_t i = 0; i < parsing->zip->count; i++) {
        const struct zip_entry *entry = &parsing->zip->entries[i];
        const size_t bytes = entry->name_bytes;
        if (bytes <= tail || entry->name[bytes - tail - 1] != '/' ||
            memcmp(entry->name + bytes - tail, PICKLE, tail) != 0) {
            continue;
        }
        if (*found != NULL) {
            return FAIL(MISMATCH, "%s holds two " PICKLE ": torch.save writes one", parsing->path);
        }
        *found = entry;
        parsing->folder = entry->name;
        parsing->folder_bytes = bytes - tail;
    }
    if (*found != NULL) return STATUS_OK;
    return FAIL(MISMATCH, "%s is a zip without a " PICKLE ": not what torch.save writes",
                parsing->path);
}

// An entry beside the pickle, or NULL.
static const struct zip_entry *find_beside(const struct parsing *parsing, const char *folder,
                                           const char *name, size_t name_bytes) {
    char text[NAME_BYTES];
    const size_t head = parsing->folder_bytes, middle = strlen(folder);
    if (head + middle > sizeof text || name_bytes > sizeof text - head - middle) return NULL;
    memcpy(text, parsing->folder, head);
    memcpy(text + head, folder, middle);
    memcpy(text + head + middle, name, name_bytes);
    return zip_find(parsing->zip, text, head + middle + name_bytes);
}

static enum status check_byte_order(const struct parsing *parsing) {
    static const char little[] = "little", name[] = "byteorder";
    const struct zip_entry *entry = find_beside(parsing, "", name, sizeof name - 1);
    if (entry == NULL || (entry->bytes == sizeof little - 1 &&
                          memcmp(entry->data, little, sizeof little - 1) == 0)) {
        return STATUS_OK;
    }
    return FAIL(MISMATCH, "%s: its byteorder is not \"little\": save it on a little-endian machine",
                parsing->path);
}

static enum status wrong_tensor(const struct parsing *parsing, const struct tensor *tensor,
                                const char *what) {
    return FAIL(MISMATCH, "%s: tensor %.200s: %s", parsing->path, tensor->name, what);
}

static enum status check_storage(const struct parsing *parsing, const struct tensor *tensor,
                                 const struct pickle_storage *storage,
                                 const struct zip_entry *entry) {
    int64_t bytes;
    if (__builtin_mul_overflow(storage->count, storage->element_bytes, &bytes) ||
        (uint64_t)bytes != entry->bytes) {
        return wrong_tensor(parsing, tensor,
                            "its storage has another size in the zip than in the pickle");
    }
    return STATUS_OK;
}

// Sizes multiply without overflow, and each dimension of more than one element steps over the
// whole of those behind it.
static enum status check_shape(const struct parsing *parsing, const struct pickle_tensor *from,
                               struct tensor *tensor) {
    tensor->count = 1;
    tensor->dims = from->dims;
    for (int32_t i = from->dims - 1; i >= 0; i--) {
        if (from->shape[i] > 1 && from->stride[i] != tensor->count) {
            return wrong_tensor(parsing, tensor,
                                "is not stored row after row: save it with .contiguous()");
        }
        if (__builtin_mul_overflow(tensor->count, from->shape[i], &tensor->count)) {
            return wrong_tensor(parsing, tensor, "a shape of more than 2^63 elements");
        }
        tensor->shape[i] = from->shape[i];
    }
    return STATUS_OK;
}

static enum status add_tensor(const struct parsing *parsing, const struct pickle_item *item,
                              char *name) {
    const struct pickle_tensor *from = &parsing->dict->tensors[item->tensor];
    const struct pickle_storage *storage = &parsing->dict->storages[from->storage];
    const struct zip_entry *entry = find_beside(parsing, "data/", storage->key, storage->key_bytes);
    struct tensor *tensor = &parsing->tensors->items[parsing->tensors->count];
    memcpy(name, item->name, item->name_bytes);
    name[item->name_bytes] = '\0';
    if (strlen(name) != item->name_bytes) {
        return FAIL(MISMATCH, "%s: a tensor's name holds a NUL", parsing->path);
    }
    *tensor = (struct tensor){.name = name, .path = parsing->path, .dtype = storage->dtype};
    TRY(check_shape(parsing, from, tensor));
    if (entry == NULL) return wrong_tensor(parsing, tensor, "its storage is not in the zip");
    TRY(check_storage(parsing, tensor, storage, entry));
    if (from->offset > storage->count || tensor->count > storage->count - from->offset) {
        return wrong_tensor(parsing, tensor, "reaches past the end of its storage");
    }
    tensor->data = entry->data + from->offset * storage->element_bytes;
    tensor->bytes = (size_t)(tensor->count * storage->element_bytes);
    parsing->tensors->count++;
    return STATUS_OK;
}

static enum status add_tensors(const struct parsing *parsing) {
    const struct state_dict *dict = parsing->dict;
    char *name = parsing->tensors->names;
    for (int64_t i = 0; i < dict->item_count; i++) {
        TRY(add_tensor(parsing, &dict->items[i], name));
        name += dict->items[i].name_bytes + 1;
    }
    return tensors_sort(parsing->path, parsing->tensors);
}

static enum status read_pickle(struct parsing *parsing, struct state_dict *dict) {
    const struct zip_entry *pickle;
    TRY(find_pickle(parsing, &pickle));
    TRY(check_byte_order(parsing));
    // One that is too long is refused for that, before seconds go into its CRC.
    if (pickle->bytes <= PICKLE_BYTES_MOST && !zip_entry_is_whole(pickle)) {
        return FAIL(MISMATCH,
                    "%s: " PICKLE " does not have its CRC-32: the file is damaged; fetch it again, "
                    "or save it with checksums, which is torch's default",
                    parsing->path);
    }
    return pickle_parse(parsing->path, pickle->data, pickle->bytes, dict);
}

static size_t names_bytes(const struct state_dict *dict) {
    size_t bytes = 1;
    for (int64_t i = 0; i < dict->item_count; i++) {
        bytes += dict->items[i].name_bytes + 1;
    }
    return bytes;
}

enum status torch_parse(const char *path, const char *bytes, size_t size, struct tensors *parsed) {
    struct zip zip = {0};
    struct state_dict dict = {0};
    struct tensors tensors = {0};
    struct parsing parsing = {.path = path, .zip = &zip, .dict = &dict, .tensors = &tensors};
    if (size > 0 && (unsigned char)bytes[0] == 0x80) {
        return FAIL(MISMATCH,
                    "%s has torch's format from before 1.6, a pickle without a zip, which is not "
                    "read: load it with torch and save it again",
                    path);
    }
    enum status status = STATUS_OK;
    TRY_OUT(status, zip_parse(path, bytes, size, &zip));
    TRY_OUT(status, read_pickle(&parsing, &dict));
    tensors.items = calloc((size_t)dict.item_count + 1, sizeof *tensors.items);
    tensors.names = malloc(names_bytes(&dict));
    if (tensors.items == NULL || tensors.names == NULL) {
        status = FAIL(NO_MEMORY, "%s: %lld tensors", path, (long long)dict.item_count);
        goto out;
    }
    TRY_OUT(status, add_tensors(&parsing));
    *parsed = tensors;
    tensors = (struct tensors){0};
out:
    tensors_free(&tensors);
    state_dict_free(&dict);
    zip_free(&zip);
    return status;
}
