#pragma once
// Files, or standard output, as a sink of results.
//
// One input gives one output: DST itself. If DST is a folder (it is one, or ends in '/'), and
// always with several inputs, each input gives DST/NAME.jsonl, NAME being the input's without its
// extension; packed like the input, with the extension of that. A stream has no inputs, and all of
// it goes into DST.
//
// Of an input that a limit cut there is no output among several; one that is alone holds what there
// is, and is dated before its input. What is older than its input is not complete.

#include "pipeline/inputs.h"
#include "pipeline/result_json.h"
#include "pipeline/sink.h"

struct file_sink_settings {
    const char *path;            // DST; "-": standard output
    const struct inputs *inputs; // borrowed until close; NULL: a stream
    bool no_clobber;             // an existing output is not to be replaced
    bool resume;                 // the input of a complete output is skipped
    struct result_ids ids;
    int64_t
        score_every; // what results hold beside their scores: windows of so many tokens; 0: none
    bool token_nll;
};

// Everything that can be found out before work begins: outputs that exist already (no_clobber),
// that two inputs share, that would replace an input, or that have no folder to go to. Once a job,
// before anything is written: groups that start later see what the first have finished.
// Errors: USAGE, NO_MEMORY.
enum status file_sink_check(const struct file_sink_settings *settings);

// Which inputs have a complete output already: complete[inputs] is filled. *older: how many have one
// that is not, as it is older. An input that is no file, like a pipe, has none. Errors: NO_MEMORY,
// USAGE (an older one may not be replaced).
enum status file_sink_complete(const struct file_sink_settings *settings, bool *complete,
                               int64_t *older);
// Were those outputs made with the model, settings and numerics of settings->ids, and do they hold
// the arrays that are asked for, no more and no less? Their first results say so, as far as a short
// document tells the length of windows; one without documents may stay. Errors: MISMATCH (naming the
// file), NO_MEMORY.
enum status file_sink_verify(const struct file_sink_settings *settings, const bool *complete);

// Errors: USAGE, IO, NO_MEMORY.
enum status file_sink_open(const struct file_sink_settings *settings, struct sink **opened);
