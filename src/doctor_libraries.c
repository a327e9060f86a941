// The program, its libraries, and the ranks that a launcher has started.

#include "src/doctor.h"
#include "src/launch.h"
#include "src/mpirun.h"
#include "src/version.h"

static void find_library(const struct library *library, struct findings *findings) {
    char text[256];
    version_library_text(library, text, sizeof text);
    const bool older = version_is_older(library);
    finding_add(findings, older ? VERDICT_WARN : VERDICT_OK, library->name,
                older ? "it is older than what the program was built with: install that, or build "
                        "again"
                      : NULL,
                "%s", text);
}

void doctor_libraries(const struct plugin_found *found, struct findings *findings) {
    struct library library[VERSION_LIBRARIES_MOST];
    char text[256];
    version_build(text, sizeof text);
    finding_add(findings, VERDICT_OK, "longscan", NULL, "%s; %s", LONGSCAN_VERSION, text);
    const size_t count = version_libraries(found, library);
    for (size_t i = 0; i < count; i++) {
        find_library(&library[i], findings);
    }
#ifdef LONGSCAN_WITH_MPI
    const enum status said = mpirun_says(text, sizeof text);
    if (said != STATUS_OK) {
        finding_add(findings, VERDICT_WARN, "mpirun",
                    "longscan run needs it: install openmpi-bin, or use --ranks N",
                    said == STATUS_END ? "not found" : "does not answer");
    } else {
        finding_add(findings, VERDICT_OK, "mpirun", NULL, "%s", text);
    }
#else
    finding_add(findings, VERDICT_OK, "MPI", NULL,
                "not in this build; ranks are threads: --ranks N");
#endif
#ifndef LONGSCAN_WITH_KAFKA
    finding_add(findings, VERDICT_OK, "librdkafka", NULL, "not in this build; files only");
#endif
}

void doctor_world(const struct score_place *place, struct findings *findings) {
    char text[160] = "";
    const int32_t ranks = place == NULL ? 1 : place->world->ranks;
    const bool differs = launch_promises(ranks, text, sizeof text);
    if (place == NULL && text[0] == '\0') {
        finding_add(findings, VERDICT_BAD, "world", NULL, "no ranks; the error line says why")
            ->exit_code = status_exit_code(STATUS_USAGE);
    } else if (place == NULL || differs) {
        finding_add(findings, VERDICT_BAD, "world",
#ifdef LONGSCAN_WITH_MPI
                    "start it with the mpirun of the MPI above, on all machines of the host file",
#else
                    "this build has no MPI: use --ranks N, or build it with MPI",
#endif
                    "%d of the promised ranks: %s", ranks, text)
            ->exit_code = status_exit_code(STATUS_USAGE);
    } else if (text[0] == '\0') {
        finding_add(findings, VERDICT_OK, "world", NULL,
                    "this process alone; longscan run -n N doctor asks N ranks");
    } else {
        finding_add(findings, VERDICT_OK, "world", NULL, "%d ranks, %d on this machine; %s", ranks,
                    place->local_ranks, text);
    }
}
