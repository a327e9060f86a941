#pragma once
// The parts of report.html that stand in files of their own.

#include "src/passkey_svg.h"

// Accuracy, the last k tokens, NLL and margin by length.
void passkey_html_charts(const struct passkey_report *report, const struct passkey_map *map,
                         struct markup *out);
// What defines the task, for a <dl>.
void passkey_html_task(const struct passkey_facts *facts, struct markup *out);
// The command that runs it again.
void passkey_html_command(const struct passkey_report *report, const struct passkey_map *map,
                          struct markup *out);
