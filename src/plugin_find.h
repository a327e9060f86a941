#pragma once
// The CUDA plug-in, loaded once it is looked for, and why it is of no use where it is not.

#include "cuda/plugin.h"

#include <limits.h>

struct plugin_found {
    const struct plugin *plugin; // NULL: `why` says why not
    char path[PATH_MAX]; // of the library, also of one that does not load; "": there is none
    uint32_t abi;        // of the library; 0: not known
    int32_t devices;     // that it can use
    char why[512];       // there is no plug-in, or no device for it
};

// Looks for LONGSCAN_PLUGIN, or beside the executable, or where installation puts it. The library
// stays loaded until the program ends.
void plugin_find(struct plugin_found *found);
