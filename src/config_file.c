// The file that --config names: lines of `name = value`, # for comments, quotes where a value has
// spaces at its ends or a #. Everything in it may be wrong, and what is gets its FILE:LINE.

#include "ops/base/json.h"
#include "src/options_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MOST (1 << 20)
#define LINE_BYTES_MOST (1 << 16)
#define SPACE           " \t\r"

struct line {
    const char *file;
    int64_t number;
    char *at; // what is left of it, terminated
};

static void skip_space(struct line *line) {
    line->at += strspn(line->at, SPACE);
}

static bool at_end(const struct line *line) {
    return *line->at == '\0' || *line->at == '#';
}

// Letters, digits and dashes; LONGSCAN_ names' underscores are taken as dashes.
static enum status take_name(struct line *line, char **name, size_t *bytes) {
    *name = line->at;
    while ((*line->at >= 'a' && *line->at <= 'z') || (*line->at >= '0' && *line->at <= '9') ||
           *line->at == '-' || *line->at == '_') {
        if (*line->at == '_') *line->at = '-';
        line->at++;
    }
    *bytes = (size_t)(line->at - *name);
    skip_space(line);
    if (*bytes > 0 && *line->at == '=') {
        line->at++;
        skip_space(line);
        return STATUS_OK;
    }
    return FAIL(USAGE, "%s:%" PRId64 ": expected name = value", line->file, line->number);
}

// Between double quotes \" and \\ stand for " and \; between single ones all is as it is written.
// The value ends up terminated, inside the line.
static enum status take_quoted(struct line *line, char **value) {
    const char quote = *line->at++;
    char *to = line->at;
    *value = to;
    while (*line->at != '\0' && *line->at != quote) {
        if (quote == '"' && *line->at == '\\') {
            line->at++;
            if (*line->at != '"' && *line->at != '\\') {
                return FAIL(USAGE, "%s:%" PRId64 ": after \\ only \\ and \" may stand", line->file,
                            line->number);
            }
        }
        *to++ = *line->at++;
    }
    if (*line->at != quote) {
        return FAIL(USAGE, "%s:%" PRId64 ": the closing %c is missing", line->file, line->number,
                    quote);
    }
    line->at++;
    *to = '\0';
    skip_space(line);
    if (at_end(line)) return STATUS_OK;
    return FAIL(USAGE, "%s:%" PRId64 ": something follows the closing %c", line->file, line->number,
                quote);
}

// Up to a # that follows a space, or the end; spaces at the end do not count.
static enum status take_value(struct line *line, char **value) {
    if (*line->at == '"' || *line->at == '\'') return take_quoted(line, value);
    *value = line->at;
    char *end = line->at;
    for (char *at = line->at; *at != '\0'; at++) {
        const bool space = strchr(SPACE, *at) != NULL;
        if (*at == '#' && (at == line->at || strchr(SPACE, at[-1]) != NULL)) break;
        if (!space) end = at + 1;
    }
    *end = '\0';
    return STATUS_OK;
}

static enum status find_option(const struct options *options, const struct line *line,
                               const char *name, size_t bytes, const struct option **found) {
    char quoted[80];
    const struct option *option = option_by_name(name, bytes);
    options_quote(name, bytes, quoted, sizeof quoted);
    if (option == NULL) {
        const char *nearest = option_nearest(name, bytes, options->bit);
        return FAIL(USAGE, "%s:%" PRId64 ": unknown option %s%s%s%s", line->file, line->number,
                    quoted, nearest != NULL ? "; did you mean " : "",
                    nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
    }
    if (option->arguments_only || option->offset == offsetof(struct settings, config)) {
        return FAIL(USAGE, "%s:%" PRId64 ": %s stands on the command line only", line->file,
                    line->number, quoted);
    }
    *found = option;
    return STATUS_OK;
}

// One file serves several verbs: options of other verbs are looked over and left.
static enum status read_line(struct options *options, struct line *line, int64_t *seen) {
    const struct option *option = NULL;
    struct option_value ignored = {0};
    char *name = NULL;
    char *value = NULL;
    char wrong[160];
    char shown[512];
    size_t bytes = 0;
    int count = 0;
    skip_space(line);
    if (at_end(line)) return STATUS_OK;
    TRY(take_name(line, &name, &bytes));
    TRY(find_option(options, line, name, bytes, &option));
    TRY(take_value(line, &value));
    const ptrdiff_t row = option - option_rows(&count);
    if (option->kind != OPTION_LIST && seen[row] != 0) {
        return FAIL(USAGE, "%s:%" PRId64 ": %s stands in line %" PRId64 " already", line->file,
                    line->number, option->name, seen[row]);
    }
    seen[row] = line->number;
    snprintf(shown, sizeof shown, "%s:%" PRId64 ": %s", line->file, line->number, option->name);
    if ((option->verbs & options->bit) != 0) {
        return options_assign(options, option, value, ORIGIN_FILE, line->number, shown);
    }
    if (option_parse(option, value, &ignored, wrong, sizeof wrong)) return STATUS_OK;
    return options_refuse(option, value, shown, wrong);
}

enum status options_read_text(struct options *options, const char *name, const char *text,
                              size_t bytes) {
    int64_t seen[OPTION_ROWS_MOST] = {0}; // line in which a row was set; 0: not yet
    struct line line = {.file = name};
    char *copy = NULL;
    if (bytes > FILE_BYTES_MOST) {
        return FAIL(USAGE, "%s: larger than %d bytes, so hardly a configuration", name,
                    FILE_BYTES_MOST);
    }
    if (memchr(text, '\0', bytes) != NULL || !utf8_valid(text, bytes)) {
        return FAIL(USAGE, "%s: not a text file in UTF-8", name);
    }
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { // a byte order mark
        text += 3;
        bytes -= 3;
    }
    TRY(options_keep(options, text, bytes, &copy));
    for (char *at = copy; at < copy + bytes;) {
        const size_t length = strcspn(at, "\n");
        line.number++;
        if (length > LINE_BYTES_MOST) {
            return FAIL(USAGE, "%s:%" PRId64 ": longer than %d bytes", name, line.number,
                        LINE_BYTES_MOST);
        }
        at[length] = '\0';
        line.at = at;
        TRY(read_line(options, &line, seen));
        at += length + 1;
    }
    return STATUS_OK;
}

enum status options_read_file(struct options *options, const char *path) {
    enum status status = STATUS_OK;
    size_t bytes = 0;
    char *kept = NULL;
    char *text = malloc(FILE_BYTES_MOST + 1);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (text == NULL) {
        status = FAIL(NO_MEMORY, "%s: %d bytes", path, FILE_BYTES_MOST);
        goto out;
    }
    if (file < 0) {
        status = FAIL(USAGE, "--config: cannot open %s: %s", path, strerror(errno));
        goto out;
    }
    while (bytes < FILE_BYTES_MOST + 1) {
        const ssize_t got = read(file, text + bytes, FILE_BYTES_MOST + 1 - bytes);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            status = FAIL(USAGE, "--config: cannot read %s: %s", path, strerror(errno));
            goto out;
        }
        if (got == 0) break;
        bytes += (size_t)got;
    }
    TRY_OUT(status, options_keep(options, path, strlen(path), &kept));
    options->file = kept;
    TRY_OUT(status, options_read_text(options, kept, text, bytes));
out:
    if (file >= 0) close(file);
    free(text);
    return status;
}
