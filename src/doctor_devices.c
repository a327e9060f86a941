// The plug-in for GPUs, its devices, and what carries states between them.

#include "src/doctor.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define DRIVER_FILE  "/proc/driver/nvidia/version"
#define DEVICES_SAID 16

// The first word that is a number with points: what stands before differs between its two modules.
void doctor_driver_version(const char *line, char *text, size_t bytes) {
    snprintf(text, bytes, "of a version that it does not say");
    for (const char *at = line; *at != '\0'; at += strcspn(at, " \t\n")) {
        at += strspn(at, " \t\n");
        const size_t word = strcspn(at, " \t\n"), number = strspn(at, "0123456789.");
        if (word == 0 || number != word || memchr(at, '.', word) == NULL) continue;
        snprintf(text, bytes, "%.*s", (int)word, at);
        return;
    }
}

static bool kernel_driver(char *text, size_t bytes) {
    char line[256] = "";
    FILE *file = fopen(DRIVER_FILE, "re");
    if (file == NULL) return false;
    const bool got = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    doctor_driver_version(line, text, bytes);
    return got;
}

static bool library_is_missing(const struct plugin_found *found, const char *name, char *why,
                               size_t bytes) {
    struct library library[8];
    const int32_t count = found->plugin == NULL ? 0 : found->plugin->libraries(library, 8);
    for (int32_t i = 0; i < count && i < 8; i++) {
        if (strcmp(library[i].name, name) != 0) continue;
        snprintf(why, bytes, "%s", library[i].missing);
        return library[i].running[0] == '\0';
    }
    snprintf(why, bytes, "there is no plug-in that could use it");
    return true;
}

static void find_plugin(const struct settings *settings, const struct plugin_found *found,
                        bool driver, struct findings *findings) {
    const bool asked = strcmp(settings->backend, "cuda") == 0;
    const bool used = found->devices > 0;
    // Without a driver nobody expects one.
    const enum verdict verdict = used ? VERDICT_OK
                                 : asked || (found->path[0] != '\0' && found->plugin == NULL)
                                     ? VERDICT_BAD
                                 : driver ? VERDICT_WARN
                                          : VERDICT_OK;
    const char *advice = verdict == VERDICT_OK ? NULL
                         : found->plugin != NULL
                             ? "install NVIDIA's driver, give the container its devices, or use "
                               "--backend cpu"
                         : found->path[0] != '\0' ? "install program and plug-in of one version"
                                                  : "build with -DLONGSCAN_CUDA=ON or install "
                                                    "longscan-cuda; LONGSCAN_PLUGIN may name it";
    struct finding *finding;
    if (found->path[0] == '\0') {
        finding = finding_add(findings, verdict, "CUDA plug-in", advice, "none: %s", found->why);
    } else {
        finding =
            finding_add(findings, verdict, "CUDA plug-in", advice, "%s, ABI %" PRIu32 "%s%s",
                        found->path, found->abi, found->why[0] != '\0' ? ": " : "", found->why);
    }
    if (asked && !used) finding->exit_code = status_exit_code(STATUS_USAGE);
}

static void find_gpus(const struct plugin_found *found, struct findings *findings) {
    for (int32_t i = 0; i < found->devices && i < DEVICES_SAID; i++) {
        char name[16], text[128];
        snprintf(name, sizeof name, "GPU %d", i);
        if (found->plugin->describe(i, text, sizeof text) == STATUS_OK) {
            finding_add(findings, VERDICT_OK, name, NULL, "%s", text);
        } else {
            finding_add(findings, VERDICT_BAD, name, "see nvidia-smi and dmesg", "does not answer");
        }
    }
}

// NCCL's own line, among the libraries, says whether it is there; here, whether that matters.
static void find_transport(const struct settings *settings, const struct plugin_found *found,
                           struct findings *findings) {
    char why[192] = "";
    const bool asked = strcmp(settings->transport, "nccl") == 0;
    const bool missing = library_is_missing(found, "NCCL", why, sizeof why);
    if (!missing || (!asked && found->devices < 2)) return;
    struct finding *finding =
        finding_add(findings, asked ? VERDICT_BAD : VERDICT_WARN, "states between GPUs",
                    "install libnccl2 for them to go from GPU to GPU",
                    "through the host's memory, for NCCL is missing: %s", why);
    if (asked) finding->exit_code = status_exit_code(STATUS_USAGE);
}

void doctor_devices(const struct settings *settings, const struct plugin_found *found,
                    struct findings *findings) {
    char version[64];
    const bool driver = kernel_driver(version, sizeof version);
    finding_add(findings, VERDICT_OK, "NVIDIA driver", NULL, "%s",
                driver ? version : "none: " DRIVER_FILE " is not there");
    find_plugin(settings, found, driver, findings);
    find_gpus(found, findings);
    find_transport(settings, found, findings);
}
