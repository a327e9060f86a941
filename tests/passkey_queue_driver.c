// One job that shares a queue of samples, without a model: it answers each description with a line that
// says it was there. Arguments: brokers, input topic, output topic or "-", --until, --job, ms to think
// about a batch. Prints the id of each answer that it gives; for tests/run/kafka_queue_run.py.

#include "src/passkey_queue.h"
#include "src/stop.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 8

static enum status answer(struct passkey_queue *queue, const struct passkey_description *sample) {
    char line[PASSKEY_ID_MOST + 64];
    const int bytes = snprintf(line, sizeof line, "{\"id\":\"%s\",\"length\":%" PRId64 "}",
                               sample->id, sample->length);
    TRY(passkey_queue_result(queue, &sample->place, sample->id, line, (size_t)bytes));
    printf("%s\n", sample->id);
    fflush(stdout);
    return STATUS_OK;
}

static enum status serve(struct passkey_queue *queue, int64_t think_ms) {
    struct passkey_description taken[BATCH];
    const struct timespec think = {.tv_sec = think_ms / 1000, .tv_nsec = think_ms % 1000 * 1000000};
    for (;;) {
        int64_t count = 0;
        const enum status status = passkey_queue_take(queue, BATCH, 200, taken, &count);
        if (status == STATUS_END) return STATUS_OK;
        if (status != STATUS_OK && status != STATUS_AGAIN) return status;
        if (count > 0) nanosleep(&think, NULL);
        for (int64_t i = count - 1; i >= 0; i--) { // in another order than they came
            TRY(answer(queue, &taken[i]));
        }
        TRY(passkey_queue_commit(queue));
    }
}

int main(int count, char **arguments) {
    struct settings settings = {.commit_interval_ms = 200,
                                .broker_timeout_ms = 30000,
                                .max_bad = 0.5,
                                .seed = 1,
                                .output = "-"};
    struct passkey_queue *queue = NULL;
    char input[256], output[256];
    if (count < 7 || count - 7 > PROPERTIES_MOST) {
        fputs("usage: passkey_queue_driver BROKERS IN OUT|- UNTIL JOB THINK_MS [KEY=VALUE ...]\n",
              stderr);
        return status_exit_code(STATUS_USAGE);
    }
    snprintf(input, sizeof input, "kafka:%s", arguments[2]);
    snprintf(output, sizeof output, "kafka:%s", arguments[3]);
    settings.brokers = arguments[1];
    settings.input = input;
    if (strcmp(arguments[3], "-") != 0) settings.output = output;
    settings.until = arguments[4];
    settings.job = arguments[5];
    for (int i = 7; i < count; i++) {
        settings.property[settings.property_count++] = arguments[i];
    }
    if (settings.property_count > 0) log_setup(LOG_DEBUG, LOG_TEXT);
    stop_install();
    enum status status = passkey_queue_check(&settings, 1);
    if (status == STATUS_OK) {
        status = passkey_queue_open(&settings, "\"style\":\"paper\",\"digits\":5", &queue);
    }
    if (status == STATUS_OK) status = serve(queue, strtoll(arguments[6], NULL, 10));
    const enum status closed =
        passkey_queue_close(queue, status == STATUS_OK || status == STATUS_STOPPED);
    return status_exit_code(status != STATUS_OK ? status : closed);
}
