// verb `doctor`: what there is on this machine for the program to work with, what is not in order,
// and what to do about it. Under `longscan run` the ranks also compare themselves.

#include "src/doctor.h"

#include "src/launch.h"
#include "src/measure_out.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define BROKER_MS \
    INT32_MAX // the first rank may be waiting for a broker; if it is lost, mpirun ends

// In a full list what is worse takes the place of what is better.
static struct finding *place_for(struct findings *findings, enum verdict verdict) {
    if (findings->count < FINDINGS_MOST) return &findings->item[findings->count++];
    for (int32_t i = FINDINGS_MOST - 1; i >= 0; i--) {
        if (findings->item[i].verdict < verdict) return &findings->item[i];
    }
    return &findings->item[FINDINGS_MOST];
}

struct finding *finding_add(struct findings *findings, enum verdict verdict, const char *what,
                            const char *advice, const char *format, ...) {
    struct finding *item = place_for(findings, verdict);
    va_list arguments;
    memset(item, 0, sizeof *item);
    item->verdict = verdict;
    snprintf(item->what, sizeof item->what, "%s", what);
    if (advice != NULL) snprintf(item->advice, sizeof item->advice, "%s", advice);
    va_start(arguments, format);
    vsnprintf(item->value, sizeof item->value, format, arguments);
    va_end(arguments);
    return item;
}

// place: NULL where there are no other ranks to be had. Only the rank that speaks asks a broker.
static void examine(const struct settings *settings, const struct score_place *place, bool speaks,
                    struct doctor_rank *rank) {
    struct plugin_found found;
    memset(rank, 0, sizeof *rank);
    plugin_find(&found);
    doctor_libraries(&found, &rank->own);
    doctor_world(place, &rank->own);
    doctor_machine(&rank->own);
    doctor_devices(settings, &found, &rank->own);
    if (speaks) doctor_broker(settings, &rank->own);
    // GPUs that nobody wants need not be alike.
    if (strcmp(settings->backend, "cpu") == 0) found = (struct plugin_found){.why = ""};
    doctor_describe_rank(place, &found, rank);
}

static int32_t exit_code_of(const struct findings *findings) {
    for (int32_t i = 0; i < findings->count; i++) {
        if (findings->item[i].exit_code != 0) return findings->item[i].exit_code;
    }
    return 0;
}

static enum status say(const struct settings *settings, const struct findings *findings,
                       const struct doctor_rank *rank, int32_t ranks) {
    struct measure_out out = {0};
    TRY(measure_out_open(settings, &out));
    const enum status status = doctor_say(out.file, out.table, findings, rank, ranks);
    const enum status closed = measure_out_close(&out, status == STATUS_OK);
    return status == STATUS_OK ? closed : status;
}

// All ranks leave with the code of the first, which alone knows all findings.
static enum status agree(struct link *world, int32_t *exit_code) {
    int32_t *all = calloc((size_t)world->ranks, sizeof *all);
    if (all == NULL) return FAIL(NO_MEMORY, "%d ranks", world->ranks);
    const enum status status =
        world->table->gather(world, exit_code, sizeof *exit_code, all, BROKER_MS);
    if (status == STATUS_OK) *exit_code = all[0];
    free(all);
    return status;
}

// Other versions may have other findings, which could not be read.
static enum status same_form(struct link *world, int64_t timeout_ms) {
    const uint64_t mine = sizeof(struct doctor_rank);
    int32_t other = 0;
    uint64_t *all = calloc((size_t)world->ranks, sizeof *all);
    if (all == NULL) return FAIL(NO_MEMORY, "%d ranks", world->ranks);
    const enum status status =
        world->table->gather(world, &mine, sizeof mine, all, (int32_t)timeout_ms);
    while (status == STATUS_OK && other < world->ranks && all[other] == mine) {
        other++;
    }
    free(all);
    if (status != STATUS_OK || other == world->ranks) return status;
    return FAIL(MISMATCH,
                "rank %d runs another version of longscan than rank %d, which is %s: install the "
                "same on all machines",
                other, world->rank, LONGSCAN_VERSION);
}

static enum status compare_and_say(const struct settings *settings, const struct score_place *place,
                                   struct doctor_rank *mine, int32_t *exit_code) {
    struct link *world = place->world;
    TRY(same_form(world, settings->peer_timeout_ms));
    struct doctor_rank *all = calloc((size_t)world->ranks, sizeof *all);
    if (all == NULL) return FAIL(NO_MEMORY, "findings of %d ranks", world->ranks);
    enum status status =
        world->table->gather(world, mine, sizeof *mine, all, (int32_t)settings->peer_timeout_ms);
    if (status == STATUS_OK && world->rank == 0) {
        doctor_compare(all, world->ranks, &mine->own);
        doctor_broker(settings, &mine->own);
        *exit_code = exit_code_of(&mine->own);
        status = say(settings, &mine->own, all, world->ranks);
    }
    free(all);
    return status == STATUS_OK ? agree(world, exit_code) : status;
}

static enum status doctor_on_rank(const struct settings *settings, const struct score_place *place,
                                  struct score_totals *totals) {
    struct doctor_rank *mine = calloc(1, sizeof *mine);
    enum status status = STATUS_OK;
    *totals = (struct score_totals){.ranks = 1};
    if (mine == NULL) {
        status = FAIL(NO_MEMORY, "findings");
    } else if (place->world->ranks == 1) {
        examine(settings, place, true, mine);
        totals->exit_code = exit_code_of(&mine->own);
        status = say(settings, &mine->own, NULL, 0);
    } else {
        examine(settings, place, false, mine);
        status = compare_and_say(settings, place, mine, &totals->exit_code);
    }
    free(mine);
    if (status == STATUS_OK) return STATUS_OK;
    totals->exit_code = status_exit_code(status);
    launch_tell_failure(totals->exit_code);
    place->world->table->abort(place->world, launch_exit_code(totals->exit_code));
    return status;
}

// MPI would not start, and has said why: that is a finding, and the rest is worth knowing too.
static enum status doctor_without_ranks(const struct settings *settings, int *exit_code) {
    struct doctor_rank *mine = calloc(1, sizeof *mine);
    if (mine == NULL) return FAIL(NO_MEMORY, "findings");
    examine(settings, NULL, true, mine);
    *exit_code = exit_code_of(&mine->own);
    const enum status status = say(settings, &mine->own, NULL, 0);
    free(mine);
    return status;
}

enum status verb_doctor(const struct settings *settings, int *exit_code) {
    struct score_totals totals = {0};
    const enum status status = ranks_run(settings, doctor_on_rank, &totals);
    if (status == STATUS_USAGE && totals.ranks == 0) {
        return doctor_without_ranks(settings, exit_code);
    }
    *exit_code =
        status == STATUS_OK || totals.exit_code != 0 ? totals.exit_code : status_exit_code(status);
    return status;
}
