#pragma once
// The text of one option's value as a number, a flag or a choice.

#include "src/option_table.h"

struct option_value {
    bool flag;
    int64_t integer;
    double fraction;
    const char *text;
};

// false: `wrong` says what is wrong with the text, to be read after the text itself, as in
// "is not a whole number".
bool option_parse(const struct option *option, const char *text, struct option_value *value,
                  char *wrong, size_t wrong_bytes);

// The text that would give this number, for --show-config and --help; at most 32 bytes.
void option_print_number(const struct option *option, int64_t number, char *text, size_t bytes);
