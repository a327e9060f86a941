#include "src/endpoints.h"

#include "pipeline/file_sink.h"
#include "pipeline/file_source.h"
#include "pipeline/letter_file.h"
#include "src/kafka_options.h"
#include "src/launch.h"
#include "src/table_sink.h"
#include "src/tokenizer_choice.h"

#ifdef LONGSCAN_WITH_KAFKA
#    include "pipeline/kafka_sink.h"
#    include "pipeline/kafka_source.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct file_sink_settings file_sink_for(const struct endpoints *endpoints) {
    return (struct file_sink_settings){.path = endpoints->settings->output,
                                       .inputs = endpoints->topic_in ? NULL : &endpoints->inputs,
                                       .no_clobber = endpoints->settings->no_clobber,
                                       .resume = endpoints->settings->resume,
                                       .score_every = endpoints->settings->score_every,
                                       .token_nll = endpoints->settings->token_nll};
}

static enum status check_topics(const struct settings *settings, bool any) {
    if (!any) return STATUS_OK;
#ifndef LONGSCAN_WITH_KAFKA
    return FAIL(USAGE, "%s", KAFKA_OPTIONS_MISSING);
#endif
    if (settings->brokers == NULL) {
        return FAIL(USAGE, "a topic needs --brokers HOST:PORT,...");
    }
    return STATUS_OK;
}

enum status endpoints_check_groups(const struct endpoints *endpoints, int32_t groups) {
    const char *letters = endpoints->settings->dead_letters;
    if (endpoints->topic_in && !endpoints->topic_out) {
        return FAIL(USAGE,
                    "%d groups cannot write one file; give --output kafka:TOPIC, or one "
                    "group (--group-size 0)",
                    groups);
    }
    if (letters != NULL && kafka_options_topic(letters) == NULL) {
        return FAIL(USAGE,
                    "%d groups cannot write one file; give --dead-letters kafka:TOPIC, or one "
                    "group (--group-size 0)",
                    groups);
    }
    return STATUS_OK;
}

// The topics beside input and output.
static enum status check_others(const struct settings *settings, bool topic_out) {
    const char *letters = settings->dead_letters;
    const char *windows = settings->windows;
    if (windows != NULL && kafka_options_topic(windows) == NULL) {
        return FAIL(USAGE,
                    "--windows %s: only a topic takes windows as they arise: kafka:TOPIC; "
                    "in files they stand in the documents' lines",
                    windows);
    }
    if (windows != NULL && (settings->score_every == 0 || !topic_out)) {
        return FAIL(USAGE, "--windows %s needs --score-every N and --output kafka:TOPIC", windows);
    }
    const char *const names[] = {settings->input, settings->output, letters, windows};
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < i; j++) {
            if (names[i] == NULL || names[j] == NULL || strcmp(names[i], names[j]) != 0 ||
                strcmp(names[i], "-") == 0) {
                continue;
            }
            if (j == 0 && kafka_options_topic(names[j]) == NULL)
                continue; // files have more than one name
            return FAIL(USAGE,
                        "%s is given twice: input, output, dead letters and windows each "
                        "need a place of their own",
                        names[i]);
        }
    }
    return STATUS_OK;
}

static bool is_file(const char *path, const struct stat *file) {
    struct stat about;
    return stat(path, &about) == 0 && about.st_dev == file->st_dev && about.st_ino == file->st_ino;
}

// A file of dead letters that exists may be an input or the output, under whatever name.
static enum status check_letters(const struct endpoints *endpoints) {
    const char *letters = endpoints->settings->dead_letters;
    struct stat file;
    if (letters == NULL || kafka_options_topic(letters) != NULL) return STATUS_OK;
    if (stat(letters, &file) != 0 || !S_ISREG(file.st_mode)) return STATUS_OK;
    for (int64_t i = 0; i < endpoints->inputs.count; i++) {
        const char *input = endpoints->inputs.input[i].path;
        if (!is_file(input, &file)) continue;
        return FAIL(USAGE, "--dead-letters %s would replace the input %s", letters, input);
    }
    if (!endpoints->topic_out && is_file(endpoints->settings->output, &file)) {
        return FAIL(USAGE, "--dead-letters %s is the output %s", letters,
                    endpoints->settings->output);
    }
    if (endpoints->settings->no_clobber) {
        return FAIL(USAGE, "%s exists and may not be replaced (--no-clobber)", letters);
    }
    return STATUS_OK;
}

enum status endpoints_check(const struct settings *settings, struct endpoints *endpoints) {
    *endpoints = (struct endpoints){.settings = settings,
                                    .topic_in = kafka_options_topic(settings->input) != NULL,
                                    .topic_out = kafka_options_topic(settings->output) != NULL};
    const bool topic_letters = kafka_options_topic(settings->dead_letters) != NULL;
    TRY(check_topics(settings, endpoints->topic_in || endpoints->topic_out || topic_letters));
    TRY(check_others(settings, endpoints->topic_out));
    if (endpoints->topic_in && settings->limit > 0) {
        return FAIL(USAGE, "--limit is for files; a topic is read to the end that --until gives");
    }
    if (settings->resume && (endpoints->topic_in || endpoints->topic_out)) {
        return FAIL(USAGE, "--resume is for files; a topic goes on where its offsets are");
    }
    if (settings->resume && strcmp(settings->output, "-") == 0) {
        return FAIL(USAGE, "--resume needs outputs that are files");
    }
    if (!endpoints->topic_in) TRY(inputs_expand(settings->input, &endpoints->inputs));
    TRY(check_letters(endpoints));
    if (endpoints->topic_out) return STATUS_OK;

    const struct file_sink_settings sink = file_sink_for(endpoints);
    TRY(file_sink_check(&sink));
    if (settings->resume) {
        endpoints->complete = calloc((size_t)endpoints->inputs.count + 1, sizeof(bool));
        if (endpoints->complete == NULL) return FAIL(NO_MEMORY, "list of inputs");
        TRY(file_sink_complete(&sink, endpoints->complete, &endpoints->older));
    }
    return STATUS_OK;
}

enum status endpoints_verify(const struct endpoints *endpoints, const struct result_ids *ids) {
    if (endpoints->complete == NULL) return STATUS_OK;
    struct file_sink_settings sink = file_sink_for(endpoints);
    sink.ids = *ids;
    return file_sink_verify(&sink, endpoints->complete);
}

// What the input holds, as far as its formats say.
enum holding { HOLDS_TOKENS, HOLDS_EITHER, HOLDS_TEXT };

static enum holding holding_of(const struct endpoints *endpoints) {
    enum holding holding = HOLDS_TOKENS;
    enum file_format asked = FILE_AUTO;
    if (endpoints->topic_in) {
        const char *format = endpoints->settings->input_format;
        return strcmp(format, "text") == 0     ? HOLDS_TEXT
               : strcmp(format, "tokens") == 0 ? HOLDS_TOKENS
                                               : HOLDS_EITHER;
    }
    if (file_format_parse(endpoints->settings->format, &asked) != STATUS_OK) return HOLDS_EITHER;
    for (int64_t i = 0; i < endpoints->inputs.count; i++) {
        const enum file_format format = file_format_of(&endpoints->inputs.input[i], asked);
        if (format == FILE_TEXT) return HOLDS_TEXT;
        if (format == FILE_JSONL) holding = HOLDS_EITHER;
    }
    return holding;
}

// That of the model's folder, which nobody has asked for: token ids can do without it.
static enum status open_models_own(struct endpoints *endpoints, enum holding holding,
                                   int32_t vocab_size) {
    const struct settings *settings = endpoints->settings;
    if (holding == HOLDS_TOKENS) return STATUS_OK;
    const enum status status = tokenizer_of_folder(settings, &endpoints->tokenizer);
    if (status == STATUS_NO_MEMORY || holding == HOLDS_TEXT) return status;
    if (status == STATUS_OK && endpoints->tokenizer->vocab_size <= vocab_size) return STATUS_OK;
    if (status == STATUS_OK) {
        LOG(WARN, "%s/tokenizer.json has %d ids, the model only %d: only token ids are taken",
            settings->model, endpoints->tokenizer->vocab_size, vocab_size);
        endpoints->tokenizer->close(endpoints->tokenizer);
        endpoints->tokenizer = NULL;
        return STATUS_OK;
    }
    LOG(WARN, "%s/tokenizer.json cannot be used: only token ids are taken", settings->model);
    return STATUS_OK;
}

enum status endpoints_choose_tokenizer(struct endpoints *endpoints, int32_t vocab_size) {
    const struct settings *settings = endpoints->settings;
    const enum holding holding = holding_of(endpoints);
    const char *name = settings->tokenizer;
    if (name == NULL && tokenizer_in_folder(settings->model)) {
        name = settings->model;
        TRY(open_models_own(endpoints, holding, vocab_size));
    } else if (name != NULL) {
        TRY(tokenizer_named(settings, name, &endpoints->tokenizer));
    } else if (vocab_size == 256) {
        name = "byte";
        TRY(byte_tokenizer_open(&endpoints->tokenizer));
    } else if (holding == HOLDS_TEXT) {
        return FAIL(MISMATCH,
                    "the input is text, and %s has no tokenizer.json; give --tokenizer, or token "
                    "ids: JSONL \"tokens\", .u16, .u32",
                    settings->model);
    }
    if (endpoints->tokenizer == NULL) return STATUS_OK;
    return tokenizer_fits(endpoints->tokenizer, name, vocab_size);
}

#ifdef LONGSCAN_WITH_KAFKA
static enum status open_topic_source(struct endpoints *endpoints, int32_t group, int32_t groups) {
    const struct settings *settings = endpoints->settings;
    struct kafka_source_settings source = {
        .consumer = {.kafka = kafka_options_for(settings, "--input",
                     kafka_options_topic(settings->input)),
                     .group_id = settings->job,
                     .group = group,
                     .groups = groups},
        .tokenizer = endpoints->tokenizer,
        .id_field = settings->id_field,
        .text_field = settings->text_field,
        .keep_messages = settings->dead_letters != NULL
    };
    TRY(kafka_options_until(settings->until, &source.consumer.follow, &source.consumer.idle_ms));
    TRY(kafka_form_parse(settings->input_format, &source.form));
    return kafka_source_open(&source, &endpoints->source);
}

static enum status open_topic_sink(struct endpoints *endpoints, const struct result_ids *ids) {
    const struct settings *settings = endpoints->settings;
    const struct kafka_sink_settings sink = {
        .kafka = kafka_options_for(settings, "--output", kafka_options_topic(settings->output)),
        .windows = kafka_options_topic(settings->windows),
        .score_every = settings->score_every,
        .json = strcmp(settings->encoding, "json") == 0,
        .ids = *ids};
    return kafka_sink_open(&sink, &endpoints->sink);
}

static enum status open_topic_letters(struct endpoints *endpoints) {
    const struct settings *settings = endpoints->settings;
    const struct kafka_settings kafka =
        kafka_options_for(settings, "--dead-letters", kafka_options_topic(settings->dead_letters));
    return kafka_letters_open(&kafka, strcmp(settings->encoding, "json") == 0, &endpoints->letters);
}
#else
static enum status open_topic_letters(struct endpoints *endpoints) {
    return check_topics(endpoints->settings, true);
}

static enum status open_topic_source(struct endpoints *endpoints, int32_t group, int32_t groups) {
    (void)group;
    (void)groups;
    return check_topics(endpoints->settings, true);
}

static enum status open_topic_sink(struct endpoints *endpoints, const struct result_ids *ids) {
    (void)ids;
    return check_topics(endpoints->settings, true);
}
#endif

static enum status open_file_source(struct endpoints *endpoints, int32_t group, int32_t groups) {
    const struct settings *settings = endpoints->settings;
    struct file_source_settings source = {
        .shard = {.tokenizer = endpoints->tokenizer,
                  .id_field = settings->id_field,
                  .text_field = settings->text_field,
                  .max_line = settings->max_line,
                  .keep_lines = settings->dead_letters != NULL,
                  .record_tokens = settings->record_tokens},
        .group = group,
        .groups = groups,
        .skip = endpoints->complete,
        .limit = settings->limit
    };
    TRY(file_format_parse(settings->format, &source.shard.format));
    return file_source_open(&endpoints->inputs, &source, &endpoints->source);
}

bool wants_table(const struct settings *settings) {
    if (strcmp(settings->print, "auto") == 0) return launch_output_is_terminal();
    return strcmp(settings->print, "table") == 0;
}

static enum status open_file_sink(struct endpoints *endpoints, const struct result_ids *ids) {
    struct file_sink_settings sink = file_sink_for(endpoints);
    sink.ids = *ids;
    if (strcmp(sink.path, "-") == 0 && wants_table(endpoints->settings)) {
        return table_sink_open(stdout, &endpoints->sink);
    }
    return file_sink_open(&sink, &endpoints->sink);
}

static enum status open_letters(struct endpoints *endpoints) {
    const char *letters = endpoints->settings->dead_letters;
    if (letters == NULL) return STATUS_OK;
    if (kafka_options_topic(letters) != NULL) return open_topic_letters(endpoints);
    return letter_file_open(letters, &endpoints->letters);
}

enum status endpoints_open(struct endpoints *endpoints, int32_t group, int32_t groups,
                           const struct result_ids *ids) {
    TRY(endpoints->topic_in ? open_topic_source(endpoints, group, groups)
                            : open_file_source(endpoints, group, groups));
    TRY(endpoints->topic_out ? open_topic_sink(endpoints, ids) : open_file_sink(endpoints, ids));
    const enum status status = open_letters(endpoints);
    if (status != STATUS_OK) { // nobody else would close it
        (void)!endpoints->sink->table->close(endpoints->sink, false);
        endpoints->sink = NULL;
    }
    return status;
}

enum status endpoints_close(struct endpoints *endpoints) {
    enum status status = STATUS_OK;
    if (endpoints->source != NULL) status = endpoints->source->table->close(endpoints->source);
    endpoints->source = NULL;
    if (endpoints->tokenizer != NULL) endpoints->tokenizer->close(endpoints->tokenizer);
    endpoints->tokenizer = NULL;
    free(endpoints->complete);
    endpoints->complete = NULL;
    inputs_free(&endpoints->inputs);
    return status;
}
