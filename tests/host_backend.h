#pragma once
// A backend without operators, for tests of what only needs memory and a queue: host memory, and
// everything runs at once.

#include "ops/backend.h"

#include <stdlib.h>
#include <string.h>

static enum status host_backend_alloc(struct backend *backend, size_t bytes, void **memory) {
    (void)backend;
    *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (*memory == NULL) return STATUS_NO_MEMORY;
    memset(*memory, 0, bytes);
    return STATUS_OK;
}

static void host_backend_release(struct backend *backend, void *memory) {
    (void)backend;
    free(memory);
}

static enum status host_backend_upload(struct backend *backend, void *to, const void *host,
                                       size_t bytes) {
    (void)backend;
    memcpy(to, host, bytes);
    return STATUS_OK;
}

static enum status host_backend_download(struct backend *backend, void *host, const void *from,
                                         size_t bytes) {
    (void)backend;
    memcpy(host, from, bytes);
    return STATUS_OK;
}

static enum status host_backend_call(struct backend *backend, void (*function)(void *),
                                     void *argument) {
    (void)backend;
    function(argument);
    return STATUS_OK;
}

static enum status host_backend_wait(struct backend *backend) {
    (void)backend;
    return STATUS_OK;
}

static enum status host_backend_mark(struct backend *backend, int32_t which) {
    (void)backend;
    (void)which;
    return STATUS_OK;
}

static enum status host_backend_reached(struct backend *backend, int32_t which, bool *reached) {
    (void)backend;
    (void)which;
    *reached = true;
    return STATUS_OK;
}

static const struct backend_table host_backend_table = {
    .name = "host",
    .host_memory = true,
    .alloc = host_backend_alloc,
    .release = host_backend_release,
    .host_alloc = host_backend_alloc,
    .host_release = host_backend_release,
    .upload = host_backend_upload,
    .download = host_backend_download,
    .call = host_backend_call,
    .wait = host_backend_wait,
    .mark = host_backend_mark,
    .reached = host_backend_reached,
};

static inline struct backend host_backend(void) {
    return (struct backend){.table = &host_backend_table};
}
