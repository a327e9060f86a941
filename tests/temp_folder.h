#pragma once
// A folder for a test's files, and files in it.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct temp_folder {
    char path[256];
    char name[512]; // the last name made
};

static inline void temp_folder_make(struct temp_folder *folder) {
    const char *above = getenv("TMPDIR");
    snprintf(folder->path, sizeof folder->path, "%s/longscan-test-XXXXXX",
             above == NULL ? "/tmp" : above);
    if (mkdtemp(folder->path) == NULL) abort();
}

static inline void temp_folder_remove(const struct temp_folder *folder) {
    char command[sizeof folder->path + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", folder->path);
    if (system(command) != 0) abort();
}

static inline const char *temp_name(struct temp_folder *folder, const char *name) {
    snprintf(folder->name, sizeof folder->name, "%s/%s", folder->path, name);
    return folder->name;
}

static inline const char *temp_file(struct temp_folder *folder, const char *name, const void *data,
                                    size_t bytes) {
    FILE *file = fopen(temp_name(folder, name), "wb");
    if (file == NULL || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) abort();
    return folder->name;
}

static inline const char *temp_text(struct temp_folder *folder, const char *name,
                                    const char *text) {
    return temp_file(folder, name, text, strlen(text));
}
