// What --input and --output of passkey may be, and all there is to it in a build without Kafka.

#include "src/kafka_options.h"
#include "src/passkey_queue.h"

#include <string.h>

bool passkey_queue_input(const struct settings *settings) {
    return kafka_options_topic(settings->input) != NULL;
}

bool passkey_queue_output(const struct settings *settings) {
    return kafka_options_topic(settings->output) != NULL;
}

bool passkey_queue_wanted(const struct settings *settings) {
    return passkey_queue_input(settings) || passkey_queue_output(settings);
}

static enum status check_letters(const struct settings *settings, int32_t groups) {
    const char *letters = settings->dead_letters;
    if (letters == NULL) return STATUS_OK;
    if (!passkey_queue_input(settings)) {
        return FAIL(USAGE, "--dead-letters %s: only an --input topic has messages of no use",
                    letters);
    }
    if ((settings->input != NULL && strcmp(letters, settings->input) == 0) ||
        strcmp(letters, settings->output) == 0) {
        return FAIL(USAGE, "%s is given twice: dead letters need a place of their own", letters);
    }
    if (groups > 1 && kafka_options_topic(letters) == NULL) {
        return FAIL(USAGE,
                    "%d groups cannot write one file; give --dead-letters kafka:TOPIC, or one "
                    "group (--group-size 0)",
                    groups);
    }
    return STATUS_OK;
}

enum status passkey_queue_check(const struct settings *settings, int32_t groups) {
    if (settings->input != NULL && !passkey_queue_input(settings)) {
        return FAIL(USAGE, "--input %s: passkey reads samples from kafka:TOPIC, or makes its own",
                    settings->input);
    }
    TRY(check_letters(settings, groups));
    if (!passkey_queue_wanted(settings)) return STATUS_OK;
#ifndef LONGSCAN_WITH_KAFKA
    return FAIL(USAGE, "%s", KAFKA_OPTIONS_MISSING);
#else
    if (settings->brokers == NULL) return FAIL(USAGE, "a topic needs --brokers HOST:PORT,...");
    if (settings->input != NULL && passkey_queue_input(settings) &&
        strcmp(settings->input, settings->output) == 0) {
        return FAIL(USAGE, "%s is given twice: input and output each need a topic of their own",
                    settings->input);
    }
    if (passkey_queue_output(settings) && settings->resume) {
        return FAIL(USAGE, "--resume is for a folder; a topic's results are not looked at");
    }
    return STATUS_OK;
#endif
}

#ifndef LONGSCAN_WITH_KAFKA

enum status passkey_queue_open(const struct settings *settings, const char *task,
                               struct passkey_queue **opened) {
    (void)settings;
    (void)task;
    (void)opened;
    return FAIL(USAGE, "%s", KAFKA_OPTIONS_MISSING);
}

// None was opened.
enum status passkey_queue_take(struct passkey_queue *queue, int64_t most, int32_t timeout_ms,
                               struct passkey_description *taken, int64_t *count) {
    (void)queue;
    (void)most;
    (void)timeout_ms;
    (void)taken;
    *count = 0;
    return STATUS_END;
}

enum status passkey_queue_result(struct passkey_queue *queue, const struct passkey_place *place,
                                 const char *id, const char *line, size_t bytes) {
    (void)queue;
    (void)place;
    (void)id;
    (void)line;
    (void)bytes;
    return STATUS_OK;
}

enum status passkey_queue_bad(struct passkey_queue *queue,
                              const struct passkey_description *description, const char *wrong) {
    (void)queue;
    (void)description;
    (void)wrong;
    return STATUS_OK;
}

enum status passkey_queue_commit(struct passkey_queue *queue) {
    (void)queue;
    return STATUS_OK;
}

void passkey_queue_counts(const struct passkey_queue *queue, struct passkey_queue_counts *counts) {
    (void)queue;
    *counts = (struct passkey_queue_counts){0};
}

enum status passkey_queue_close(struct passkey_queue *queue, bool complete) {
    (void)queue;
    (void)complete;
    return STATUS_OK;
}

#endif
