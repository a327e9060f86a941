#include "pipeline/letter_file.h"

#include "pipeline/letter_json.h"
#include "pipeline/output.h"

#include <stdlib.h>

struct letter_file {
    struct sink base;
    struct output *output;
    int64_t handed, written; // letters
};

static enum status file_letter(struct sink *base, const struct dead_letter *letter) {
    struct letter_file *file = (struct letter_file *)base;
    TRY(letter_json(letter, &file->output->pending));
    TRY(bytes_put(&file->output->pending, "\n", 1));
    file->handed++;
    return STATUS_OK;
}

static enum status file_confirmed(struct sink *base, int64_t *count) {
    struct letter_file *file = (struct letter_file *)base;
    if (file->written < file->handed) TRY(output_flush(file->output));
    file->written = file->handed;
    // A file is lost if the job dies before it has its name.
    *count = file->output->partial != NULL ? 0 : file->written;
    return STATUS_OK;
}

static enum status file_close(struct sink *base, bool complete) {
    struct letter_file *file = (struct letter_file *)base;
    enum status status = STATUS_OK;
    if (complete) {
        status = output_finish(file->output, true);
    } else {
        output_drop(file->output);
    }
    free(file);
    return status;
}

enum status letter_file_open(const char *path, struct sink **opened) {
    static const struct sink_table table = {.name = "letter file",
                                            .letter = file_letter,
                                            .confirmed = file_confirmed,
                                            .close = file_close};
    struct letter_file *file = calloc(1, sizeof *file);
    if (file == NULL) return FAIL(NO_MEMORY, "dead letters");
    file->base.table = &table;
    const enum status status = output_open(path, &file->output);
    if (status != STATUS_OK) {
        free(file);
        return status;
    }
    *opened = &file->base;
    return STATUS_OK;
}
