#pragma once
// A backend for tests that stands before another one, on a device: its operators take arguments in
// host memory, as the CPU backend's do, carry all they name to the device, run there, and bring
// back what was written, with what lies between the rows. So one test drives both.

#include "cuda/plugin.h"

C_BEGIN

// The plug-in of a file, or NULL, and why on standard output.
const struct plugin *mirror_load(const char *path);

// Opens the plug-in's device and a mirror before it. window_tokens 0: the default. Closing the
// mirror closes both. Errors: as the plug-in's open.
enum status mirror_open(const struct plugin *plugin, enum plugin_dtype dtype, int64_t window_tokens,
                        struct backend **opened);

// The backend behind the mirror, for arguments in its own memory.
struct backend *mirror_inner(struct backend *backend);

C_END
