// Syncs shared by many small files.
#define _GNU_SOURCE // syncfs
#include "pipeline/output_batch.h"

#include "ops/base/clock.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYNC_EACH 8 // so few are synced one by one: the file system may hold much of others

static enum status sync_all(struct output_batch *batch) {
    const struct output *first = batch->waiting[0];
    const bool together = batch->count > SYNC_EACH;
    struct stat about, other;
    if (fstat(first->fd, &about) != 0 || (together && syncfs(first->fd) != 0)) {
        return FAIL(IO, "cannot write %s: %s", first->path, strerror(errno));
    }
    for (int i = 0; i < batch->count; i++) {
        // Behind a link may lie another file system.
        const bool same = fstat(batch->waiting[i]->fd, &other) == 0 && other.st_dev == about.st_dev;
        if (!together || !same) TRY(output_sync(batch->waiting[i]));
    }
    return STATUS_OK;
}

enum status output_batch_settle(struct output_batch *batch, bool replace) {
    if (batch->count == 0) return STATUS_OK;
    enum status status = sync_all(batch);
    for (int i = 0; i < batch->count; i++) {
        if (status == STATUS_OK) {
            status = output_name(batch->waiting[i], replace);
        } else {
            output_drop(batch->waiting[i]);
        }
    }
    batch->count = 0;
    batch->settled_ms = clock_ms();
    return status;
}

enum status output_batch_add(struct output_batch *batch, struct output *output, bool replace) {
    enum status status = output_end(output);
    if (status != STATUS_OK) {
        output_drop(output);
        return status;
    }
    batch->waiting[batch->count++] = output;
    const bool due = clock_ms() - batch->settled_ms >= OUTPUT_BATCH_MS;
    return due || batch->count == OUTPUT_BATCH ? output_batch_settle(batch, replace) : STATUS_OK;
}
