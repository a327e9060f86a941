#include "src/rank_model.h"

#include "ops/base/hash.h"
#include "src/device.h"
#include "src/launch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOAD_MS 600000 // ranks may load a model at unlike speed

enum status rank_model_check(const struct settings *settings) {
    const char *model = settings->model;
    struct stat about;
    const bool there = stat(model, &about) == 0;
    if (there && S_ISDIR(about.st_mode)) return STATUS_OK;
    if (there) {
        return FAIL(USAGE,
                    "--model %s is a file; give the folder it is in, with config.json and "
                    "model.safetensors or pytorch_model.bin",
                    model);
    }
    return FAIL(USAGE,
                "--model %s: there is no such folder; it takes a local folder with config.json and "
                "model.safetensors or pytorch_model.bin, names of a hub are not downloaded",
                model);
}

static struct device_share share_of(const struct rank_model *rank) {
    return (struct device_share){.ranks = rank->place->local_ranks,
                                 .rank = rank->place->local_rank};
}

enum status rank_model_begin(struct rank_model *rank) {
    const struct settings *settings = rank->settings;
    const struct device_share share = share_of(rank);
    TRY(device_open(settings, &share, rank->place->world, rank_speaks(rank->place),
                    &rank->backend));
    rank->step_tokens =
        settings->step_tokens > 0 ? settings->step_tokens : device_step_tokens(rank->backend);
    return STATUS_OK;
}

enum status rank_model_open(struct rank_model *rank, bool asked) {
    const struct settings *settings = rank->settings;
    const struct model_settings sizes = {.step_tokens = rank->step_tokens,
                                         .asked_most = asked ? rank->step_tokens : 0,
                                         .gated_norm = gated_norm_of(settings->gated_norm)};
    const struct device_share share = share_of(rank);
    const bool speaks = rank_speaks(rank->place);
    char numerics[sizeof rank->backend->numerics]; // as the log has said
    memcpy(numerics, rank->backend->numerics, sizeof numerics);
    TRY(device_share_begin(rank->backend, rank->place->world, rank->place->local_rank));
    TRY(model_open(settings->model, rank->backend, &sizes, &rank->model));
    device_share_end(rank->backend, &share, speaks);
    if (speaks && strcmp(rank->backend->numerics, numerics) != 0) {
        LOG(INFO, "numerics of this model: %s", rank->backend->numerics);
    }
    if (settings->bos && model_info(rank->model)->bos_token < 0) {
        return FAIL(MISMATCH, "--bos: the config in %s names no bos_token_id", settings->model);
    }
    return STATUS_OK;
}

enum status rank_model_agree(const struct rank_model *rank, uint64_t settings_hash) {
    const struct model_info *info = model_info(rank->model);
    struct pipeline_identity mine;
    memset(&mine, 0, sizeof mine);
    mine.program = hash_bytes(LONGSCAN_VERSION, strlen(LONGSCAN_VERSION));
    mine.model = info->hash;
    mine.settings = settings_hash;
    mine.layer_bytes = info->layer_bytes;
    mine.step_tokens = rank->step_tokens;
    memcpy(mine.numerics, rank->backend->numerics, sizeof mine.numerics);
    return pipeline_agree(rank->place->world, &mine, LOAD_MS);
}

// NULL: there is none, which matters when states do not fit into memory.
static const char *spill_folder(const struct settings *settings) {
    const char *folder = getenv("TMPDIR");
    if (settings->spill != NULL) return settings->spill;
    if (folder == NULL || folder[0] == '\0') folder = "/tmp";
    return access(folder, W_OK) == 0 ? folder : NULL;
}

enum transport_wish score_transport(const struct settings *settings) {
    if (strcmp(settings->transport, "auto") == 0) return TRANSPORT_AUTO;
    return strcmp(settings->transport, "nccl") == 0 ? TRANSPORT_DIRECT : TRANSPORT_HOST;
}

struct pipeline_settings rank_model_pipeline(const struct rank_model *rank) {
    const struct settings *settings = rank->settings;
    return (struct pipeline_settings){
        .step_tokens = rank->step_tokens,
        // a state over a local link costs about as long as a few tokens take; a chunk is worth it
        .move_tokens = CHUNK_TOKENS / 8,
        .peer_timeout_ms = (int32_t)settings->peer_timeout_ms,
        .transport = score_transport(settings),
        .device_slots = settings->slots,
        .host_slots_bytes = (size_t)settings->host_slots_bytes,
        .spill_folder = spill_folder(settings),
        .stop = stop_requested,
    };
}

void rank_model_fail(const struct score_place *place, int exit_code) {
    launch_tell_failure(exit_code);
    // the leader of the group may still be removing what it has half written
    if (!rank_leads(place)) nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
    place->group->table->abort(place->group, launch_exit_code(exit_code));
    place->world->table->abort(place->world, launch_exit_code(exit_code));
}

void rank_model_close(struct rank_model *rank) {
    model_close(rank->model);
    if (rank->backend != NULL) rank->backend->table->close(rank->backend);
}
