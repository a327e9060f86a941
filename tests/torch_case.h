#pragma once
// Zips and pickles made in memory, right ones and ones that lie.

#include "ops/base/check.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct blob {
    char bytes[1 << 16];
    size_t count;
};

static inline void blob_put(struct blob *blob, const void *bytes, size_t count) {
    CHECK(count <= sizeof blob->bytes - blob->count);
    if (count > 0) memcpy(blob->bytes + blob->count, bytes, count);
    blob->count += count;
}

static inline void blob_text(struct blob *blob, const char *text) {
    blob_put(blob, text, strlen(text));
}

static inline void blob_number(struct blob *blob, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) {
        const char byte = (char)(value & 0xFF);
        blob_put(blob, &byte, 1);
        value >>= 8;
    }
}

static inline uint32_t crc_of(const char *bytes, size_t count) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < count; i++) {
        crc ^= (unsigned char)bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0xEDB88320 & (0 - (crc & 1)));
        }
    }
    return ~crc;
}

// How an entry lies; all zero: it does not.
struct entry_lie {
    int method, method_here, flags; // method_here: in the entry's own header alone
    bool other_name, other_header;  // in the entry's own header; no header where it should be
    bool wrong_crc;
    uint64_t packed, longer, at; // added to its size in the file, to both its sizes, to its place
    bool wide, wide_cut;         // sizes and place in a zip64 field; one that is too short
};

// The directory's records gather behind, until zip_end writes them.
struct zip_case {
    struct blob file, directory;
    uint64_t entries;
};

static inline void zip_add(struct zip_case *zip, const char *name, const void *data, size_t bytes,
                           const struct entry_lie *lie) {
    const size_t name_bytes = strlen(name), at = zip->file.count;
    const uint64_t size = bytes + lie->longer, packed = size + lie->packed, place = at + lie->at;
    const uint32_t crc = crc_of(data, bytes) + lie->wrong_crc;
    struct blob *file = &zip->file, *directory = &zip->directory;
    blob_put(file, lie->other_header ? "PK\3\5" : "PK\3\4", 4);
    blob_number(file, 20, 2);
    blob_number(file, (uint64_t)lie->flags, 2);
    blob_number(file, (uint64_t)lie->method_here, 2);
    blob_number(file, 0, 4);
    blob_number(file, crc, 4);
    blob_number(file, bytes, 4);
    blob_number(file, bytes, 4);
    blob_number(file, name_bytes, 2);
    blob_number(file, 8, 2); // an extra field, as torch pads with
    blob_put(file, name, name_bytes);
    if (lie->other_name) file->bytes[file->count - 1] ^= 1;
    blob_put(file, "FB\4\0ZZZZ", 8);
    blob_put(file, data, bytes);
    blob_put(directory, "PK\1\2", 4);
    blob_number(directory, 20, 2);
    blob_number(directory, 20, 2);
    blob_number(directory, (uint64_t)lie->flags, 2);
    blob_number(directory, (uint64_t)lie->method, 2);
    blob_number(directory, 0, 4);
    blob_number(directory, crc, 4);
    blob_number(directory, lie->wide ? UINT32_MAX : packed, 4);
    blob_number(directory, lie->wide ? UINT32_MAX : size, 4);
    blob_number(directory, name_bytes, 2);
    blob_number(directory, lie->wide ? 4 + 28 : 0, 2);
    blob_number(directory, 0, 2);
    blob_number(directory, 0, 8);
    blob_number(directory, lie->wide ? UINT32_MAX : place, 4);
    blob_put(directory, name, name_bytes);
    if (lie->wide) {
        blob_number(directory, lie->wide_cut ? 7 : 1, 2);
        blob_number(directory, 28, 2);
        blob_number(directory, size, 8);
        blob_number(directory, packed, 8);
        blob_number(directory, place, 8);
        blob_number(directory, 0, 4);
    }
    zip->entries++;
}

// How the end lies.
struct end_lie {
    bool wide, full;    // a zip64 end too; and the narrow one says that it is too narrow
    uint64_t entries;   // added
    uint64_t bytes, at; // of the directory, added
    uint64_t wide_entries, narrow_entries; // added in one of the two ends alone
    uint64_t wide_bytes;                   // of the zip64 end's record, added
    uint64_t wide_at;                      // of its place in the locator, added
    int disk;
    const char *behind; // put behind the file
};

static inline void zip_end(struct zip_case *zip, const struct end_lie *lie) {
    struct blob *file = &zip->file;
    const uint64_t at = file->count + lie->at, bytes = zip->directory.count + lie->bytes;
    const uint64_t entries = zip->entries + lie->entries, narrow = entries + lie->narrow_entries;
    blob_put(file, zip->directory.bytes, zip->directory.count);
    const uint64_t wide = file->count;
    if (lie->wide) {
        blob_put(file, "PK\6\6", 4);
        blob_number(file, 44 + lie->wide_bytes, 8);
        blob_number(file, 0, 12);
        blob_number(file, entries + lie->wide_entries, 8);
        blob_number(file, entries + lie->wide_entries, 8);
        blob_number(file, bytes, 8);
        blob_number(file, at, 8);
        blob_put(file, "PK\6\7", 4);
        blob_number(file, 0, 4);
        blob_number(file, wide + lie->wide_at, 8);
        blob_number(file, 1, 4);
    }
    blob_put(file, "PK\5\6", 4);
    blob_number(file, (uint64_t)lie->disk, 2);
    blob_number(file, 0, 2);
    blob_number(file, lie->full ? UINT16_MAX : narrow, 2);
    blob_number(file, lie->full ? UINT16_MAX : narrow, 2);
    blob_number(file, lie->full ? UINT32_MAX : bytes, 4);
    blob_number(file, lie->full ? UINT32_MAX : at, 4);
    blob_number(file, 0, 2);
    if (lie->behind != NULL) blob_text(file, lie->behind);
}

static inline void pickle_text(struct blob *pickle, const char *text) {
    blob_put(pickle, "X", 1);
    blob_number(pickle, strlen(text), 4);
    blob_text(pickle, text);
}

static inline void pickle_int(struct blob *pickle, int64_t value) {
    if (value >= INT32_MIN && value <= INT32_MAX) {
        blob_put(pickle, "J", 1);
        blob_number(pickle, (uint64_t)value, 4);
    } else {
        blob_put(pickle, "\x8a\x08", 2);
        blob_number(pickle, (uint64_t)value, 8);
    }
}

static inline void pickle_tuple(struct blob *pickle, const int64_t *values, int count) {
    blob_put(pickle, "(", 1);
    for (int i = 0; i < count; i++) {
        pickle_int(pickle, values[i]);
    }
    blob_put(pickle, "t", 1);
}

struct tensor_case {
    const char *name, *type, *key;
    int64_t storage; // elements
    int64_t offset, shape[2], stride[2];
    int dims;
};

// The key and the value of one item, for a dict's SETITEMS.
static inline void pickle_tensor(struct blob *pickle, const struct tensor_case *tensor) {
    pickle_text(pickle, tensor->name);
    blob_text(pickle, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_text(pickle, "storage");
    blob_text(pickle, "ctorch\n");
    blob_text(pickle, tensor->type);
    blob_text(pickle, "\n");
    pickle_text(pickle, tensor->key);
    pickle_text(pickle, "cpu");
    pickle_int(pickle, tensor->storage);
    blob_put(pickle, "tQ", 2);
    pickle_int(pickle, tensor->offset);
    pickle_tuple(pickle, tensor->shape, tensor->dims);
    pickle_tuple(pickle, tensor->stride, tensor->dims);
    blob_text(pickle, "\x89"
                      "ccollections\nOrderedDict\n)RtR");
}

static inline void pickle_dict(struct blob *pickle, const struct tensor_case *tensors, int count) {
    blob_put(pickle, "\x80\x02}q\0(", 6);
    for (int i = 0; i < count; i++) {
        pickle_tensor(pickle, &tensors[i]);
    }
    blob_put(pickle, "u.", 2);
}
