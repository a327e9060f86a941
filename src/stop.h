#pragma once
// The stop signals, and how the program hears of them.

#include <stdbool.h>

// Left with by whoever is ended at once by a second signal: 128 + SIGINT, and never 143, which
// says that all is committed.
#define STOP_AT_ONCE 130
// A signal that comes twice within this time is one: `timeout` and others send it to a process and
// then to its whole group.
#define STOP_TWICE_MS 250

// Installs the handlers: SIGTERM, SIGINT and SIGUSR1 ask to finish and leave. SIGUSR1 may come any
// number of times; a second SIGTERM or SIGINT, in any order, ends the process at once. SIGPIPE is
// ignored, so that writes report it. Called once, by main.
void stop_install(void);
