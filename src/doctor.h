#pragma once
// What `longscan doctor` finds on a machine, part by part; doctor.c puts it together.

#include "src/plugin_find.h"
#include "src/score_rank.h"

#include <stdio.h>

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_BAD };

struct finding {
    enum verdict verdict;
    int32_t exit_code; // of the program, where what was asked for is not there; else 0
    char what[24], value[320], advice[192]; // advice: what to do; "": nothing
};

#define FINDINGS_MOST 48

struct findings {
    int32_t count;
    struct finding item[FINDINGS_MOST + 1]; // the last one: what there was no room for
};

// advice may be NULL. Returns the finding, for an exit code.
struct finding *finding_add(struct findings *findings, enum verdict verdict, const char *what,
                            const char *advice, const char *format, ...) PRINTF_LIKE(5, 6);

// What a rank says of itself; crosses ranks as it is, so every byte is set.
struct doctor_rank {
    char host[64], program[32], libraries[512], kernels[16], cores[64], device[128];
    uint32_t plugin_abi; // 0: no plug-in
    int32_t local_rank;
    struct findings own;
};

void doctor_machine(struct findings *findings);
void doctor_libraries(const struct plugin_found *found, struct findings *findings);
// place: NULL where MPI would not start.
void doctor_world(const struct score_place *place, struct findings *findings);
// The plug-in, its devices and what carries states between them, as settings ask for them.
void doctor_devices(const struct settings *settings, const struct plugin_found *found,
                    struct findings *findings);
// The value of a line "name: value" of a file of /proc; false: there is none.
bool doctor_proc_line(const char *path, const char *name, char *value, size_t bytes);
// From the first line of /proc/driver/nvidia/version.
void doctor_driver_version(const char *line, char *text, size_t bytes);
// --brokers; nothing where none are given. Waits for them, at most --broker-timeout.
void doctor_broker(const struct settings *settings, struct findings *findings);

void doctor_describe_rank(const struct score_place *place, const struct plugin_found *found,
                          struct doctor_rank *rank);
// What differs between ranks, and what is not in order on machines other than the first rank's.
void doctor_compare(const struct doctor_rank *rank, int32_t ranks, struct findings *findings);

// rank: NULL, or one for each of `ranks`, which are listed. Errors: NO_MEMORY.
enum status doctor_say(FILE *out, bool table, const struct findings *findings,
                       const struct doctor_rank *rank, int32_t ranks);
