// Results into files, one object a line.
#include "pipeline/file_sink.h"

#include "ops/base/check.h"
#include "pipeline/output_batch.h"
#include "pipeline/output_names.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>

#define WRITE_BYTES ((size_t)256 * 1024) // lines gathered for one write

struct file_sink {
    struct sink base;
    const struct inputs *inputs; // borrowed
    struct result_ids ids;
    bool replace;
    struct output_names names;
    struct output **output; // [names.count]; NULL: not begun, or finished
    int64_t open_from;      // none before it is begun and not finished
    struct output_batch batch;
    bool *finished;       // [names.count]
    int64_t handed, safe; // lines: given to us; written, counted when all outputs are
    enum status failed;   // what went wrong first; nothing is written after that
};

static int64_t place_of(const struct file_sink *sink, int32_t partition) {
    CHECK(partition >= 0);
    if (sink->names.shared) return 0;
    CHECK(partition < sink->names.count);
    return partition;
}

static enum status begin(struct file_sink *sink, int64_t place, struct output **output) {
    if (sink->failed != STATUS_OK) return sink->failed;
    CHECK(!sink->finished[place]);
    if (sink->output[place] == NULL) {
        sink->failed = output_open(sink->names.path[place], &sink->output[place]);
        if (place < sink->open_from) sink->open_from = place;
    }
    *output = sink->output[place];
    return sink->failed;
}

static enum status end_line(struct file_sink *sink, struct output *output, enum status status) {
    if (status == STATUS_OK) status = bytes_put(&output->pending, "\n", 1);
    if (status == STATUS_OK) sink->handed++;
    if (status == STATUS_OK && output->pending.count >= WRITE_BYTES) status = output_write(output);
    if (status != STATUS_OK) sink->failed = status;
    return status;
}

static enum status file_piece(struct sink *base, const struct document_piece *piece) {
    struct file_sink *sink = (struct file_sink *)base;
    struct output *output = NULL;
    TRY(begin(sink, place_of(sink, piece->partition), &output));
    return end_line(sink, output, result_json_piece(piece, &output->pending));
}

static enum status file_score(struct sink *base, const struct document_score *score) {
    struct file_sink *sink = (struct file_sink *)base;
    struct output *output = NULL;
    TRY(begin(sink, place_of(sink, score->partition), &output));
    return end_line(sink, output, result_json_score(score, &sink->ids, &output->pending));
}

static enum status file_retract(struct sink *base, const struct retraction *retraction) {
    struct file_sink *sink = (struct file_sink *)base;
    struct output *output = NULL;
    // Lines before this version's, in a file, are no reader's concern.
    if (retraction->older) {
        sink->handed++;
        return sink->failed;
    }
    TRY(begin(sink, place_of(sink, retraction->partition), &output));
    return end_line(sink, output, result_json_retraction(retraction, &output->pending));
}

static bool is_cut(const struct file_sink *sink, int64_t place) {
    return !sink->names.shared && sink->inputs->input[place].cut;
}

static enum status finish(struct file_sink *sink, int64_t place) {
    struct output *output = NULL;
    TRY(begin(sink, place, &output)); // an input without documents has an output too
    if (is_cut(sink, place)) {
        LOG(INFO, "%s: --limit ended before its input did; --resume will make it again",
            output->path);
        output->before = sink->inputs->input[place].path;
    }
    sink->output[place] = NULL; // freed by finish
    sink->finished[place] = true;
    sink->failed = output_batch_add(&sink->batch, output, sink->replace);
    return sink->failed;
}

static void leave_out(struct file_sink *sink, int64_t place) {
    const char *path = sink->names.path[place];
    if (is_cut(sink, place)) {
        LOG(WARN, "%s is left out: --limit ended before its input did", path);
    } else if (sink->output[place] != NULL) {
        LOG(WARN, "%s is not complete and is left out", path);
    }
    if (sink->output[place] == NULL) {
        output_remove_partial(path);
        return;
    }
    output_drop(sink->output[place]);
    sink->output[place] = NULL;
}

static enum status file_finish(struct sink *base, int32_t partition) {
    struct file_sink *sink = (struct file_sink *)base;
    int64_t place = place_of(sink, partition);
    if (sink->names.shared) return sink->failed; // others may still write to it
    const bool cut = sink->names.count > 1 && is_cut(sink, place);
    if (cut || sink->inputs->input[partition].unreadable) {
        leave_out(sink, place);
        return sink->failed;
    }
    return finish(sink, place);
}

// Lines must not wait here while somebody waits for them: but a packed file is of no use before its
// end, and comes out the same only if it is cut in the same places.
static enum status flush(struct output *output) {
    if (output == NULL || (output->packer != NULL && output->partial != NULL)) return STATUS_OK;
    return output_flush(output);
}

// What a stream's file has is lost if the job dies before the file has its name, so that none of it
// may be committed before.
static bool is_unsafe(const struct file_sink *sink) {
    return sink->inputs == NULL && sink->output[0] != NULL && sink->output[0]->partial != NULL;
}

static enum status file_confirmed(struct sink *base, int64_t *count) {
    struct file_sink *sink = (struct file_sink *)base;
    bool begun = false;
    for (int64_t i = sink->open_from; i < sink->names.count && sink->safe < sink->handed; i++) {
        begun = begun || sink->output[i] != NULL;
        if (!begun) sink->open_from = i + 1;
        if (sink->failed == STATUS_OK) sink->failed = flush(sink->output[i]);
    }
    if (sink->failed == STATUS_OK) sink->failed = output_batch_settle(&sink->batch, sink->replace);
    if (sink->failed == STATUS_OK) sink->safe = sink->handed;
    *count = is_unsafe(sink) ? 0 : sink->safe;
    return sink->failed;
}

static void sink_free(struct file_sink *sink) {
    for (int64_t i = 0; sink->output != NULL && i < sink->names.count; i++) {
        struct output *output = sink->output[i];
        // What goes into a pipe is of use to its reader as far as it goes.
        if (output != NULL && output->partial == NULL && sink->failed == STATUS_OK) {
            sink->failed = output_flush(output);
        }
        output_drop(output);
    }
    free(sink->output);
    free(sink->finished);
    output_names_free(&sink->names);
    free(sink);
}

// An output whose input never ended is not complete.
static enum status file_close(struct sink *base, bool complete) {
    struct file_sink *sink = (struct file_sink *)base;
    enum status status = complete ? sink->failed : STATUS_OK;
    if (complete && status == STATUS_OK && sink->names.shared) status = finish(sink, 0);
    for (int64_t i = 0; complete && i < sink->names.count; i++) {
        if (sink->output[i] != NULL && !sink->names.shared) leave_out(sink, i);
    }
    const enum status settled = output_batch_settle(&sink->batch, sink->replace);
    if (complete && status == STATUS_OK) status = settled;
    if (strcmp(sink->names.path[0], "-") != 0) output_sync_folder(sink->names.path[0]);
    sink_free(sink);
    return status;
}

static const struct sink_table file_table = {
    .name = "file",
    .piece = file_piece,
    .score = file_score,
    .retract = file_retract,
    .finish = file_finish,
    .confirmed = file_confirmed,
    .close = file_close,
};

// A reader that went away and a file that may not grow are errors of a write, with a name and an
// exit code; their signals would end the process without either.
static void ignore_signals_of_write(void) {
    static const int signals[] = {SIGPIPE, SIGXFSZ};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction now;
        if (sigaction(signals[i], NULL, &now) != 0 || now.sa_handler != SIG_DFL) continue;
        now.sa_handler = SIG_IGN;
        sigaction(signals[i], &now, NULL);
    }
}

enum status file_sink_open(const struct file_sink_settings *settings, struct sink **opened) {
    enum status status = STATUS_OK;
    struct file_sink *sink = calloc(1, sizeof *sink);
    if (sink == NULL) return FAIL(NO_MEMORY, "the output %s", settings->path);
    const char *folder = NULL;
    sink->base.table = &file_table;
    sink->inputs = settings->inputs;
    sink->ids = settings->ids;
    sink->replace = !settings->no_clobber;
    TRY_OUT(status, output_names_build(settings, &sink->names));
    sink->output = calloc((size_t)sink->names.count, sizeof *sink->output);
    sink->finished = calloc((size_t)sink->names.count, sizeof *sink->finished);
    if (sink->output == NULL || sink->finished == NULL) {
        status = FAIL(NO_MEMORY, "%lld outputs", (long long)sink->names.count);
        goto out;
    }
    folder = sink->names.folder;
    if (folder != NULL && mkdir(folder, 0777) != 0 && errno != EEXIST) {
        status = FAIL(IO, "cannot make the folder %s: %s", folder, strerror(errno));
        goto out;
    }
    ignore_signals_of_write();
    *opened = &sink->base;
    sink = NULL; // the caller's now
out:
    if (sink != NULL) sink_free(sink);
    return status;
}
