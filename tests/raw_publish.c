// Sends messages to a topic byte for byte, so that tests can send what `longscan publish` never
// would. Arguments: brokers, topic, properties of librdkafka. Standard input: a message a line, its
// key, a space and its value in hexadecimal digits.

#include "pipeline/kafka_producer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// In place: the bytes that the digits at `text` stand for. Their count, or -1.
static ptrdiff_t unhex(char *text) {
    ptrdiff_t bytes = 0;
    for (const char *at = text; *at != '\0' && *at != '\n'; at += 2) {
        const int high = digit(at[0]);
        const int low = high < 0 ? -1 : digit(at[1]);
        if (low < 0) return -1;
        text[bytes++] = (char)(high * 16 + low);
    }
    return bytes;
}

static enum status send_line(struct kafka_producer *producer, const char *key, char *rest) {
    if (rest == NULL) return FAIL(USAGE, "expected: KEY HEX");
    *rest++ = '\0';
    const ptrdiff_t bytes = unhex(rest);
    if (bytes < 0) return FAIL(USAGE, "the value of %s is not hexadecimal", key);
    const struct kafka_outgoing message = {.key = key,
                                           .key_bytes = strlen(key),
                                           .value = rest,
                                           .value_bytes = (size_t)bytes,
                                           .type = KAFKA_UNKNOWN,
                                           .source_time_ms = -1,
                                           .ends_unit = true};
    return kafka_producer_send(producer, &message);
}

int main(int count, char **arguments) {
    enum status status = STATUS_OK;
    struct kafka_producer *producer = NULL;
    char *line = NULL;
    size_t room = 0;
    if (count < 3) {
        fputs("usage: raw_publish BROKERS TOPIC [KEY=VALUE ...] <MESSAGES\n", stderr);
        return status_exit_code(STATUS_USAGE);
    }
    const struct kafka_settings settings = {.brokers = arguments[1],
                                            .topic = arguments[2],
                                            .property = (const char *const *)arguments + 3,
                                            .property_count = count - 3,
                                            .timeout_ms = 20000};
    TRY_OUT(status, kafka_producer_open(&settings, &producer));
    while (getline(&line, &room, stdin) > 0) {
        TRY_OUT(status, send_line(producer, line, strchr(line, ' ')));
    }
    status = kafka_producer_flush(producer);
out:
    kafka_producer_close(producer);
    free(line);
    return status_exit_code(status);
}
