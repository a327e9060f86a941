// Which packing a name stands for.
#include "pipeline/packing.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>
#include <zstd.h>

static const char *const extensions[PACKINGS] = {"", ".gz", ".zst"};

enum packing packing_of(const char *name) {
    const char *extension = strrchr(name, '.');
    for (int i = PACKING_GZIP; extension != NULL && i < PACKINGS; i++) {
        if (strcasecmp(extension, extensions[i]) == 0) return (enum packing)i;
    }
    return PACKING_NONE;
}

const char *packing_unsupported(const char *name) {
    static const char *const others[] = {".bz2", ".xz", ".lz4", ".br", ".Z"};
    const char *extension = strrchr(name, '.');
    for (size_t i = 0; extension != NULL && i < sizeof others / sizeof others[0]; i++) {
        if (strcasecmp(extension, others[i]) == 0) return extension;
    }
    return NULL;
}

const char *packing_extension(enum packing packing) {
    return extensions[packing];
}

size_t packing_stem(const char *name) {
    return strlen(name) - strlen(extensions[packing_of(name)]);
}

void packing_libraries(struct library *zlib, struct library *zstd) {
    *zlib = (struct library){.name = "zlib", .built = ZLIB_VERSION};
    snprintf(zlib->running, sizeof zlib->running, "%s", zlibVersion());
    *zstd = (struct library){.name = "zstd", .built = ZSTD_VERSION_STRING};
    snprintf(zstd->running, sizeof zstd->running, "%s", ZSTD_versionString());
}
