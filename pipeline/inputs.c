// From one SRC to the list of files it stands for.
#include "pipeline/inputs.h"

#include "ops/base/room.h"
#include "pipeline/packing.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool ends_with(const char *text, const char *end) {
    size_t bytes = strlen(text), end_bytes = strlen(end);
    return bytes >= end_bytes && strcmp(text + bytes - end_bytes, end) == 0;
}

static const char *name_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

// Outputs of a run that died, and files that the owner has hidden.
static bool is_left_out(const char *name) {
    return name[0] == '.' || ends_with(name, ".partial");
}

// Owns: path becomes the list's, also on failure.
static enum status add(struct inputs *inputs, char *path) {
    if (path == NULL) return FAIL(NO_MEMORY, "the path of an input");
    struct stat about;
    void *items = inputs->input;
    enum status status = STATUS_OK;
    bool standard = strcmp(path, "-") == 0;
    if (packing_unsupported(path) != NULL) {
        status = FAIL(USAGE,
                      "cannot read %s: %s is not supported; unpack it, or pack it as .gz "
                      "or .zst",
                      path, packing_unsupported(path));
    } else if (inputs->count == INT32_MAX) {
        status = FAIL(USAGE, "more than %d input files", INT32_MAX);
    } else {
        status = room_for(&items, &inputs->room, (size_t)inputs->count + 1, sizeof *inputs->input);
    }
    if (status != STATUS_OK) {
        free(path);
        return status;
    }
    inputs->input = items;
    struct input *input = &inputs->input[inputs->count++];
    *input = (struct input){.path = path, .name = standard ? "stdin" : name_of(path), .bytes = -1};
    if (!standard && stat(path, &about) == 0 && S_ISREG(about.st_mode))
        input->bytes = about.st_size;
    return STATUS_OK;
}

static int by_path(const void *a, const void *b) {
    const struct input *left = a, *right = b;
    return strcmp(left->path, right->path);
}

static void sort(struct inputs *inputs) {
    if (inputs->count > 1) {
        qsort(inputs->input, (size_t)inputs->count, sizeof *inputs->input, by_path);
    }
}

static bool is_regular(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISREG(about.st_mode);
}

static char *join(const char *folder, const char *name) {
    size_t bytes = strlen(folder) + strlen(name) + 2;
    char *path = malloc(bytes);
    if (path == NULL) return NULL;
    snprintf(path, bytes, "%s%s%s", folder, ends_with(folder, "/") ? "" : "/", name);
    return path;
}

static enum status add_folder(struct inputs *inputs, const char *folder) {
    DIR *open = opendir(folder);
    if (open == NULL) return FAIL(IO, "cannot read the folder %s: %s", folder, strerror(errno));
    enum status status = STATUS_OK;
    int64_t others = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(open);
        if (entry == NULL) break;
        if (is_left_out(entry->d_name)) continue;
        char *path = join(folder, entry->d_name);
        if (path != NULL && !is_regular(path)) {
            others++;
            free(path);
            continue;
        }
        TRY_OUT(status, add(inputs, path));
    }
    if (errno != 0) {
        status = FAIL(IO, "cannot read the folder %s: %s", folder, strerror(errno));
        goto out;
    }
    if (others > 0) {
        LOG(WARN, "folder %s: %lld entries that are no files are left out", folder,
            (long long)others);
    }
    if (inputs->count == 0) {
        status = FAIL(USAGE, "the folder %s holds no file to read", folder);
        goto out;
    }
    sort(inputs);
out:
    closedir(open);
    return status;
}

static enum status add_glob(struct inputs *inputs, const char *pattern) {
    glob_t found = {0};
    int outcome = glob(pattern, GLOB_NOSORT, NULL, &found);
    enum status status = STATUS_OK;
    if (outcome == GLOB_NOSPACE) {
        status = FAIL(NO_MEMORY, "the files that %s matches", pattern);
        goto out;
    }
    for (size_t i = 0; outcome == 0 && i < found.gl_pathc; i++) {
        const char *path = found.gl_pathv[i];
        if (is_left_out(name_of(path)) || !is_regular(path)) continue;
        TRY_OUT(status, add(inputs, strdup(path)));
    }
    if (inputs->count == 0) {
        status = FAIL(USAGE, "there is no file %s, and as a pattern it matches none", pattern);
        goto out;
    }
    sort(inputs);
out:
    globfree(&found);
    return status;
}

// A listed file that is missing, or none, is found out when its turn comes: the others are still
// scored.
static enum status add_list(struct inputs *inputs, const char *list) {
    FILE *open = fopen(list, "re");
    if (open == NULL) return FAIL(USAGE, "cannot open the list %s: %s", list, strerror(errno));
    enum status status = STATUS_OK;
    char *line = NULL;
    size_t room = 0;
    ssize_t bytes = 0;
    while ((bytes = getline(&line, &room, open)) >= 0) {
        while (bytes > 0 && (line[bytes - 1] == '\n' || line[bytes - 1] == '\r'))
            bytes--;
        line[bytes] = '\0';
        if (bytes == 0) continue;
        if (strlen(line) != (size_t)bytes || strcmp(line, "-") == 0) {
            status = FAIL(USAGE, "the list %s may hold files only, not %s", list, line);
            goto out;
        }
        TRY_OUT(status, add(inputs, strdup(line)));
    }
    if (ferror(open)) {
        status = FAIL(IO, "cannot read the list %s: %s", list, strerror(errno));
    } else if (inputs->count == 0) {
        status = FAIL(USAGE, "the list %s names no file", list);
    }
out:
    free(line);
    fclose(open);
    return status;
}

enum status inputs_expand(const char *source, struct inputs *inputs) {
    struct inputs found = {0};
    struct stat about;
    enum status status = STATUS_OK;
    if (source[0] == '\0') {
        status = FAIL(USAGE, "the input has no name");
    } else if (strcmp(source, "-") == 0) {
        found.alone = true;
        status = add(&found, strdup(source));
    } else if (stat(source, &about) == 0) { // a name comes before a pattern or a list
        found.alone = !S_ISDIR(about.st_mode);
        status = found.alone ? add(&found, strdup(source)) : add_folder(&found, source);
    } else if (source[0] == '@') {
        status = add_list(&found, source + 1);
    } else if (strpbrk(source, "*?[") != NULL) {
        status = add_glob(&found, source);
    } else {
        status = FAIL(USAGE, "cannot read the input %s: %s", source, strerror(errno));
    }
    if (status != STATUS_OK) {
        inputs_free(&found);
        return status;
    }
    *inputs = found;
    return STATUS_OK;
}

void inputs_free(struct inputs *inputs) {
    for (int64_t i = 0; i < inputs->count; i++) {
        free(inputs->input[i].path);
    }
    free(inputs->input);
    *inputs = (struct inputs){0};
}
