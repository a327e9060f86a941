#define _XOPEN_SOURCE 700 // realpath; before any header of the system

#include "src/plugin_find.h"

#include "ops/base/check.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct plugin_host host = {
    .log_on = log_on, .log_write = log_write, .check_failed = check_failed};

static void *load_from(const char *path, struct plugin_found *found) {
    found->why[0] = '\0'; // what another place lacked
    if (realpath(path, found->path) == NULL) {
        snprintf(found->path, sizeof found->path, "%s", path); // a name for the loader to look for
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) snprintf(found->why, sizeof found->why, "%s", dlerror());
    return library;
}

static void *load(struct plugin_found *found) {
    static const char *const places[] = {"", "../lib/longscan/", "../lib/"};
    const char *named = getenv("LONGSCAN_PLUGIN");
    char folder[3072];
    char path[4096];
    void *library = NULL;
    if (named != NULL && *named != '\0') return load_from(named, found);
    const ssize_t bytes = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (bytes <= 0) {
        snprintf(found->why, sizeof found->why, "/proc/self/exe cannot be read");
        return NULL;
    }
    folder[bytes] = '\0';
    *(strrchr(folder, '/') + 1) = '\0';
    for (size_t i = 0; library == NULL && i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, sizeof path, "%s%s%s", folder, places[i], PLUGIN_FILE);
        if (access(path, F_OK) == 0) library = load_from(path, found);
    }
    if (found->path[0] == '\0') {
        snprintf(found->why, sizeof found->why, "%s is not beside the program", PLUGIN_FILE);
    }
    return library;
}

void plugin_find(struct plugin_found *found) {
    plugin_entry *entry = NULL;
    *found = (struct plugin_found){0};
    void *library = load(found);
    if (library == NULL) return;
    void *symbol = dlsym(library, PLUGIN_SYMBOL);
    if (symbol == NULL) {
        snprintf(found->why, sizeof found->why, "%s is no plug-in of this program", PLUGIN_FILE);
        return;
    }
    memcpy(&entry, &symbol, sizeof entry); // POSIX's way from an object pointer to a function's
    const struct plugin *plugin = entry(&host);
    found->abi = plugin == NULL ? 0 : plugin->abi;
    if (found->abi != PLUGIN_ABI) {
        snprintf(found->why, sizeof found->why, "%s belongs to another version of the program",
                 PLUGIN_FILE);
        return;
    }
    found->plugin = plugin;
    found->devices = plugin->device_count();
    if (found->devices <= 0) {
        found->devices = 0;
        snprintf(found->why, sizeof found->why,
                 "no CUDA driver, or no device since compute capability 8.0, was found");
    }
}
