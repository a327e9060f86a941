// What ranks say of themselves, and where they differ.

#include "ops/cpu/cpu_backend.h"
#include "src/doctor.h"
#include "src/version.h"

#include <string.h>
#include <unistd.h>

static void libraries_text(const struct plugin_found *found, char *text, size_t bytes) {
    struct library library[VERSION_LIBRARIES_MOST];
    const size_t count = version_libraries(found, library);
    for (size_t i = 0; i < count; i++) {
        const size_t at = strlen(text);
        snprintf(text + at, bytes - at, "%s%s %s", i > 0 ? ", " : "", library[i].name,
                 library[i].running[0] != '\0' ? library[i].running : "missing");
    }
}

void doctor_describe_rank(const struct score_place *place, const struct plugin_found *found,
                          struct doctor_rank *rank) {
    const char *isa = "";
    (void)gethostname(rank->host, sizeof rank->host - 1);
    cpu_isa_list(&isa, 1);
    snprintf(rank->kernels, sizeof rank->kernels, "%s", isa);
    snprintf(rank->program, sizeof rank->program, "%s", version_number);
    rank->local_rank = place == NULL ? 0 : place->local_rank;
    rank->plugin_abi = found->abi;
    (void)doctor_proc_line("/proc/self/status", "Cpus_allowed_list", rank->cores,
                           sizeof rank->cores);
    libraries_text(found, rank->libraries, sizeof rank->libraries);
    if (found->devices > 0) {
        const int32_t device = rank->local_rank % found->devices;
        const int bytes =
            snprintf(rank->device, sizeof rank->device, "GPU %d of %d: ", device, found->devices);
        (void)!found->plugin->describe(device, rank->device + bytes,
                                       sizeof rank->device - (size_t)bytes);
    }
}

// The first library in which two lists differ, or that one of them has not.
static void first_difference(const char *a, const char *b, char *text, size_t bytes) {
    size_t a_bytes = strcspn(a, ","), b_bytes = strcspn(b, ",");
    while (a_bytes == b_bytes && a_bytes > 0 && memcmp(a, b, a_bytes) == 0) {
        a += a_bytes + strspn(a + a_bytes, ", ");
        b += b_bytes + strspn(b + b_bytes, ", ");
        a_bytes = strcspn(a, ",");
        b_bytes = strcspn(b, ",");
    }
    snprintf(text, bytes, "%.*s, the first rank %.*s", b_bytes > 0 ? (int)b_bytes : 4,
             b_bytes > 0 ? b : "less", a_bytes > 0 ? (int)a_bytes : 4, a_bytes > 0 ? a : "less");
}

// Bad: score refuses such ranks, or they may do different things. A warning: results are the same.
static void compare(const struct doctor_rank *first, const struct doctor_rank *other, int32_t rank,
                    struct findings *findings) {
    static const char advice[] = "install the same on all machines";
    const int32_t mismatch = status_exit_code(STATUS_MISMATCH);
    char text[200];
    if (strcmp(first->program, other->program) != 0) {
        finding_add(findings, VERDICT_BAD, "agreement", advice,
                    "rank %d on %s is longscan %s, the first rank %s", rank, other->host,
                    other->program, first->program)
            ->exit_code = mismatch;
    }
    if (first->plugin_abi != other->plugin_abi) {
        finding_add(findings, VERDICT_BAD, "agreement", advice,
                    "rank %d on %s has a plug-in of ABI %u, the first rank of %u (0: none)", rank,
                    other->host, other->plugin_abi, first->plugin_abi)
            ->exit_code = mismatch;
    }
    if (strcmp(first->libraries, other->libraries) != 0) {
        first_difference(first->libraries, other->libraries, text, sizeof text);
        finding_add(findings, VERDICT_BAD, "agreement", advice, "rank %d on %s has %s", rank,
                    other->host, text)
            ->exit_code = mismatch;
    }
    const char *a = strchr(first->device, ':'), *b = strchr(other->device, ':');
    if (a != NULL && b != NULL && strcmp(a, b) != 0) {
        finding_add(findings, VERDICT_WARN, "agreement",
                    "ranks of one job need GPUs of one kind, or --backend cpu",
                    "rank %d on %s has%s, the first rank%s", rank, other->host, b + 1, a + 1);
    }
    if (strcmp(first->kernels, other->kernels) != 0) {
        finding_add(findings, VERDICT_WARN, "agreement", "the bits are the same, the speed is not",
                    "rank %d on %s has %s kernels, the first rank %s", rank, other->host,
                    other->kernels, first->kernels);
    }
}

static void compare_sharing(const struct doctor_rank *rank, int32_t ranks,
                            struct findings *findings) {
    for (int32_t i = 0; i < ranks; i++) {
        for (int32_t j = 0; j < i; j++) {
            if (rank[i].device[0] == '\0' || strcmp(rank[i].host, rank[j].host) != 0 ||
                strcmp(rank[i].device, rank[j].device) != 0) {
                continue;
            }
            finding_add(findings, VERDICT_WARN, "sharing", "start one rank a GPU",
                        "ranks %d and %d on %s share %.60s", j, i, rank[i].host, rank[i].device);
            break;
        }
    }
}

// Of each other machine, what its first rank found amiss.
static void report_machine(const struct doctor_rank *rank, struct findings *findings) {
    if (rank->local_rank != 0) return;
    const int32_t count = rank->own.count < FINDINGS_MOST ? rank->own.count : FINDINGS_MOST;
    for (int32_t i = 0; i < count; i++) {
        const struct finding *item = &rank->own.item[i];
        if (item->verdict == VERDICT_OK) continue;
        finding_add(findings, item->verdict, item->what, item->advice, "%.64s: %s", rank->host,
                    item->value)
            ->exit_code = item->exit_code;
    }
}

void doctor_compare(const struct doctor_rank *rank, int32_t ranks, struct findings *findings) {
    const int32_t before = findings->count;
    for (int32_t i = 1; i < ranks; i++) {
        compare(&rank[0], &rank[i], i, findings);
    }
    if (findings->count == before) {
        finding_add(findings, VERDICT_OK, "agreement", NULL,
                    "%d ranks: the same program, libraries, plug-in and kernels", ranks);
    }
    compare_sharing(rank, ranks, findings);
    for (int32_t i = 1; i < ranks; i++) {
        report_machine(&rank[i], findings);
    }
}
