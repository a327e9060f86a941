#include "src/version.h"

#include "ops/base/hash.h"
#include "ops/cpu/cpu_backend.h"
#include "pipeline/libraries.h"
#include "src/plugin_find.h"

#include <ctype.h>
#include <gnu/libc-version.h>
#include <stdlib.h>
#include <string.h>

#ifndef LONGSCAN_BUILD_TYPE // as CMake was told
#    define LONGSCAN_BUILD_TYPE "unknown build"
#    define LONGSCAN_BUILD_CUDA "unknown"
#endif
#if defined(__clang__)
#    define COMPILER "clang " __clang_version__
#else
#    define COMPILER "gcc " __VERSION__
#endif
#if defined(__x86_64__)
#    define MACHINE "x86_64"
#elif defined(__aarch64__)
#    define MACHINE "aarch64"
#else
#    define MACHINE "another machine"
#endif
#ifdef LONGSCAN_WITH_MPI
#    define MPI      "MPI"
#    define WITH_MPI "on"
#else
#    define MPI      "no MPI"
#    define WITH_MPI "off"
#endif
#ifdef LONGSCAN_WITH_KAFKA
#    define KAFKA      "librdkafka"
#    define WITH_KAFKA "on"
#else
#    define KAFKA      "no librdkafka"
#    define WITH_KAFKA "off"
#endif
#ifdef LONGSCAN_WITH_BPE
#    define BPE      "BPE"
#    define WITH_BPE "on"
#else
#    define BPE      "no BPE"
#    define WITH_BPE "off"
#endif

const char version_number[] = LONGSCAN_VERSION;

static void libc_library(struct library *library) {
    *library = (struct library){.name = "glibc"};
    snprintf(library->built, sizeof library->built, "%d.%d", __GLIBC__, __GLIBC_MINOR__);
    snprintf(library->running, sizeof library->running, "%s", gnu_get_libc_version());
}

size_t version_libraries(const struct plugin_found *found, struct library *library) {
    size_t count = 2;
    libc_library(&library[0]);
    hash_library(&library[1]);
    count += pipeline_libraries(library + count, VERSION_LIBRARIES_MOST - count);
    if (found->plugin != NULL && count < VERSION_LIBRARIES_MOST) {
        count += (size_t)found->plugin->libraries(library + count,
                                                  (int32_t)(VERSION_LIBRARIES_MOST - count));
    }
    return count < VERSION_LIBRARIES_MOST ? count : VERSION_LIBRARIES_MOST;
}

void version_library_text(const struct library *library, char *text, size_t bytes) {
    if (library->running[0] == '\0') {
        snprintf(text, bytes, "missing: %s", library->missing);
    } else if (library->built[0] != '\0' && strcmp(library->built, library->running) != 0) {
        snprintf(text, bytes, "%s (built with %s)", library->running, library->built);
    } else {
        snprintf(text, bytes, "%s", library->running);
    }
}

// The number that begins at or behind *at, which moves behind it; -1: there is none.
static long next_number(const char **at) {
    char *end = NULL;
    while (**at != '\0' && !isdigit((unsigned char)**at)) {
        (*at)++;
    }
    if (**at == '\0') return -1;
    const long number = strtol(*at, &end, 10);
    *at = end;
    return number;
}

bool version_is_older(const struct library *library) {
    const char *built = library->built, *running = library->running;
    if (*built == '\0' || *running == '\0') return false;
    for (int i = 0; i < 3; i++) {
        const long need = next_number(&built), have = next_number(&running);
        if (need != have) return have < need;
    }
    return false;
}

void version_build(char *text, size_t bytes) {
    snprintf(text, bytes, "%s, %s, %s; MPI %s, Kafka %s, BPE %s, CUDA %s", LONGSCAN_BUILD_TYPE,
             COMPILER, MACHINE, WITH_MPI, WITH_KAFKA, WITH_BPE, LONGSCAN_BUILD_CUDA);
}

static void say_kernels(FILE *out) {
    const char *names[CPU_ISAS_MOST];
    const size_t count = cpu_isa_list(names, CPU_ISAS_MOST);
    fprintf(out, "  %-13s %s; this machine runs", "kernels", cpu_isas_built);
    for (size_t i = 0; i < count && i < CPU_ISAS_MOST; i++) {
        fprintf(out, " %s", names[i]);
    }
    fputc('\n', out);
}

void version_say(FILE *out) {
    struct library library[VERSION_LIBRARIES_MOST];
    struct plugin_found found;
    char text[320];
    plugin_find(&found);
    fprintf(out, "longscan %s (%s, %s, %s)\n", LONGSCAN_VERSION, MPI, KAFKA, BPE);
    version_build(text, sizeof text);
    fprintf(out, "  %-13s %s\n", "build", text);
    say_kernels(out);
    if (found.path[0] != '\0') {
        fprintf(out, "  %-13s %s%s%s\n", "plug-in", found.path, found.why[0] != '\0' ? ": " : "",
                found.why);
    }
    const size_t count = version_libraries(&found, library);
    for (size_t i = 0; i < count; i++) {
        version_library_text(&library[i], text, sizeof text);
        fprintf(out, "  %-13s %s\n", library[i].name, text);
    }
}
