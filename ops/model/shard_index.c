#include "ops/model/shard_index.h"

#include "ops/base/json.h"
#include "ops/base/room.h"

#include <stdlib.h>
#include <string.h>

#define FILES_MOST      1024
#define FILE_NAME_BYTES 255

struct parsing {
    const char *path;
    struct json json;
    struct shard_index *index;
    size_t row_room, file_room;
    size_t names_at; // names are written one after the other; they are shorter than the text
};

static enum status malformed(const struct parsing *parsing) {
    return FAIL(MISMATCH, "%s, byte %zu: %s", parsing->path, parsing->json.wrong_at,
                parsing->json.wrong);
}

static enum status take_name(struct parsing *parsing, const char *raw, size_t raw_bytes,
                             const char **name) {
    char *text = parsing->index->names + parsing->names_at;
    const size_t bytes = json_unescape(raw, raw_bytes, text);
    text[bytes] = '\0';
    if (strlen(text) != bytes) {
        return FAIL(MISMATCH, "%s: a name in it holds a NUL", parsing->path);
    }
    parsing->names_at += bytes + 1;
    *name = text;
    return STATUS_OK;
}

// A file beside the index, and nothing else.
static enum status check_file(const struct parsing *parsing, const char *tensor, const char *name) {
    if (name[0] != '\0' && name[0] != '.' && strpbrk(name, "/\\") == NULL &&
        strlen(name) <= FILE_NAME_BYTES) {
        return STATUS_OK;
    }
    return FAIL(MISMATCH,
                "%s: tensor %.200s is said to stand in \"%.255s\", which is no name of a file in "
                "the same folder",
                parsing->path, tensor, name);
}

// The file's number; a new one if it has not been named yet. What it takes from the names is given
// back if it has.
static enum status number_file(struct parsing *parsing, const char *tensor, const char *raw,
                               size_t raw_bytes, int32_t *number) {
    struct shard_index *index = parsing->index;
    const size_t names_at = parsing->names_at;
    const char *name;
    void *files = index->files;
    TRY(take_name(parsing, raw, raw_bytes, &name));
    TRY(check_file(parsing, tensor, name));
    for (int32_t i = index->file_count; i > 0; i--) { // the last named one first: it is most often
        if (strcmp(index->files[i - 1], name) != 0) continue;
        parsing->names_at = names_at;
        *number = i - 1;
        return STATUS_OK;
    }
    if (index->file_count == FILES_MOST) {
        return FAIL(MISMATCH, "%s names more than %d files", parsing->path, FILES_MOST);
    }
    TRY(room_for(&files, &parsing->file_room, (size_t)index->file_count + 1, sizeof(char *)));
    index->files = files;
    index->files[index->file_count] = name;
    *number = index->file_count++;
    return STATUS_OK;
}

static enum status read_map(struct parsing *parsing) {
    struct shard_index *index = parsing->index;
    struct json *json = &parsing->json;
    const char *key, *raw;
    size_t key_bytes, raw_bytes;
    if (!json_object(json)) return malformed(parsing);
    while (json_key(json, &key, &key_bytes)) {
        struct shard_row row;
        void *rows = index->rows;
        if (!json_string(json, &raw, &raw_bytes)) return malformed(parsing);
        TRY(take_name(parsing, key, key_bytes, &row.tensor));
        TRY(number_file(parsing, row.tensor, raw, raw_bytes, &row.file));
        TRY(room_for(&rows, &parsing->row_room, (size_t)index->count + 1, sizeof row));
        index->rows = rows;
        index->rows[index->count++] = row;
    }
    return json->wrong == NULL ? STATUS_OK : malformed(parsing);
}

static int by_tensor(const void *a, const void *b) {
    const struct shard_row *x = a, *y = b;
    return strcmp(x->tensor, y->tensor);
}

static enum status sort_rows(const struct parsing *parsing) {
    const struct shard_index *index = parsing->index;
    if (index->count == 0) return FAIL(MISMATCH, "%s names no tensors", parsing->path);
    qsort(index->rows, (size_t)index->count, sizeof *index->rows, by_tensor);
    for (int64_t i = 1; i < index->count; i++) {
        if (by_tensor(&index->rows[i - 1], &index->rows[i]) == 0) {
            return FAIL(MISMATCH, "%s: tensor %.200s stands twice", parsing->path,
                        index->rows[i].tensor);
        }
    }
    return STATUS_OK;
}

static enum status parse(struct parsing *parsing) {
    struct json *json = &parsing->json;
    const char *key;
    size_t bytes;
    bool mapped = false;
    if (!json_object(json)) return malformed(parsing);
    while (json_key(json, &key, &bytes)) {
        if (!json_is(key, bytes, "weight_map")) {
            json_skip(json);
        } else if (mapped) {
            return FAIL(MISMATCH, "%s: weight_map stands twice", parsing->path);
        } else {
            mapped = true;
            TRY(read_map(parsing));
        }
    }
    if (!json_end(json)) return malformed(parsing);
    if (!mapped) return FAIL(MISMATCH, "%s holds no weight_map: no index of shards", parsing->path);
    return sort_rows(parsing);
}

enum status shard_index_parse(const char *path, const char *text, size_t bytes,
                              struct shard_index *parsed) {
    struct shard_index index = {0};
    struct parsing parsing = {.path = path, .index = &index};
    index.names = malloc(bytes + 1);
    if (index.names == NULL) return FAIL(NO_MEMORY, "%s: an index of %zu bytes", path, bytes);
    json_open(&parsing.json, text, bytes);
    const enum status status = parse(&parsing);
    if (status == STATUS_OK) {
        *parsed = index;
    } else {
        shard_index_free(&index);
    }
    return status;
}

int32_t shard_index_find(const struct shard_index *index, const char *tensor) {
    const struct shard_row wanted = {.tensor = tensor};
    if (index->count == 0) return -1;
    const struct shard_row *row =
        bsearch(&wanted, index->rows, (size_t)index->count, sizeof wanted, by_tensor);
    return row == NULL ? -1 : row->file;
}

void shard_index_free(struct shard_index *index) {
    free(index->rows);
    free(index->files);
    free(index->names);
    *index = (struct shard_index){0};
}
