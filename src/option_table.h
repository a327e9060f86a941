#pragma once
// The one list of options. The parser, --help, --show-config and the man pages read it.

#include "src/settings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A bit a verb, for the options it takes.
enum verb_bit {
    VERB_SCORE = 1u << 0,
    VERB_RUN = 1u << 1,
    VERB_PUBLISH = 1u << 2,
    VERB_READ = 1u << 3,
    VERB_BROKER = 1u << 4,
    VERB_BENCH = 1u << 5,
    VERB_VERIFY = 1u << 6,
    VERB_TOKENIZE = 1u << 7,
    VERB_INFO = 1u << 8,
    VERB_DOCTOR = 1u << 9,
    VERB_PASSKEY = 1u << 10,
};

#define VERBS_OVER_RANKS (VERB_SCORE | VERB_PASSKEY | VERB_BENCH | VERB_DOCTOR) // that `run` starts

enum option_kind {
    OPTION_FLAG,      // bool
    OPTION_TEXT,      // const char *
    OPTION_CHOICE,    // const char *, one of `choices`
    OPTION_UNTIL,     // const char *: end, follow or idle:DURATION
    OPTION_LIST,      // const char *[PROPERTIES_MOST] and property_count; adds instead of replacing
    OPTION_INTEGER,   // int64_t
    OPTION_SIZE,      // int64_t: 4k, 64m, 1g are powers of two
    OPTION_DURATION,  // int64_t, milliseconds: 200ms, 5s, 2m, 1h
    OPTION_FRACTION,  // double: 1% or 0.01
    OPTION_SHORTHAND, // a flag that means the text `fallback` for the option at the same offset
};

enum option_group {
    GROUP_INPUT,
    GROUP_SCORE,
    GROUP_MEASURE,
    GROUP_PASSKEY,
    GROUP_RANKS,
    GROUP_STREAM,
    GROUP_KAFKA,
    GROUP_BROKER,
    GROUP_RUN,
    GROUP_TALK,
    GROUPS,
};

struct option {
    const char *name;
    char letter; // short form, or 0
    enum option_kind kind;
    enum option_group group;
    unsigned verbs;       // that take it
    unsigned needed;      // verbs that cannot run without it
    bool arguments_only;  // neither in the environment nor in a file
    bool or_zero;         // 0 is allowed beside least..most: "choose"
    const char *fallback; // default, as it would be written; NULL: none
    size_t offset;        // into struct settings
    int64_t least, most;  // of numbers; in milliseconds for durations
    const char *choices;  // "a|b|c", for OPTION_CHOICE
    const char *value;    // what --help shows for the value
    const char *help;
    // what --help of these says instead; NULL: the same
    const char *score_help, *verify_help, *passkey_help;
};

// All rows, in the order in which --help shows them.
const struct option *option_rows(int *count);
// The row with this name, or NULL. The name need not be terminated.
const struct option *option_by_name(const char *name, size_t bytes);
const struct option *option_by_letter(char letter);
// The verb's bit; 0: there is no such verb.
unsigned option_verb_bit(const char *verb);
const char *option_group_title(enum option_group group);
bool option_takes_value(const struct option *option);
// What --help says for the verb.
const char *option_help(const struct option *option, unsigned verb);
// What to write in place of the value in --help: "DIR", "N", "auto|cpu".
const char *option_value_text(const struct option *option);

// The known name that looks most like this one, or that its users mean by it; NULL: none is near.
const char *option_nearest(const char *name, size_t bytes, unsigned verbs);
const char *option_nearest_verb(const char *name);
