#pragma once
// --help and the man pages, all from the option table.

#include "src/settings.h"

#include <stdio.h>

void help_general(const struct verb *verbs, int count, FILE *out);
void help_verb(const struct verb *verb, FILE *out);
// The verb's manual page as roff, for man(1).
void help_man(const struct verb *verb, FILE *out);
// That of the program.
void help_man_general(const struct verb *verbs, int count, FILE *out);
