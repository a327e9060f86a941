// The names of outputs, and all that can be wrong with them before anything is written.
#include "pipeline/output_names.h"

#include "ops/base/check.h"
#include "ops/base/room.h"
#include "pipeline/output.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool is_folder(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

static bool ends_with(const char *text, const char *end) {
    size_t bytes = strlen(text), end_bytes = strlen(end);
    return bytes >= end_bytes && strcmp(text + bytes - end_bytes, end) == 0;
}

// A file of results by its name, packed or not.
static bool is_results(const char *path) {
    return packing_of(path) != PACKING_NONE || ends_with(path, ".jsonl");
}

// FOLDER/NAME.jsonl for FOLDER/NAME.txt and the like, FOLDER/NAME.jsonl.gz for FOLDER/NAME.txt.gz;
// a name's first dot may hide it only.
static char *name_in_folder(const char *folder, const char *name) {
    const char *packed = packing_extension(packing_of(name));
    size_t stem = packing_stem(name);
    for (size_t at = stem; at-- > 1;) {
        if (name[at] != '.') continue;
        stem = at;
        break;
    }
    size_t bytes = strlen(folder) + stem + strlen(packed) + sizeof "/.jsonl";
    char *path = malloc(bytes);
    if (path == NULL) return NULL;
    snprintf(path, bytes, "%s%s%.*s.jsonl%s", folder, ends_with(folder, "/") ? "" : "/", (int)stem,
             name, packed);
    return path;
}

static enum status name_all(const struct file_sink_settings *settings, struct output_names *names) {
    const struct inputs *inputs = settings->inputs;
    const char *path = settings->path;
    bool standard = strcmp(path, "-") == 0;
    bool folder = !standard && (is_folder(path) || ends_with(path, "/"));
    if (path[0] == '\0') return FAIL(USAGE, "the output has no name");
    if (inputs == NULL && folder) {
        return FAIL(USAGE, "a stream goes into one file: %s is a folder", path);
    }
    if (!folder) TRY(output_check_name(path));
    names->shared = standard || inputs == NULL;
    names->count = names->shared ? 1 : inputs->count;
    CHECK(names->count >= 1);
    names->path = calloc((size_t)names->count, sizeof *names->path);
    if (names->path == NULL) return FAIL(NO_MEMORY, "the names of outputs");
    if (names->count > 1 && !folder) {
        struct stat about;
        // another rank may have made the folder since
        if (is_results(path) || (stat(path, &about) == 0 && !S_ISDIR(about.st_mode))) {
            return FAIL(USAGE, "%lld inputs give as many outputs, and %s is no folder for them",
                        (long long)names->count, path);
        }
        folder = true;
    }
    for (int64_t i = 0; i < names->count; i++) {
        names->path[i] = folder ? name_in_folder(path, inputs->input[i].name) : strdup(path);
        if (names->path[i] == NULL) return FAIL(NO_MEMORY, "the names of outputs");
    }
    if (folder) {
        names->folder = strdup(path);
        if (names->folder == NULL) return FAIL(NO_MEMORY, "the names of outputs");
    }
    return STATUS_OK;
}

enum status output_names_build(const struct file_sink_settings *settings,
                               struct output_names *names) {
    struct output_names built = {0};
    enum status status = name_all(settings, &built);
    if (status != STATUS_OK) {
        output_names_free(&built);
        return status;
    }
    *names = built;
    return STATUS_OK;
}

void output_names_free(struct output_names *names) {
    for (int64_t i = 0; names->path != NULL && i < names->count; i++) {
        free(names->path[i]);
    }
    free(names->path);
    free(names->folder);
    *names = (struct output_names){0};
}

static bool is_older(const struct stat *output, const struct stat *input) {
    const struct timespec *left = &output->st_mtim, *right = &input->st_mtim;
    return left->tv_sec < right->tv_sec ||
           (left->tv_sec == right->tv_sec && left->tv_nsec < right->tv_nsec);
}

// What was made of an input that is gone stays.
static bool is_complete(const char *path, const char *input, int64_t *older) {
    struct stat made, from;
    if (stat(path, &made) != 0 || !S_ISREG(made.st_mode)) return false;
    if (strcmp(input, "-") == 0) return false;
    if (stat(input, &from) != 0) return true;
    if (!S_ISREG(from.st_mode)) return false;
    if (!is_older(&made, &from)) return true;
    LOG(DEBUG, "%s is older than %s and is made again", path, input);
    (*older)++;
    return false;
}

enum status file_sink_complete(const struct file_sink_settings *settings, bool *complete,
                               int64_t *older) {
    struct output_names names = {0};
    enum status status = STATUS_OK;
    *older = 0;
    TRY(output_names_build(settings, &names));
    for (int64_t i = 0; i < settings->inputs->count; i++) {
        const char *input = settings->inputs->input[i].path;
        complete[i] = !names.shared && is_complete(names.path[i], input, older);
        if (*older > 0 && settings->no_clobber) {
            status = FAIL(USAGE,
                          "%s is older than its input %s and may not be replaced "
                          "(--no-clobber)",
                          names.path[i], input);
            break;
        }
    }
    output_names_free(&names);
    return status;
}

// A file or name and the input it belongs to, to be sorted.
struct owner {
    const char *path;
    dev_t device;
    ino_t file;
    int64_t input;
};

static int by_path(const void *a, const void *b) {
    const struct owner *left = a, *right = b;
    return strcmp(left->path, right->path);
}

static int by_file(const void *a, const void *b) {
    const struct owner *left = a, *right = b;
    if (left->device != right->device) return left->device < right->device ? -1 : 1;
    return (left->file > right->file) - (left->file < right->file);
}

static enum status check_shared_names(const struct inputs *inputs, const struct output_names *names,
                                      struct owner *owners) {
    for (int64_t i = 0; i < names->count; i++) {
        owners[i] = (struct owner){.path = names->path[i], .input = i};
    }
    qsort(owners, (size_t)names->count, sizeof *owners, by_path);
    for (int64_t i = 1; i < names->count; i++) {
        if (strcmp(owners[i - 1].path, owners[i].path) != 0) continue;
        return FAIL(USAGE, "the inputs %s and %s would both give the output %s",
                    inputs->input[owners[i - 1].input].path, inputs->input[owners[i].input].path,
                    owners[i].path);
    }
    return STATUS_OK;
}

// An output that exists may be an input, under whatever name.
static enum status check_existing(const struct file_sink_settings *settings,
                                  const struct output_names *names, struct owner *owners) {
    const struct inputs *inputs = settings->inputs;
    size_t known = 0;
    struct stat about;
    for (int64_t i = 0; inputs != NULL && i < inputs->count; i++) {
        if (stat(inputs->input[i].path, &about) != 0 || !S_ISREG(about.st_mode)) continue;
        owners[known++] = (struct owner){
            .path = inputs->input[i].path, .device = about.st_dev, .file = about.st_ino};
    }
    if (known > 0) qsort(owners, known, sizeof *owners, by_file);
    for (int64_t i = 0; i < names->count; i++) {
        if (stat(names->path[i], &about) != 0 || !S_ISREG(about.st_mode)) continue;
        struct owner wanted = {.device = about.st_dev, .file = about.st_ino};
        const struct owner *same =
            known == 0 ? NULL : bsearch(&wanted, owners, known, sizeof *owners, by_file);
        if (same != NULL) {
            return FAIL(USAGE, "the output %s would replace the input %s", names->path[i],
                        same->path);
        }
        if (settings->no_clobber && !settings->resume) {
            return FAIL(USAGE, "%s exists and may not be replaced (--no-clobber)", names->path[i]);
        }
    }
    return STATUS_OK;
}

static enum status check_folder(const struct output_names *names) {
    const char *path = names->folder != NULL ? names->folder : names->path[0];
    if (names->folder != NULL && is_folder(path)) return STATUS_OK;
    char *copy = strdup(path);
    if (copy == NULL) return FAIL(NO_MEMORY, "the name %s", path);
    const char *parent = dirname(copy);
    enum status status = STATUS_OK;
    if (!is_folder(parent)) {
        status = FAIL(USAGE, "cannot write %s: there is no folder %s", path, parent);
    }
    free(copy);
    return status;
}

enum status file_sink_check(const struct file_sink_settings *settings) {
    struct output_names names = {0};
    enum status status = STATUS_OK;
    int64_t inputs = settings->inputs == NULL ? 0 : settings->inputs->count;
    struct owner *owners = NULL;
    TRY(output_names_build(settings, &names));
    if (strcmp(settings->path, "-") == 0) goto out;
    owners = calloc((size_t)(inputs > names.count ? inputs : names.count), sizeof *owners);
    if (owners == NULL) {
        status = FAIL(NO_MEMORY, "the names of outputs");
        goto out;
    }
    TRY_OUT(status, check_folder(&names));
    if (inputs > 1) TRY_OUT(status, check_shared_names(settings->inputs, &names, owners));
    TRY_OUT(status, check_existing(settings, &names, owners));
out:
    free(owners);
    output_names_free(&names);
    return status;
}
