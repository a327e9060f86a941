#pragma once
// The one line at the bottom of the terminal that is redrawn. Log lines and results go above it.

#include <stdbool.h>

// Starts drawing on standard error. There is one bar a process. Thread: any, like all below.
void bar_open(void);
bool bar_is_open(void);
// Replaces the line, parts with commas between; those that do not fit the terminal are left out.
void bar_draw(const char *text);
// Around anything else that is written to the terminal. Without a bar they do nothing.
void bar_hide(void);
void bar_show(void);
// The line disappears.
void bar_close(void);
