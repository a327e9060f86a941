#pragma once
// `longscan completion bash|zsh|fish`: what a shell loads to complete verbs, options and their values,
// from the option table.

#include "src/settings.h"

#include <stdio.h>

// Errors: USAGE (another shell).
enum status completion_say(const char *shell, const struct verb *verbs, int count, FILE *out);
