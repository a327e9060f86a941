#pragma once
// The stop signals, and how the program hears of them.

#include <stdbool.h>

// Installs the handlers: SIGTERM, SIGINT and SIGUSR1 ask to finish and leave; a second SIGINT
// ends the process at once; SIGPIPE is ignored, so that writes report it. Called once, by main.
void stop_install(void);
// The number of the signal that asked, or 0.
int stop_signal(void);
