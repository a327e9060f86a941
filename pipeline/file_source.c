// A group's share of the inputs, one after another.
#include "pipeline/file_source.h"

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "ops/base/room.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct file_source {
    struct source base;
    struct inputs *inputs; // borrowed
    struct file_source_settings settings;
    int32_t *mine; // [mine_count] inputs of this group, rising
    int64_t mine_count, at;
    struct shard *shard; // reads mine[at] if it has begun
    bool ending;         // mine[at] gave a fault and has only its end to give
    int64_t documents;   // begun so far
    int64_t shard_read;  // of the open shard's bytes, what `done` has of it
    atomic_llong done;   // bytes, for the progress line
    int64_t total;
};

struct weighed {
    int64_t bytes;
    int32_t input;
};

static int longest_first(const void *a, const void *b) {
    const struct weighed *left = a, *right = b;
    if (left->bytes != right->bytes) return left->bytes > right->bytes ? -1 : 1;
    return left->input < right->input ? -1 : 1;
}

static int rising(const void *a, const void *b) {
    const int32_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

// Fills mine and total. Sizes unknown weigh nothing but are dealt out all the same.
static enum status deal(struct file_source *source) {
    const struct inputs *inputs = source->inputs;
    const struct file_source_settings *settings = &source->settings;
    size_t count = (size_t)inputs->count;
    enum status status = STATUS_OK;
    struct weighed *weighed = calloc(count, sizeof *weighed);
    int64_t *load = calloc((size_t)settings->groups, sizeof *load);
    source->mine = calloc(count, sizeof *source->mine);
    if (weighed == NULL || load == NULL || source->mine == NULL) {
        status = FAIL(NO_MEMORY, "a list of %zu inputs", count);
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        int64_t bytes = inputs->input[i].bytes;
        weighed[i] = (struct weighed){.bytes = bytes < 0 ? 0 : bytes, .input = (int32_t)i};
    }
    qsort(weighed, count, sizeof *weighed, longest_first);
    for (size_t i = 0; i < count; i++) {
        int32_t input = weighed[i].input, least = 0;
        for (int32_t group = 1; group < settings->groups; group++) {
            if (load[group] < load[least]) least = group;
        }
        load[least] += weighed[i].bytes + 1; // empty files go around too
        if (least != settings->group || (settings->skip != NULL && settings->skip[input])) continue;
        source->mine[source->mine_count++] = input;
        int64_t bytes = inputs->input[input].bytes;
        source->total = bytes < 0 || source->total < 0 ? -1 : source->total + bytes;
    }
    qsort(source->mine, (size_t)source->mine_count, sizeof *source->mine, rising);
out:
    free(load);
    free(weighed);
    return status;
}

static enum status check(const struct inputs *inputs, const struct file_source_settings *settings) {
    const struct shard_settings *shard = &settings->shard;
    if (shard->record_tokens < 1 || shard->record_tokens > RECORD_TOKENS_MOST) {
        return FAIL(USAGE, "a record has 1 to %d tokens, not %lld", RECORD_TOKENS_MOST,
                    (long long)shard->record_tokens);
    }
    if (shard->max_line < 1) return FAIL(USAGE, "--max-line must be at least one byte");
    for (int64_t i = 0; i < inputs->count && shard->tokenizer == NULL; i++) {
        if (file_format_of(&inputs->input[i], shard->format) == FILE_TEXT) {
            return FAIL(USAGE, "%s is text, and there is no tokenizer for it: give --tokenizer",
                        inputs->input[i].path);
        }
    }
    return STATUS_OK;
}

// The input at hand cannot be read (any further), and none of it is used.
static enum status unreadable(struct file_source *source, struct record **record) {
    const int32_t partition = source->mine[source->at];
    const struct shard *shard = source->shard;
    struct input *input = &source->inputs->input[partition];
    const char *path = shard->reader.path;
    if (source->inputs->alone) return FAIL(BAD_INPUT, "%s: %s", path, shard->reader.wrong);
    char text[1400]; // a longer path loses its end, not its reason
    snprintf(text, sizeof text, "%.1000s is left out: %s", path, shard->reader.wrong);
    const bool open = shard->begun; // its document dies with the file
    TRY(record_make_fault(open ? shard->document.id : "", open ? shard->document.id_bytes : 0, text,
                          record));
    (*record)->partition = partition;
    (*record)->offset = shard->line;
    (*record)->serial = shard->format == FILE_JSONL ? (uint64_t)shard->line + 1 : 1;
    (*record)->last = true;
    source->documents++;
    input->unreadable = true;
    source->ending = true;
    return STATUS_OK;
}

static enum status end_partition(struct file_source *source, struct record **record) {
    TRY(record_make(RECORD_PARTITION_END, NULL, 0, NULL, 0, 0, record));
    (*record)->partition = source->mine[source->at++];
    (*record)->offset = source->shard->line + 1;
    shard_end(source->shard);
    source->ending = false;
    return STATUS_OK;
}

// A pipe that has given enough may keep silent for ever: it is not asked for more.
static enum status end_at_limit(struct file_source *source, int64_t deadline_ms,
                                struct record **record) {
    struct input *input = &source->inputs->input[source->mine[source->at]];
    const bool ask = input->bytes >= 0 || source->shard->ended;
    const enum status more = ask ? shard_more(source->shard, deadline_ms) : STATUS_OK;
    if (more == STATUS_AGAIN || more == STATUS_NO_MEMORY) return more;
    input->cut = more != STATUS_END;
    return end_partition(source, record);
}

static void count_bytes(struct file_source *source) {
    int64_t read = source->shard->reader.read;
    atomic_fetch_add_explicit(&source->done, read - source->shard_read, memory_order_relaxed);
    source->shard_read = read;
}

static enum status next_of_shard(struct file_source *source, int64_t deadline_ms,
                                 struct record **record) {
    struct shard *shard = source->shard;
    if (shard->input == NULL) {
        const int32_t partition = source->mine[source->at];
        source->shard_read = 0;
        TRY(shard_begin(shard, &source->inputs->input[partition], partition));
    }
    return shard_next(shard, deadline_ms, record);
}

static enum status file_next(struct source *base, int32_t timeout_ms, struct record **record) {
    struct file_source *source = (struct file_source *)base;
    const int64_t limit = source->settings.limit;
    const bool enough = limit > 0 && source->documents >= limit;
    const bool open = source->shard->input != NULL;
    if (source->at == source->mine_count || (enough && !open)) return STATUS_END;
    if (source->ending) return end_partition(source, record);
    if (enough) return end_at_limit(source, clock_ms() + timeout_ms, record);
    const enum status status = next_of_shard(source, clock_ms() + timeout_ms, record);
    count_bytes(source);
    if (status == STATUS_END) return end_partition(source, record);
    if (status == STATUS_IO) return unreadable(source, record);
    if (status != STATUS_OK) return status;
    if ((*record)->kind == RECORD_FAULT || (*record)->last) source->documents++;
    return STATUS_OK;
}

static const char *file_origin(struct source *base, int32_t partition) {
    const struct file_source *source = (struct file_source *)base;
    return source->inputs->input[partition].path;
}

static void file_progress(struct source *base, struct source_progress *progress) {
    struct file_source *source = (struct file_source *)base;
    int64_t done = atomic_load_explicit(&source->done, memory_order_relaxed);
    // A file that grows may give more than it promised.
    if (source->total >= 0 && done > source->total) done = source->total;
    *progress =
        (struct source_progress){.done = done, .total = source->total, .unit = "bytes", .lag = -1};
}

static void source_free(struct file_source *source) {
    shard_close(source->shard);
    free(source->mine);
    free(source);
}

static enum status file_close(struct source *base) {
    source_free((struct file_source *)base);
    return STATUS_OK;
}

static const struct source_table file_table = {
    .name = "file",
    .next = file_next,
    .origin = file_origin,
    .progress = file_progress,
    .close = file_close,
};

enum status file_source_open(struct inputs *inputs, const struct file_source_settings *settings,
                             struct source **opened) {
    struct file_source *source = calloc(1, sizeof *source);
    if (source == NULL) return FAIL(NO_MEMORY, "a source of %lld files", (long long)inputs->count);
    source->base.table = &file_table;
    source->inputs = inputs;
    source->settings = *settings;
    struct file_source_settings *asked = &source->settings;
    if (asked->shard.record_tokens == 0) asked->shard.record_tokens = FILE_RECORD_TOKENS;
    if (asked->shard.id_field == NULL) asked->shard.id_field = "id";
    if (asked->shard.text_field == NULL) asked->shard.text_field = "text";
    if (asked->groups == 0) asked->groups = 1;
    CHECK(asked->group >= 0 && asked->group < asked->groups);
    enum status status = check(inputs, asked);
    if (status == STATUS_OK) status = deal(source);
    if (status == STATUS_OK) status = shard_open(&asked->shard, &source->shard);
    asked->skip = NULL; // only borrowed
    if (status != STATUS_OK) {
        source_free(source);
        return status;
    }
    *opened = &source->base;
    return STATUS_OK;
}
