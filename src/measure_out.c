#include "src/measure_out.h"

#include "src/launch.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define PATH_MOST 4096

static void partial_of(const char *path, char *partial) {
    snprintf(partial, PATH_MOST, "%s.partial", path);
}

enum status measure_out_open(const struct settings *settings, struct measure_out *out) {
    char partial[PATH_MOST];
    const bool terminal = launch_output_is_terminal();
    *out = (struct measure_out){.file = stdout};
    if (strcmp(settings->output, "-") == 0) {
        out->table = strcmp(settings->print, "table") == 0 ||
                     (strcmp(settings->print, "auto") == 0 && terminal);
        return STATUS_OK;
    }
    if (strlen(settings->output) + sizeof ".partial" > PATH_MOST) {
        return FAIL(USAGE, "--output: a path of over %d bytes", PATH_MOST);
    }
    out->path = settings->output;
    partial_of(out->path, partial);
    out->file = fopen(partial, "w");
    if (out->file == NULL) return FAIL(USAGE, "--output %s: %s", out->path, strerror(errno));
    return STATUS_OK;
}

enum status measure_out_close(struct measure_out *out, bool complete) {
    char partial[PATH_MOST];
    if (out->file == NULL) return STATUS_OK;
    const bool written = fflush(out->file) == 0 && ferror(out->file) == 0;
    if (out->path == NULL) {
        return written ? STATUS_OK : FAIL(IO, "cannot write to standard output");
    }
    partial_of(out->path, partial);
    const bool closed = fclose(out->file) == 0;
    out->file = NULL;
    if (!complete) {
        unlink(partial);
        return STATUS_OK;
    }
    if (!written || !closed || rename(partial, out->path) != 0) {
        unlink(partial);
        return FAIL(IO, "--output: cannot write %s: %s", out->path, strerror(errno));
    }
    return STATUS_OK;
}
