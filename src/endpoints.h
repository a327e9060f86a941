#pragma once
// What --input and --output name, opened: files, standard streams, a terminal's table, or Kafka.

#include "pipeline/inputs.h"
#include "pipeline/result_json.h"
#include "pipeline/sink.h"
#include "pipeline/source.h"
#include "pipeline/tokenizer.h"
#include "src/settings.h"

struct endpoints {
    const struct settings *settings;
    struct inputs inputs; // empty for a topic
    bool topic_in, topic_out;
    struct tokenizer *tokenizer; // NULL: the input is tokens
    bool *complete;              // [inputs]: --resume found the output
    int64_t older;               // outputs that it found, but older than their inputs
    struct source *source;       // NULL until endpoints_open
    struct sink *sink;
    struct sink *letters; // NULL: nobody wants them
};

// What can be found out before a model is loaded: inputs that are not there, outputs that may not
// be replaced. The same on every rank. Errors: USAGE, IO, NO_MEMORY.
enum status endpoints_check(const struct settings *settings, struct endpoints *endpoints);
// Several groups cannot write one file. Errors: USAGE.
enum status endpoints_check_groups(const struct endpoints *endpoints, int32_t groups);
// Do the outputs that --resume found fit to this run's? Errors: MISMATCH, NO_MEMORY.
enum status endpoints_verify(const struct endpoints *endpoints, const struct result_ids *ids);
// The tokenizer for a model of this vocabulary: --tokenizer, or the one in the model's folder, or
// byte for 256. No tokenizer is fine as long as the input is tokens. Errors: USAGE, MISMATCH.
enum status endpoints_choose_tokenizer(struct endpoints *endpoints, int32_t vocab_size);
// On the leader of group `group` of `groups`. Errors: theirs.
enum status endpoints_open(struct endpoints *endpoints, int32_t group, int32_t groups,
                           const struct result_ids *ids);
// Closes the source too (waits until the last commit is kept); the pipeline has closed the sinks.
enum status endpoints_close(struct endpoints *endpoints);

// --print: are scores on standard output to be a table for people?
bool wants_table(const struct settings *settings);
