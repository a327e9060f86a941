#pragma once
// What the files of the option parser share.

#include "src/option_value.h"
#include "src/options.h"

#define OPTION_ROWS_MOST 128

enum origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENVIRONMENT, ORIGIN_ARGUMENT };

// A text that lives as long as the options do.
struct kept_text {
    struct kept_text *next;
    char text[];
};

struct options {
    struct settings settings;
    const char *verb;
    unsigned bit;
    const char *file; // name of the configuration file, kept; NULL: none
    enum origin origin[OPTION_ROWS_MOST];
    int64_t line[OPTION_ROWS_MOST];            // in the file
    const struct option *by[OPTION_ROWS_MOST]; // the row that set it: its own, or a shorthand's
    enum origin property_origin[PROPERTIES_MOST];
    struct kept_text *kept;
};

// A copy with a terminator, released with the options. Errors: NO_MEMORY.
enum status options_keep(struct options *options, const char *text, size_t bytes, char **kept);
// Sets an option unless a stronger origin has set it. `shown` names the place in messages, as in
// "--threads" or "job.conf:3: threads". The text must live as long as the options.
// Errors: USAGE, NO_MEMORY.
enum status options_assign(struct options *options, const struct option *option, const char *text,
                           enum origin origin, int64_t line, const char *shown);
// Warns of options on the command line that have no effect beside the others.
void options_tell_unused(const struct options *options);
// Reads the file that --config names. Errors: USAGE, IO, NO_MEMORY.
enum status options_read_file(struct options *options, const char *path);
// STATUS_USAGE, logged with where the value stands and what is wrong with it; also the value, unless
// it may be a secret.
enum status options_refuse(const struct option *option, const char *text, const char *shown,
                           const char *wrong);
