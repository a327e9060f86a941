#pragma once
// What a rank of any job brings: its backend and the model on it, equal on all ranks.

#include "pipeline/pipeline.h"
#include "src/score_rank.h"

// All zero before; closed by rank_model_close. Borrows settings and place.
struct rank_model {
    const struct settings *settings;
    const struct score_place *place;
    struct backend *backend;
    struct model *model;
    int64_t step_tokens;
};

// Is there such a folder? Errors: USAGE.
enum status rank_model_check(const struct settings *settings);
// The backend, and how many tokens a step has. Errors: device_open's.
enum status rank_model_begin(struct rank_model *rank);
// The model, placed once a machine where it can be. asked: its rows may be asked for their best token.
// Collective. Errors: model_open's, MISMATCH (--bos, and the model names none).
enum status rank_model_open(struct rank_model *rank, bool asked);
// Collective: all ranks have the same program, model, settings and arithmetic. Errors: MISMATCH, PEER.
enum status rank_model_agree(const struct rank_model *rank, uint64_t settings_hash);
// What every job's pipeline is given, whatever comes in and goes out.
struct pipeline_settings rank_model_pipeline(const struct rank_model *rank);
// The job has failed here: everybody is told to stop.
void rank_model_fail(const struct score_place *place, int exit_code);
void rank_model_close(struct rank_model *rank);

// The rank that speaks for the job, and the one that leads its group.
static inline bool rank_speaks(const struct score_place *place) {
    return place->world->rank == 0;
}
static inline bool rank_leads(const struct score_place *place) {
    return place->group->rank == 0;
}
