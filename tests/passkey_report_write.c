// Reads lines of results.jsonl from standard input, sorted, and writes their report: FOLDER
// [trained-on [model-name]]. Prints the table, with colours where PASSKEY_COLOURS is set.

#include "src/passkey_result.h"

#include <stdio.h>
#include <stdlib.h>

struct results {
    struct passkey_result *data;
    size_t room;
    int64_t count;
};

static enum status add(struct results *results, const struct passkey_result *result) {
    void *data = results->data;
    TRY(room_for(&data, &results->room, (size_t)results->count + 1, sizeof *result));
    results->data = data;
    results->data[results->count++] = *result;
    return STATUS_OK;
}

static enum status read_all(struct results *results) {
    char *line = NULL;
    size_t room = 0;
    ssize_t bytes = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (bytes = getline(&line, &room, stdin)) > 0) {
        struct passkey_result result;
        struct passkey_run run;
        const char *wrong = NULL;
        status = passkey_result_read(line, (size_t)bytes, &result, &run, &wrong);
        if (status != STATUS_OK) fprintf(stderr, "%s: %s", wrong, line);
        if (status == STATUS_OK) status = add(results, &result);
    }
    free(line);
    return status;
}

static enum status write_all(const struct passkey_report *report, const char *folder) {
    int64_t length = 0;
    TRY(passkey_report_write(report, folder));
    TRY(passkey_report_lm_eval(report, folder));
    TRY(passkey_report_table(report, getenv("PASSKEY_COLOURS") != NULL, stdout));
    const double lowest = passkey_report_lowest(report, &length);
    printf("lowest %.17g of %lld\n", lowest, (long long)length);
    return STATUS_OK;
}

int main(int argc, char **argv) {
    struct results results = {0};
    const struct passkey_facts facts = {
        .filler_option = "a <file> & 'more'.txt",
        .model_name = argc > 3 ? argv[3] : "models/passkey-1.8m",
        .model_option = argc > 3 ? argv[3] : "models/passkey-1.8m",
        .tokenizer = "byte",
        .dtype = "f32",
        .backend = "cpu",
        .task = "\"style\":\"paper\",\"digits\":5,\"seed\":1,\"filler\":\"xxh3:0123456789abcdef\"",
        .model = 0x0123456789abcdef,
        .settings = 1,
        .numerics = 2,
        .trained_on = argc > 2 ? strtoll(argv[2], NULL, 10) : 0,
        .parameters = 1834567,
        .tokens_run = 5000000,
        .tokens_plain = 12000000,
        .seconds = 123.5,
        .tokens_per_second = 40485.8,
        .ranks = 2,
        .groups = 1,
        .branched = true,
    };
    enum status status = argc < 2 ? STATUS_USAGE : read_all(&results);
    if (status == STATUS_OK) {
        const struct passkey_report report = {&facts, results.data, results.count};
        status = write_all(&report, argv[1]);
    }
    free(results.data);
    return status_exit_code(status);
}
