#pragma once
// The settings of one run, merged: command line over LONGSCAN_<OPTION> over --config FILE over
// defaults.

#include "src/settings.h"

#include <stddef.h>
#include <stdio.h>

struct options;

// Reads what follows the verb, then the environment, then the file that --config names.
// Owns: the texts of the settings; those of the arguments and the environment are borrowed.
// Errors: USAGE (said with the option's name and where it came from), IO, NO_MEMORY.
enum status options_open(const char *verb, int count, char *const *arguments,
                         struct options **opened);
const struct settings *options_settings(const struct options *options);
// Whatever options need of each other: what the verb cannot do without, and pairs that do not fit.
// Errors: USAGE.
enum status options_check(const struct options *options);
// --show-config: every option of the verb with its origin, in the form that --config reads.
// Values of properties that hold secrets are not shown.
void options_show(const struct options *options, FILE *out);
void options_close(struct options *options); // accepts NULL

// A hostile text made fit for a message: short, and printable.
const char *options_quote(const char *text, size_t bytes, char *quoted, size_t quoted_bytes);

// Errors: NO_MEMORY; USAGE, for a verb that is none.
enum status options_make(const char *verb, struct options **made);
// Reads the text of a configuration file; `name` stands in messages. The text is copied.
// Errors: USAGE, NO_MEMORY.
enum status options_read_text(struct options *options, const char *name, const char *text,
                              size_t bytes);
