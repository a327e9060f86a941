// verb `broker`: an in-memory Kafka broker in the foreground, for trying things out.

#include "src/kafka_options.h"

#ifdef LONGSCAN_WITH_KAFKA

#    include "pipeline/kafka_mock.h"
#    include "pipeline/output.h"

#    include <stdio.h>
#    include <string.h>
#    include <time.h>

#    define TOPIC_NAME_MOST 249 // bytes, as Kafka has it

// Creates the topics of a comma list.
static enum status create_topics(struct kafka_mock *mock, const char *names, int32_t partitions) {
    char name[TOPIC_NAME_MOST + 1];
    for (const char *at = names; at != NULL && *at != '\0';) {
        const size_t bytes = strcspn(at, ",");
        if (bytes == 0 || bytes > TOPIC_NAME_MOST) {
            return FAIL(USAGE, "--topic %s: a name has 1 to %d bytes", names, TOPIC_NAME_MOST);
        }
        memcpy(name, at, bytes);
        name[bytes] = '\0';
        TRY(kafka_mock_topic(mock, name, partitions));
        LOG(INFO, "topic %s with %d partitions", name, (int)partitions);
        at += bytes + (at[bytes] == ',');
    }
    return STATUS_OK;
}

// The file gets its name when the address is in it: who waits for it reads a whole one.
static enum status write_ready_file(const char *path, const char *address) {
    struct output *output = NULL;
    TRY(output_open(path, &output));
    const enum status status = bytes_put(&output->pending, address, strlen(address));
    if (status != STATUS_OK) {
        output_drop(output);
        return status;
    }
    return output_finish(output, true);
}

static enum status serve(const struct settings *settings, struct kafka_mock *mock) {
    const struct timespec moment = {.tv_nsec = 50 * 1000 * 1000};
    const char *address = kafka_mock_address(mock);
    TRY(create_topics(mock, settings->topic, (int32_t)settings->partitions));
    LOG(WARN, "this broker is for trying things out: it is not durable (everything is in memory), "
              "keeps 5 MiB a partition (older records are dropped), and its transactions protect "
              "nothing; topics not made with --topic get 4 partitions when first written to");
    if (printf("%s\n", address) < 0 || fflush(stdout) != 0) {
        return FAIL(IO, "cannot write the address to standard output");
    }
    if (settings->ready_file != NULL) TRY(write_ready_file(settings->ready_file, address));
    LOG(INFO, "serving on %s; end with Ctrl-C or SIGTERM", address);
    while (!stop_requested()) {
        nanosleep(&moment, NULL);
    }
    LOG(INFO, "stopped; what was kept is gone");
    return STATUS_OK;
}

enum status verb_broker(const struct settings *settings, int *exit_code) {
    struct kafka_mock *mock = NULL;
    (void)exit_code;
    TRY(kafka_mock_open(&mock));
    const enum status status = serve(settings, mock);
    kafka_mock_close(mock);
    return status;
}

#else

enum status verb_broker(const struct settings *settings, int *exit_code) {
    (void)settings;
    (void)exit_code;
    return FAIL(USAGE, "%s", KAFKA_OPTIONS_MISSING);
}

#endif
