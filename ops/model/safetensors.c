// Parses and checks the header. The rules are those of the safetensors format: u64 little-endian
// length, at most 100 MiB of JSON that begins with '{', data without holes.

#include "ops/model/safetensors.h"

#include "ops/base/json.h"
#include "ops/base/room.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES_MOST ((uint64_t)100 << 20)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian");

struct parsing {
    const char *path;
    struct json json;
    const char *data;
    size_t data_bytes;
    struct tensors *file;
    size_t room;
    size_t names_at; // names are written one after the other; they are shorter than the header
};

// Bits of an element; 0: a type we do not know, whose size cannot be checked.
static const struct {
    const char *name;
    enum dtype dtype;
    int64_t bits;
} dtypes[] = {
    {"F32",     DTYPE_F32,   32},
    {"BF16",    DTYPE_BF16,  16},
    {"F16",     DTYPE_F16,   16},
    {"F64",     DTYPE_OTHER, 64},
    {"I64",     DTYPE_OTHER, 64},
    {"U64",     DTYPE_OTHER, 64},
    {"I32",     DTYPE_OTHER, 32},
    {"U32",     DTYPE_OTHER, 32},
    {"I16",     DTYPE_OTHER, 16},
    {"U16",     DTYPE_OTHER, 16},
    {"I8",      DTYPE_OTHER, 8 },
    {"U8",      DTYPE_OTHER, 8 },
    {"BOOL",    DTYPE_OTHER, 8 },
    {"F8_E4M3", DTYPE_OTHER, 8 },
    {"F8_E5M2", DTYPE_OTHER, 8 },
};

static enum status malformed(const struct parsing *parsing, const char *where) {
    return FAIL(MISMATCH, "%s, header byte %zu: %s: %s", parsing->path, parsing->json.wrong_at,
                where, parsing->json.wrong);
}

static enum status wrong_tensor(const struct parsing *parsing, const struct tensor *tensor,
                                const char *what) {
    return FAIL(MISMATCH, "%s: tensor %.200s: %s", parsing->path, tensor->name, what);
}

static enum status read_shape(struct parsing *parsing, struct tensor *tensor) {
    struct json *json = &parsing->json;
    tensor->count = 1;
    if (!json_array(json)) return malformed(parsing, tensor->name);
    while (json_item(json)) {
        int64_t size;
        if (tensor->dims == TENSOR_DIMS_MOST) {
            return wrong_tensor(parsing, tensor, "more than 8 dimensions");
        }
        if (!json_int(json, &size)) return malformed(parsing, tensor->name);
        if (size < 0) return wrong_tensor(parsing, tensor, "a negative dimension");
        if (__builtin_mul_overflow(tensor->count, size, &tensor->count)) {
            return wrong_tensor(parsing, tensor, "a shape of more than 2^63 elements");
        }
        tensor->shape[tensor->dims++] = size;
    }
    return json->wrong == NULL ? STATUS_OK : malformed(parsing, tensor->name);
}

static enum status read_offsets(struct parsing *parsing, struct tensor *tensor) {
    struct json *json = &parsing->json;
    int64_t offset[2] = {0, 0};
    const bool two = json_array(json) && json_item(json) && json_int(json, &offset[0]) &&
                     json_item(json) && json_int(json, &offset[1]) && !json_item(json);
    if (json->wrong != NULL) return malformed(parsing, tensor->name);
    if (!two || offset[0] < 0 || offset[1] < offset[0] ||
        (uint64_t)offset[1] > parsing->data_bytes) {
        return wrong_tensor(parsing, tensor, "data_offsets outside the file");
    }
    tensor->data = parsing->data + offset[0];
    tensor->bytes = (size_t)(offset[1] - offset[0]);
    return STATUS_OK;
}

static enum status read_dtype(struct parsing *parsing, struct tensor *tensor, int64_t *bits) {
    const char *raw;
    size_t bytes;
    if (!json_string(&parsing->json, &raw, &bytes)) return malformed(parsing, tensor->name);
    tensor->dtype = DTYPE_OTHER;
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (!json_is(raw, bytes, dtypes[i].name)) continue;
        tensor->dtype = dtypes[i].dtype;
        *bits = dtypes[i].bits;
    }
    return STATUS_OK;
}

static enum status read_tensor(struct parsing *parsing, struct tensor *tensor) {
    static const char *const members[] = {"dtype", "shape", "data_offsets"};
    struct json *json = &parsing->json;
    const char *key;
    size_t bytes;
    int64_t bits = 0, needs;
    int seen[3] = {0, 0, 0};
    if (!json_object(json)) return malformed(parsing, tensor->name);
    while (json_key(json, &key, &bytes)) {
        int member = 0;
        while (member < 3 && !json_is(key, bytes, members[member])) {
            member++;
        }
        if (member < 3 && seen[member]++ > 0) {
            return wrong_tensor(parsing, tensor, "dtype, shape or data_offsets stands twice");
        }
        switch (member) {
        case 0: TRY(read_dtype(parsing, tensor, &bits)); break;
        case 1: TRY(read_shape(parsing, tensor)); break;
        case 2: TRY(read_offsets(parsing, tensor)); break;
        default: json_skip(json);
        }
    }
    if (json->wrong != NULL) return malformed(parsing, tensor->name);
    if (seen[0] + seen[1] + seen[2] != 3) {
        return wrong_tensor(parsing, tensor, "dtype, shape or data_offsets is missing");
    }
    if (bits > 0 && (__builtin_mul_overflow(tensor->count, bits / 8, &needs) ||
                     (uint64_t)needs != tensor->bytes)) {
        return wrong_tensor(parsing, tensor, "data_offsets do not fit the shape and dtype");
    }
    return STATUS_OK;
}

static enum status add_tensor(struct parsing *parsing, const char *raw, size_t raw_bytes) {
    struct tensors *file = parsing->file;
    void *items = file->items;
    TRY(room_for(&items, &parsing->room, (size_t)file->count + 1, sizeof(struct tensor)));
    file->items = items;
    char *name = file->names + parsing->names_at;
    const size_t bytes = json_unescape(raw, raw_bytes, name);
    name[bytes] = '\0';
    if (strlen(name) != bytes) {
        return FAIL(MISMATCH, "%s: a tensor's name holds a NUL", parsing->path);
    }
    parsing->names_at += bytes + 1;
    file->items[file->count] = (struct tensor){.name = name, .path = parsing->path};
    TRY(read_tensor(parsing, &file->items[file->count]));
    file->count++;
    return STATUS_OK;
}

static int by_place(const void *a, const void *b) {
    const struct tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

// Sorted by place, every tensor must begin where the one before ends.
static enum status check_layout(const struct parsing *parsing) {
    const struct tensors *file = parsing->file;
    const char *end = parsing->data;
    if (file->count > 1) qsort(file->items, (size_t)file->count, sizeof(struct tensor), by_place);
    for (int64_t i = 0; i < file->count; i++) {
        const struct tensor *tensor = &file->items[i];
        if (tensor->data < end) return wrong_tensor(parsing, tensor, "overlaps another");
        if (tensor->data > end) return wrong_tensor(parsing, tensor, "unused bytes before it");
        end = tensor->data + tensor->bytes;
    }
    if (end != parsing->data + parsing->data_bytes) {
        return FAIL(MISMATCH, "%s: %zu bytes after the last tensor", parsing->path,
                    (size_t)(parsing->data + parsing->data_bytes - end));
    }
    return STATUS_OK;
}

static enum status parse_header(struct parsing *parsing) {
    struct json *json = &parsing->json;
    const char *key;
    size_t bytes;
    if (json->bytes == 0 || json->text[0] != '{' || !json_object(json)) {
        return FAIL(MISMATCH, "%s: the header does not begin with '{': no safetensors file",
                    parsing->path);
    }
    while (json_key(json, &key, &bytes)) {
        if (json_is(key, bytes, "__metadata__")) {
            json_skip(json);
        } else {
            TRY(add_tensor(parsing, key, bytes));
        }
    }
    if (!json_end(json)) return malformed(parsing, "header");
    TRY(check_layout(parsing));
    return tensors_sort(parsing->path, parsing->file);
}

enum status safetensors_parse(const char *path, const char *bytes, size_t size,
                              struct tensors *parsed) {
    struct tensors file = {0};
    struct parsing parsing = {.path = path, .file = &file};
    enum status status = STATUS_OK;
    uint64_t header;
    if (size < sizeof header) {
        return FAIL(MISMATCH, "%s has %zu bytes: no safetensors file", path, size);
    }
    memcpy(&header, bytes, sizeof header);
    if (header > size - sizeof header || header > HEADER_BYTES_MOST) {
        return FAIL(MISMATCH,
                    "%s: a header of %llu bytes in a file of %zu: truncated or no safetensors file",
                    path, (unsigned long long)header, size);
    }
    json_open(&parsing.json, bytes + sizeof header, (size_t)header);
    parsing.data = bytes + sizeof header + header;
    parsing.data_bytes = size - sizeof header - (size_t)header;
    file.names = malloc((size_t)header + 1);
    if (file.names == NULL) {
        return FAIL(NO_MEMORY, "%s: a header of %llu bytes", path, (unsigned long long)header);
    }
    TRY_OUT(status, parse_header(&parsing));
    *parsed = file;
    file = (struct tensors){0};
out:
    tensors_free(&file);
    return status;
}
