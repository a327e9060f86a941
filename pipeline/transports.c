#include "pipeline/transports.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHY_BYTES 256

// Why these ranks cannot use a transport from device to device; empty: they can.
static void find_obstacle(const struct transport_id *ids, int32_t ranks, char *why) {
    why[0] = '\0';
    for (int32_t rank = 0; rank < ranks; rank++) {
        if (ids[rank].why_not[0] != '\0') {
            snprintf(why, WHY_BYTES, "rank %d has none: %.*s", rank,
                     (int)sizeof ids[rank].why_not - 1, ids[rank].why_not);
            return;
        }
        for (int32_t other = 0; other < rank; other++) {
            if (strncmp(ids[rank].device, ids[other].device, sizeof ids[rank].device) != 0) {
                continue;
            }
            snprintf(why, WHY_BYTES, "ranks %d and %d share a device", other, rank);
            return;
        }
    }
}

static enum status gather_ids(struct link *link, struct backend *backend, int32_t timeout_ms,
                              struct transport_id *ids) {
    struct transport_id mine;
    memset(&mine, 0, sizeof mine);
    TRY(backend->table->transport_identify(backend, link->rank, link->ranks, &mine));
    return link->table->gather(link, &mine, sizeof mine, ids, timeout_ms);
}

enum status transport_choose(struct link *link, struct backend *backend, enum transport_wish wish,
                             int32_t timeout_ms, struct transport_choice *choice) {
    const bool speaks = link->rank == 0;
    const bool able = backend->table->transport_identify != NULL;
    char why[WHY_BYTES] = "";
    enum status status = STATUS_OK;
    *choice = (struct transport_choice){0};
    if (wish == TRANSPORT_DIRECT && !able) {
        return FAIL(USAGE, "--transport nccl: the %s backend has no NCCL; use --backend cuda",
                    backend->table->name);
    }
    if (link->ranks == 1 || !able) return STATUS_OK; // nothing to hand over, or nothing to choose
    if (wish == TRANSPORT_HOST) {
        if (speaks) LOG(INFO, "states: through host memory, %s, as asked", link->table->name);
        return STATUS_OK;
    }
    struct transport_id *ids = calloc((size_t)link->ranks, sizeof *ids);
    if (ids == NULL) return FAIL(NO_MEMORY, "devices of %d ranks", link->ranks);
    TRY_OUT(status, gather_ids(link, backend, timeout_ms, ids));
    find_obstacle(ids, link->ranks, why);
    if (why[0] == '\0') {
        if (speaks) LOG(INFO, "states: nccl, between %d devices", link->ranks);
        choice->ids = ids;
        ids = NULL; // the choice's now
    } else if (wish == TRANSPORT_DIRECT) {
        status = FAIL(USAGE, "--transport nccl: %s; use --transport auto", why);
    } else if (speaks) {
        LOG(INFO, "states: through host memory, %s, not nccl, since %s", link->table->name, why);
    }
out:
    free(ids);
    return status;
}

void transport_choice_free(struct transport_choice *choice) {
    free(choice->ids);
    choice->ids = NULL;
}
