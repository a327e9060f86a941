// From nothing to a transport, and back.

#include "cuda/nccl_inner.h"

#include <stdlib.h>
#include <time.h>

static void free_all(struct nccl_transport *self) {
    while (self->all != NULL) {
        struct transfer *t = self->all;
        self->all = t->all;
        free(t);
    }
    while (self->all_launches != NULL) {
        struct launch *launch = self->all_launches;
        self->all_launches = launch->all;
        self->place.streams->event_close(launch->gate);
        self->place.streams->event_close(launch->done);
        free(launch);
    }
}

void nccl_close(struct transport *transport) {
    struct nccl_transport *self = (struct nccl_transport *)transport;
    const struct transport_settings *settings = &self->settings;
    nccl_watch_stop(self);
    const bool lost = settings->lost != NULL && settings->lost(settings->context);
    // threads of NCCL's that do not come back still use all this
    if (!nccl_leave(self, lost || atomic_load(&self->failed))) return;
    for (int i = 0; i < LANES; i++) {
        if (self->lane[i].stream != NULL) self->place.streams->stream_close(self->lane[i].stream);
    }
    free_all(self);
    for (int i = 0; i < TRANSPORT_BATCHES; i++) {
        self->place.streams->event_close(self->passed[i]);
    }
    self->place.streams->close(self->place.device);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    pthread_mutex_destroy(&self->calls);
    free(self->ids);
    free(self);
}

static enum status sync_open(struct nccl_transport *self) {
    pthread_condattr_t monotonic;
    if (pthread_condattr_init(&monotonic) != 0) return FAIL(NO_MEMORY, "nccl transport");
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&self->calls, NULL);
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return STATUS_OK;
}

enum status nccl_transport_open(const struct nccl_place *place,
                                const struct transport_settings *settings,
                                struct transport **opened) {
    struct nccl_transport *self = calloc(1, sizeof *self);
    if (self == NULL) {
        place->streams->close(place->device);
        return FAIL(NO_MEMORY, "nccl transport");
    }
    self->base.table = &nccl_table;
    self->place = *place;
    self->settings = *settings;
    self->settings.ids = NULL;
    atomic_store(&self->calling, LANES);
    enum status status = sync_open(self);
    if (status != STATUS_OK) {
        place->streams->close(place->device);
        free(self);
        return status;
    }
    for (int i = 0; i < TRANSPORT_BATCHES && status == STATUS_OK; i++) {
        status = self->place.streams->event_open(&self->passed[i]);
    }
    if (status == STATUS_OK) status = nccl_meet(self, settings->ids);
    if (status == STATUS_OK) status = nccl_watch_start(self);
    if (status != STATUS_OK) {
        atomic_store(&self->failed, true);
        nccl_close(&self->base);
        return status;
    }
    *opened = &self->base;
    return STATUS_OK;
}
