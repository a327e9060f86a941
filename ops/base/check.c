#include "ops/base/check.h"

#include "ops/base/log.h"

#include <stdlib.h>

static void (*stop_ranks)(void);

void check_set_stop(void (*stop)(void)) {
    stop_ranks = stop;
}

void check_failed(const char *file, int line, const char *what) {
    log_write(LOG_ERROR, file, line, "this is a bug in longscan: %s does not hold", what);
    if (stop_ranks != NULL) stop_ranks();
    abort();
}
