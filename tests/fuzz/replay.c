// Feeds files to a fuzz target without libFuzzer: every file named, and every file of every folder
// named. A crash or a sanitizer's report is the failure.

#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static bool replay_file(const char *path, long bytes) {
    // No byte to spare, so that a sanitizer sees a read past the end.
    uint8_t *data = malloc(bytes > 0 ? (size_t)bytes : 1);
    FILE *file = fopen(path, "rb");
    const bool good =
        data != NULL && file != NULL && fread(data, 1, (size_t)bytes, file) == (size_t)bytes;
    if (good) LLVMFuzzerTestOneInput(data, (size_t)bytes);
    if (!good) fprintf(stderr, "cannot read %s\n", path);
    if (file != NULL) fclose(file);
    free(data);
    return good;
}

// Counts the files replayed in *files.
static bool replay(const char *path, int *files) {
    struct stat about;
    if (stat(path, &about) != 0) {
        fprintf(stderr, "cannot find %s\n", path);
        return false;
    }
    if (!S_ISDIR(about.st_mode)) {
        (*files)++;
        return replay_file(path, (long)about.st_size);
    }
    DIR *folder = opendir(path);
    bool good = folder != NULL;
    const struct dirent *entry;
    while (good && (entry = readdir(folder)) != NULL) {
        char inside[4096];
        if (entry->d_name[0] == '.') continue;
        snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
        good = replay(inside, files);
    }
    if (folder != NULL) closedir(folder);
    return good;
}

int main(int count, char **paths) {
    int files = 0;
    bool good = true;
    for (int i = 1; i < count; i++) {
        good = replay(paths[i], &files) && good;
    }
    if (files == 0) fputs("nothing replayed: name files or folders\n", stderr);
    printf("replayed %d files\n", files);
    return good && files > 0 ? 0 : 1;
}
