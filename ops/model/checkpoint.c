#include "ops/model/checkpoint.h"

#include "ops/base/room.h"
#include "ops/model/safetensors.h"
#include "ops/model/shard_index.h"
#include "ops/model/torch_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define INDEX_BYTES_MOST ((size_t)16 << 20)
#define PATH_BYTES       4096
#define INDEX_END        ".index.json"

struct opening {
    struct checkpoint *checkpoint;
    int32_t at;  // the file under way
    size_t room; // of the tensors
};

static bool ends_with(const char *text, const char *end) {
    const size_t bytes = strlen(text), tail = strlen(end);
    return bytes >= tail && strcmp(text + bytes - tail, end) == 0;
}

static enum status join(const char *dir, const char *name, char *path) {
    if (snprintf(path, PATH_BYTES, "%s/%s", dir, name) < PATH_BYTES) return STATUS_OK;
    return FAIL(USAGE, "a path of over %d bytes: %.64s...", PATH_BYTES, dir);
}

static const char *name_here(const char *name) {
    const char *prefix = "model.", *original = "backbone.embedding.weight";
    if (strncmp(name, prefix, strlen(prefix)) == 0) {
        const char *rest = name + strlen(prefix);
        if (strncmp(rest, "backbone.", 9) == 0 || strncmp(rest, "lm_head.", 8) == 0) name = rest;
    }
    return strcmp(name, original) == 0 ? "backbone.embeddings.weight" : name;
}

static enum status make_files(struct checkpoint *checkpoint, int32_t count) {
    checkpoint->files = calloc((size_t)count, sizeof *checkpoint->files);
    if (checkpoint->files == NULL) return FAIL(NO_MEMORY, "a checkpoint of %d files", count);
    checkpoint->file_count = count;
    return STATUS_OK;
}

static struct checkpoint_file *file_of(const struct opening *opening) {
    return &opening->checkpoint->files[opening->at];
}

// Takes over the parsed tensors. An index must know each of them as this file's.
static enum status add_tensors(struct opening *opening, const struct shard_index *index,
                               struct tensors *parsed) {
    struct checkpoint *checkpoint = opening->checkpoint;
    struct checkpoint_file *file = file_of(opening);
    struct tensors *all = &checkpoint->tensors;
    void *items = all->items;
    file->names = parsed->names;
    parsed->names = NULL;
    TRY(room_for(&items, &opening->room, (size_t)(all->count + parsed->count), sizeof *all->items));
    all->items = items;
    for (int64_t i = 0; i < parsed->count; i++) {
        const char *name = parsed->items[i].name;
        const int32_t owner = index == NULL ? opening->at : shard_index_find(index, name);
        if (owner != opening->at) {
            return FAIL(MISMATCH, "%s: tensor %.200s stands in it, but the index says %s",
                        file->path, name, owner < 0 ? "nothing of it" : index->files[owner]);
        }
        all->items[all->count] = parsed->items[i];
        all->items[all->count++].name = name_here(name);
    }
    return STATUS_OK;
}

// The next file, whose path is set.
static enum status add_file(struct opening *opening, const struct shard_index *index,
                            const char *bytes, size_t size) {
    const char *path = file_of(opening)->path;
    struct tensors parsed = {0};
    if (ends_with(path, ".bin")) {
        TRY(torch_parse(path, bytes, size, &parsed));
    } else {
        TRY(safetensors_parse(path, bytes, size, &parsed));
    }
    const enum status status = add_tensors(opening, index, &parsed);
    tensors_free(&parsed);
    return status;
}

static enum status set_path(const struct opening *opening, const char *path) {
    file_of(opening)->path = strdup(path);
    return file_of(opening)->path != NULL ? STATUS_OK
                                          : FAIL(NO_MEMORY, "a path of %zu bytes", strlen(path));
}

static enum status map_file(struct opening *opening, const struct shard_index *index,
                            const char *path) {
    struct checkpoint_file *file = file_of(opening);
    TRY(set_path(opening, path));
    TRY(mapped_file_open(path, SIZE_MAX, &file->file));
    return add_file(opening, index, file->file.bytes, file->file.size);
}

// What the index names and no file has.
static enum status check_complete(const struct opening *opening, const char *path,
                                  const struct shard_index *index) {
    const struct tensors *tensors = &opening->checkpoint->tensors;
    if (tensors->count == index->count) return STATUS_OK;
    for (int64_t i = 0; i < index->count; i++) {
        const char *name = name_here(index->rows[i].tensor);
        if (tensors_find(tensors, name) != NULL) continue;
        return FAIL(MISMATCH, "%s: tensor %.200s is not in %s, where the index says it stands",
                    path, name, index->files[index->rows[i].file]);
    }
    return FAIL(MISMATCH, "%s: a tensor stands twice under different spellings", path);
}

static enum status open_shards(struct opening *opening, const char *dir, const char *index_path,
                               const struct shard_index *index) {
    struct checkpoint *checkpoint = opening->checkpoint;
    struct stat about;
    char path[PATH_BYTES];
    TRY(make_files(checkpoint, index->file_count));
    for (; opening->at < index->file_count; opening->at++) {
        const char *name = index->files[opening->at];
        TRY(join(dir, name, path));
        if (lstat(path, &about) != 0) {
            const bool missing = errno == ENOENT;
            return FAIL(USAGE, "%s: %s; %s names it as one of %d%s", path,
                        missing ? "no such file" : strerror(errno), index_path, index->file_count,
                        missing ? ": fetch it" : "");
        }
        TRY(map_file(opening, index, path));
    }
    TRY(tensors_sort(index_path, &checkpoint->tensors));
    return check_complete(opening, index_path, index);
}

static enum status open_index(struct opening *opening, const char *dir, const char *path) {
    struct mapped_file file = {0};
    struct shard_index index = {0};
    TRY(mapped_file_open(path, INDEX_BYTES_MOST, &file));
    enum status status = shard_index_parse(path, file.bytes, file.size, &index);
    mapped_file_close(&file);
    if (status == STATUS_OK) status = open_shards(opening, dir, path, &index);
    shard_index_free(&index);
    return status;
}

static enum status open_one(struct opening *opening, const char *path) {
    TRY(make_files(opening->checkpoint, 1));
    TRY(map_file(opening, NULL, path));
    return tensors_sort(path, &opening->checkpoint->tensors);
}

static enum status find_weights(const char *dir, char *path) {
    static const char *const names[] = {"model.safetensors", "model.safetensors" INDEX_END,
                                        "pytorch_model.bin", "pytorch_model.bin" INDEX_END,
                                        "consolidated.safetensors"};
    struct stat about;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        TRY(join(dir, names[i], path));
        if (lstat(path, &about) == 0)
            return STATUS_OK; // also a link that leads nowhere: said later
    }
    return FAIL(USAGE,
                "%s holds no weights: there is no model.safetensors, model.safetensors" INDEX_END
                ", pytorch_model.bin or consolidated.safetensors",
                dir);
}

enum status checkpoint_open(const char *dir, struct checkpoint *opened) {
    struct checkpoint checkpoint = {0};
    struct opening opening = {.checkpoint = &checkpoint};
    enum status status = STATUS_OK;
    char path[PATH_BYTES];
    TRY_OUT(status, find_weights(dir, path));
    if (ends_with(path, INDEX_END)) {
        TRY_OUT(status, open_index(&opening, dir, path));
    } else {
        TRY_OUT(status, open_one(&opening, path));
    }
    *opened = checkpoint;
    checkpoint = (struct checkpoint){0};
out:
    checkpoint_close(&checkpoint);
    return status;
}

enum status checkpoint_parse(const char *path, const char *bytes, size_t size,
                             struct checkpoint *opened) {
    struct checkpoint checkpoint = {0};
    struct opening opening = {.checkpoint = &checkpoint};
    enum status status = STATUS_OK;
    TRY_OUT(status, make_files(&checkpoint, 1));
    TRY_OUT(status, set_path(&opening, path));
    TRY_OUT(status, add_file(&opening, NULL, bytes, size));
    TRY_OUT(status, tensors_sort(checkpoint.files[0].path, &checkpoint.tensors));
    *opened = checkpoint;
    checkpoint = (struct checkpoint){0};
out:
    checkpoint_close(&checkpoint);
    return status;
}

void checkpoint_close(struct checkpoint *checkpoint) {
    tensors_free(&checkpoint->tensors);
    for (int32_t i = 0; i < checkpoint->file_count; i++) {
        free(checkpoint->files[i].path);
        free(checkpoint->files[i].names);
        mapped_file_close(&checkpoint->files[i].file);
    }
    free(checkpoint->files);
    *checkpoint = (struct checkpoint){0};
}
