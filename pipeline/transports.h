#pragma once
// Which transport carries the states of a group: the backend's own, from device to device, or the one
// through host memory.

#include "pipeline/comm.h"

// What was asked for. AUTO takes the backend's own if all ranks of the group can use it and no two
// share a device.
enum transport_wish { TRANSPORT_AUTO, TRANSPORT_DIRECT, TRANSPORT_HOST };

struct transport_choice {
    struct transport_id *ids; // [ranks] if it is the backend's own, else NULL. Owned
};

// Collective over the link, before its communication thread starts; all ranks choose the same. Rank 0
// says what and why. Errors: USAGE (DIRECT is not possible), PEER, NO_MEMORY.
enum status transport_choose(struct link *link, struct backend *backend, enum transport_wish wish,
                             int32_t timeout_ms, struct transport_choice *choice);
void transport_choice_free(struct transport_choice *choice);
