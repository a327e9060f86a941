// What the user is told: the score table, the closing summary, and what ends of ranks mean.

#include "src/report.h"

#include "ops/base/json.h"
#include "src/launch.h"
#include "src/score_rank.h"
#include "src/summary.h"
#include "src/table_sink.h"
#include "tests/temp_folder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

// Lines of the table for these ids, 1000 tokens and 1 nat a token each.
static size_t print_table(const char *const *ids, size_t count, int64_t text_bytes, char *text,
                          size_t bytes) {
    FILE *out = fmemopen(text, bytes, "w");
    struct sink *sink = NULL;
    int64_t confirmed = 0;
    assert_non_null(out);
    assert_int_equal(table_sink_open(out, &sink), STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        const struct document_score score = {.id = ids[i],
                                             .id_bytes = strlen(ids[i]),
                                             .tokens = 1001,
                                             .scored = 1000,
                                             .nll = 1000.0,
                                             .text_bytes = text_bytes};
        assert_int_equal(sink->table->score(sink, &score), STATUS_OK);
    }
    assert_int_equal(sink->table->confirmed(sink, &confirmed), STATUS_OK);
    assert_int_equal(confirmed, count);
    assert_int_equal(sink->table->close(sink, true), STATUS_OK);
    fclose(out);
    return strlen(text);
}

static void a_table_has_a_head_rows_and_a_total(void **state) {
    static const char *const ids[] = {"first", "second"};
    char text[2048] = "";
    char expected[2048];
    (void)state;
    print_table(ids, 2, 1443, text, sizeof text);
    // 1 nat a token: e; 1000 nats in 1443 bytes: 0.99978 bits a byte
    snprintf(expected, sizeof expected,
             "%-32s       tokens    nll/token   perplexity  bits/byte\n"
             "%-32s         1001       1.0000      2.71828     0.9998\n"
             "%-32s         1001       1.0000      2.71828     0.9998\n"
             "%-32s         2002       1.0000      2.71828     0.9998\n",
             "id", "first", "second", "2 documents");
    assert_string_equal(text, expected);
    print_table(ids, 1, -1, text, sizeof text);
    assert_non_null(strstr(text, "2.71828          -\n1 document "));
}

static void ids_are_shortened_and_harmless(void **state) {
    static const char *const ids[] = {"a-very-long-id-of-more-than-thirty-two-characters",
                                      "\033[2J\x7f\n\xc2\x9b", "\xff\xfe", "\xc3\xa9\xe2\x82\xac"};
    char text[4096] = "";
    (void)state;
    print_table(ids, 4, -1, text, sizeof text);
    assert_non_null(strstr(text, "\na-very-long-id...-two-characters "));
    assert_non_null(strstr(text, "\n?[2J??? "));
    assert_non_null(strstr(text, "\n?? "));
    assert_non_null(strstr(text, "\n\xc3\xa9\xe2\x82\xac "));
    for (const char *at = text; *at != '\0'; at++) {
        assert_true((unsigned char)*at >= 0x20 || *at == '\n');
    }
    // All rows end in the same column: characters count, not bytes.
    const char *third = strstr(text, "\n\xc3\xa9") + 1;
    assert_int_equal(strcspn(third, "\n"), 32 + 3 + 3 * 13 + 11);
}

static bool summary_number(const char *text, const char *name, double *number) {
    struct json json;
    const char *key = NULL;
    size_t bytes = 0;
    json_open(&json, text, strlen(text));
    assert_true(json_object(&json));
    bool found = false;
    while (json_key(&json, &key, &bytes)) {
        if (json_is(key, bytes, name)) {
            found = json_number(&json, number);
        } else {
            assert_true(json_skip(&json));
        }
    }
    assert_true(json_end(&json));
    return found;
}

static void a_summary_is_one_json_object(void **state) {
    struct temp_folder folder;
    char text[4096] = "";
    double number = 0.0;
    (void)state;
    const struct score_totals totals = {
        .documents = {.documents = 3,
                      .tokens = 300,
                      .scored = 297,
                      .rows = 500,
                      .nll = 297.0,
                      .bad = {[BAD_GAP] = 2, [BAD_NLL] = 1}},
        .exit_code = 5
    };
    temp_folder_make(&folder);
    const char *path = temp_name(&folder, "summary.json");
    assert_int_equal(summary_write(path, &totals, 2.0), STATUS_OK);
    FILE *file = fopen(path, "r");
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_true(summary_number(text, "exit_code", &number) && number == 5.0);
    assert_true(summary_number(text, "bad", &number) && number == 3.0);
    assert_true(summary_number(text, "tokens_per_second", &number) && number == 250.0);
    assert_true(summary_number(text, "rows", &number) && number == 500.0);
    assert_true(summary_number(text, "perplexity", &number) && fabs(number - exp(1.0)) < 1e-15);
    assert_non_null(strstr(text, "\"gap\":2"));
    assert_int_equal(summary_write("/nonexistent/summary.json", &totals, 2.0), STATUS_IO);
    temp_folder_remove(&folder);
}

// What the job's end says on standard error.
static void closing_words(const struct score_totals *totals, char *text, size_t bytes) {
    const struct settings settings = {.quiet = true, .output = "-", .log_format = "text"};
    struct report *report = NULL;
    const int own = dup(STDERR_FILENO);
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    const enum status opened = report_open(&settings, "document", &report);
    const enum status closed = report_close(&report, totals);
    fflush(stderr);
    dup2(own, STDERR_FILENO);
    close(own);
    assert_int_equal(opened, STATUS_OK);
    assert_int_equal(closed, STATUS_OK);
    rewind(file);
    text[fread(text, 1, bytes - 1, file)] = '\0';
    fclose(file);
}

static void the_end_counts_what_the_progress_counted(void **state) {
    char text[4096];
    struct score_totals totals = {
        .documents = {.documents = 18, .tokens = 37600, .rows = 154000},
        .steps = 9,
        .ranks = 3,
        .leaders = 1,
        .exit_code = 143,
        .compute_ns = 2000000,
        .wait_ns = 700000,
        .run_ns = 1000000
    };
    (void)state;
    closing_words(&totals, text, sizeof text);
    assert_non_null(strstr(text, "stopped: 18 documents, 37.6k tokens (154k scored) in "));
    assert_null(strstr(text, "time:")); // of a millisecond
    totals.documents.rows = totals.documents.tokens;
    totals.run_ns = 1000000000;
    totals.compute_ns = 2000000000;
    totals.wait_ns = 700000000;
    closing_words(&totals, text, sizeof text);
    assert_non_null(strstr(text, "stopped: 18 documents, 37.6k tokens in "));
    assert_non_null(strstr(text, "time: ranks compute 67%, wait 23%;"));
}

static void numbers_are_short(void **state) {
    static const struct {
        double number;
        const char *text;
    } cases[] = {
        {0,       "0"    },
        {999,     "999"  },
        {9999,    "9999" },
        {10000,   "10.0k"},
        {123456,  "123k" },
        {1234567, "1.23M"},
        {999999,  "1000k"},
        {5e10,    "50.0G"}
    };
    char text[16];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_string_equal(short_number(cases[i].number, text, sizeof text), cases[i].text);
    }
}

#define EXITED(code)   ((code) << 8) // as wait() gives it
#define KILLED(signal) (signal)

static void the_ends_of_mpirun_have_one_meaning_each(void **state) {
    static const struct {
        int wait_status, exit_code;
    } cases[] = {
        {EXITED(0),                      0  },
        {EXITED(1),                      142},
        {EXITED(LAUNCH_CODE_UNEXPECTED), 1  },
        {EXITED(2),                      2  },
        {EXITED(3),                      3  },
        {EXITED(4),                      4  },
        {EXITED(5),                      5  },
        {EXITED(6),                      6  },
        {EXITED(7),                      1  },
        {EXITED(134),                    142},
        {EXITED(137),                    142},
        {EXITED(139),                    142},
        {EXITED(140),                    140},
        {EXITED(141),                    141},
        {EXITED(142),                    142},
        {EXITED(143),                    143},
        {EXITED(205),                    142},
        {EXITED(213),                    1  },
        {KILLED(9),                      142},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(launch_outcome(cases[i].wait_status, false, 0), cases[i].exit_code);
    }
    assert_int_equal(launch_outcome(EXITED(1), true, 0), 130);
    assert_int_equal(launch_outcome(9, false, 140), 140); // mpirun hung after a rank had failed
    assert_int_equal(launch_outcome(EXITED(130), false, 0),
                     130); // a rank that a second signal ended
}

static void ranks_believe_the_launcher(void **state) {
    (void)state;
    assert_int_equal(launch_exit_code(1), 1);
    setenv(LAUNCH_LAUNCHER, "run", 1);
    assert_int_equal(launch_exit_code(1), LAUNCH_CODE_UNEXPECTED);
    assert_int_equal(launch_exit_code(4), 4);
    unsetenv(LAUNCH_LAUNCHER);
    setenv(LAUNCH_TERMINAL, "0 1 132", 1);
    assert_false(launch_output_is_terminal());
    assert_true(launch_error_is_terminal());
    assert_int_equal(launch_columns(), 132);
    setenv(LAUNCH_TERMINAL, "1", 1);
    assert_true(launch_output_is_terminal());
    setenv(LAUNCH_TERMINAL, "x y 99999999999", 1);
    assert_true(launch_columns() > 0 && launch_columns() < 10000);
    unsetenv(LAUNCH_TERMINAL);
}

// A job of 1000 bytes and 2000 tokens, 100 tokens a second, all of it read in the first second.
static void progress_is_of_what_is_scored(void **state) {
    (void)state;
    struct progress_line line;
    char text[320];
    progress_line_start(&line, "document", 5000);
    for (int64_t second = 0; second <= 20; second++) {
        const int64_t rows = 100 * second;
        const struct documents_counts counts = {.documents = rows / 1000, .rows = rows};
        const struct source_progress progress = {
            .done = 1000, .total = 1000, .unit = "bytes", .lag = -1, .waiting = 2000 - rows};
        progress_line_tell(&line, 5000 + 1000 * second, &counts, &progress, text, sizeof text);
        if (second == 0) assert_string_equal(text, "0%, 0 documents, 0 tokens");
        if (second == 2) {
            assert_string_equal(text, "10%, 0 documents, 200 tokens, 100 tokens/s");
        }
        if (second == 10) {
            assert_string_equal(text, "50%, ETA 10s, 1 document, 1000 tokens, 100 tokens/s");
        }
        if (second == 19) {
            assert_string_equal(text, "95%, ETA 1s, 1 document, 1900 tokens, 100 tokens/s");
        }
    }
    assert_string_equal(text, "100%, 2 documents, 2000 tokens, 100 tokens/s");
}

static void progress_never_goes_back_nor_ends_early(void **state) {
    (void)state;
    struct progress_line line;
    char text[320];
    struct documents_counts counts = {.rows = 999999};
    struct source_progress progress = {.done = 1000, .total = 1000, .lag = 3, .waiting = 1};
    progress_line_start(&line, "document", 0);
    progress_line_tell(&line, 1000, &counts, &progress, text, sizeof text);
    assert_string_equal(text, "99%, 0 documents, 1000k tokens, 1000k tokens/s, lag 3");
    progress.waiting = 500000;
    counts.bad[BAD_GAP] = 1;
    counts.open = 2;
    progress_line_tell(&line, 2000, &counts, &progress, text, sizeof text);
    assert_string_equal(text,
                        "99%, 0 documents, 1000k tokens, 500k tokens/s, 1 bad, 2 open, lag 3");
    // a stream has no end to be a share of
    progress = (struct source_progress){.done = 10, .total = -1, .lag = 0};
    progress_line_tell(&line, 3000, &counts, &progress, text, sizeof text);
    assert_string_equal(text, "0 documents, 1000k tokens, 333k tokens/s, 1 bad, 2 open, lag 0");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_has_a_head_rows_and_a_total),
        cmocka_unit_test(ids_are_shortened_and_harmless),
        cmocka_unit_test(a_summary_is_one_json_object),
        cmocka_unit_test(the_end_counts_what_the_progress_counted),
        cmocka_unit_test(numbers_are_short),
        cmocka_unit_test(progress_is_of_what_is_scored),
        cmocka_unit_test(progress_never_goes_back_nor_ends_early),
        cmocka_unit_test(the_ends_of_mpirun_have_one_meaning_each),
        cmocka_unit_test(ranks_believe_the_launcher),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
