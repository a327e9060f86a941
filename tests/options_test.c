// Options: what wins over what, what is in range, and what a wrong one is told.

#include "src/options.h"

#include "ops/base/status.h"
#include "src/option_value.h"
#include "src/options_inner.h"
#include "tests/temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct options *open_all(const char *verb, const char *const *texts, enum status expected) {
    char *arguments[300] = {NULL};
    int count = 0;
    struct options *options = NULL;
    while (texts[count] != NULL) {
        count++;
    }
    assert_true(count < 300);
    memcpy(arguments, texts, (size_t)count * sizeof arguments[0]); // the parser does not write
    assert_int_equal(options_open(verb, count, arguments, &options), expected);
    return options;
}

#define OPEN(verb, ...) open_all(verb, (const char *const[]){__VA_ARGS__, NULL}, STATUS_OK)
#define REFUSED(verb, ...) \
    assert_null(open_all(verb, (const char *const[]){__VA_ARGS__, NULL}, STATUS_USAGE))

static void the_table_is_sound(void **state) {
    int count = 0;
    (void)state;
    const struct option *rows = option_rows(&count);
    assert_true(count > 40 && count <= OPTION_ROWS_MOST);
    for (int i = 0; i < count; i++) {
        assert_non_null(rows[i].help);
        assert_true(rows[i].verbs != 0 && (rows[i].needed & ~rows[i].verbs) == 0);
        assert_true(!option_takes_value(&rows[i]) || option_value_text(&rows[i]) != NULL);
        assert_ptr_equal(option_by_name(rows[i].name, strlen(rows[i].name)), &rows[i]);
        if (rows[i].letter != 0) assert_ptr_equal(option_by_letter(rows[i].letter), &rows[i]);
        const bool number = rows[i].kind == OPTION_INTEGER || rows[i].kind == OPTION_SIZE ||
                            rows[i].kind == OPTION_DURATION;
        assert_true(!number || rows[i].least <= rows[i].most);
        assert_true(!number || rows[i].most > 0);
    }
}

static void defaults_are_those_of_the_table(void **state) {
    (void)state;
    struct options *options = OPEN("score", "--model=m");
    const struct settings *settings = options_settings(options);
    assert_string_equal(settings->model, "m");
    assert_string_equal(settings->output, "-");
    assert_string_equal(settings->until, "end");
    assert_null(settings->input);
    assert_int_equal(settings->max_line, 64 << 20);
    assert_int_equal(settings->host_slots_bytes, 1 << 30);
    assert_int_equal(settings->idle_ms, 0);
    assert_int_equal(settings->commit_interval_ms, 5000);
    assert_int_equal(settings->peer_timeout_ms, 30000);
    assert_int_equal(settings->broker_timeout_ms, 60000);
    assert_true(settings->max_bad == 0.01);
    assert_int_equal(settings->ranks, 1);
    assert_false(settings->bos);
    options_close(options);
}

static void flag_wins_over_environment_over_file_over_default(void **state) {
    struct temp_folder folder;
    (void)state;
    temp_folder_make(&folder);
    temp_text(&folder, "a.conf", "threads = 5\nslots = 6\njob = file\nlimit = 7\n");
    setenv("LONGSCAN_THREADS", "3", 1);
    setenv("LONGSCAN_SLOTS", "4", 1);
    setenv("LONGSCAN_STEP_TOKENS", "8k", 1);
    struct options *options = OPEN("score", "--threads", "2", "--config", folder.name);
    const struct settings *settings = options_settings(options);
    assert_int_equal(settings->threads, 2);        // command line
    assert_int_equal(settings->slots, 4);          // environment
    assert_int_equal(settings->step_tokens, 8192); // environment, nothing else
    assert_int_equal(settings->limit, 7);          // file
    assert_string_equal(settings->job, "file");
    assert_int_equal(settings->group_size, 0); // default
    options_close(options);
    unsetenv("LONGSCAN_THREADS");
    setenv("LONGSCAN_CONFIG", folder.name, 1);
    options = OPEN("score", "--model", "m");
    assert_int_equal(options_settings(options)->threads, 5);
    assert_int_equal(options_settings(options)->slots, 4);
    options_close(options);
    unsetenv("LONGSCAN_CONFIG");
    unsetenv("LONGSCAN_SLOTS");
    unsetenv("LONGSCAN_STEP_TOKENS");
    temp_folder_remove(&folder);
}

static void a_wrong_value_is_refused_wherever_it_stands(void **state) {
    struct temp_folder folder;
    (void)state;
    temp_folder_make(&folder);
    setenv("LONGSCAN_THREADS", "many", 1);
    REFUSED("score", "--model", "m");
    REFUSED("score", "--threads", "2");                     // also where it is overruled
    struct options *options = OPEN("read", "--topic", "t"); // no option of this verb
    options_close(options);
    setenv("LONGSCAN_THREADS", "", 1); // empty is unset
    options = OPEN("score", "--model", "m");
    assert_int_equal(options_settings(options)->threads, 0);
    options_close(options);
    unsetenv("LONGSCAN_THREADS");
    temp_text(&folder, "a.conf", "# nothing\nthreads = many\n");
    REFUSED("score", "--config", folder.name);
    REFUSED("read", "--config", folder.name); // a file is checked as a whole
    REFUSED("score", "--config", "/nonexistent/a.conf");
    temp_folder_remove(&folder);
}

struct number_case {
    const char *name, *text;
    int64_t number; // -1: refused
};

static void numbers_are_read_to_the_last_character(void **state) {
    static const struct number_case cases[] = {
        {"max-line",     "4k",                   4096     },
        {"max-line",     "64m",                  64 << 20 },
        {"max-line",     "1g",                   1 << 30  },
        {"max-line",     "4096",                 4096     },
        {"max-line",     "1000",                 -1       },
        {"max-line",     "4K",                   -1       },
        {"max-line",     "4 k",                  -1       },
        {"max-line",     "4kb",                  -1       },
        {"max-line",     "k",                    -1       },
        {"max-line",     " 4k",                  -1       },
        {"max-line",     "+4k",                  -1       },
        {"max-line",     "",                     -1       },
        {"max-line",     "0x1000",               -1       },
        {"max-line",     "99999999999999999999", -1       },
        {"max-line",     "9223372036854775807g", -1       },
        {"max-line",     "-4k",                  -1       },
        {"step-tokens",  "0",                    0        },
        {"step-tokens",  "1023",                 -1       },
        {"step-tokens",  "1k",                   1024     },
        {"limit",        "9223372036854775807",  INT64_MAX},
        {"limit",        "9223372036854775808",  -1       },
        {"limit",        "1e3",                  -1       },
        {"limit",        "1k",                   -1       },
        {"limit",        "-1",                   -1       },
        {"limit",        "-0",                   0        },
        {"peer-timeout", "1500ms",               1500     },
        {"peer-timeout", "5s",                   5000     },
        {"peer-timeout", "2m",                   120000   },
        {"peer-timeout", "1h",                   3600000  },
        {"peer-timeout", "30",                   -1       },
        {"peer-timeout", "5sec",                 -1       },
        {"peer-timeout", "0",                    -1       },
        {"peer-timeout", "10ms",                 -1       },
        {"peer-timeout", "1.5s",                 -1       },
        {"peer-timeout", "1000h",                -1       },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char wrong[160] = "";
        struct option_value value = {0};
        const struct option *option = option_by_name(cases[i].name, strlen(cases[i].name));
        const bool taken = option_parse(option, cases[i].text, &value, wrong, sizeof wrong);
        if (taken != (cases[i].number >= 0)) fail_msg("%s \"%s\"", cases[i].name, cases[i].text);
        if (taken) assert_int_equal(value.integer, cases[i].number);
        if (!taken) assert_true(strlen(wrong) > 5);
    }
}

static void what_is_printed_is_read_back(void **state) {
    static const int64_t numbers[] = {0, 1, 999, 1000, 1024, 4097, 60000, 90000, 3600000, 1 << 30};
    static const char *const names[] = {"limit", "host-slots-bytes", "commit-interval"};
    (void)state;
    for (size_t n = 0; n < 3; n++) {
        const struct option *option = option_by_name(names[n], strlen(names[n]));
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
            char text[32];
            char wrong[160];
            struct option_value value = {0};
            if (numbers[i] < option->least || numbers[i] > option->most) continue;
            option_print_number(option, numbers[i], text, sizeof text);
            assert_true(option_parse(option, text, &value, wrong, sizeof wrong));
            assert_int_equal(value.integer, numbers[i]);
        }
    }
}

static void shares_choices_and_ends(void **state) {
    (void)state;
    struct options *options = OPEN("score", "--max-bad", "2.5%", "--until", "idle:30s");
    assert_true(options_settings(options)->max_bad == 0.025);
    assert_string_equal(options_settings(options)->until, "idle:30s");
    options_close(options);
    options = OPEN("score", "--max-bad=0.5", "--follow", "--backend", "cpu");
    assert_true(options_settings(options)->max_bad == 0.5);
    assert_string_equal(options_settings(options)->until, "follow");
    options_close(options);
    REFUSED("score", "--max-bad", "101%");
    REFUSED("score", "--max-bad", "-1%");
    REFUSED("score", "--max-bad", "nan");
    REFUSED("score", "--max-bad", "1%%");
    REFUSED("score", "--until", "idle:");
    REFUSED("score", "--until", "idle:0s");
    REFUSED("score", "--until", "later");
    REFUSED("score", "--backend", "gpu");
    REFUSED("score", "--backend", "cpu|cuda");
    REFUSED("score", "--backend", "cp");
}

static void flags_are_switched_on_and_off(void **state) {
    (void)state;
    setenv("LONGSCAN_STRICT", "yes", 1);
    setenv("LONGSCAN_NO_CLOBBER", "1", 1);
    struct options *options = OPEN("score", "--bos", "--resume=off", "--no-strict", "-q");
    const struct settings *settings = options_settings(options);
    assert_true(settings->bos && settings->no_clobber && settings->quiet);
    assert_false(settings->strict || settings->resume);
    options_close(options);
    options = OPEN("score", "--clobber", "--no-progress");
    assert_false(options_settings(options)->no_clobber);
    assert_true(options_settings(options)->no_progress && options_settings(options)->strict);
    options_close(options);
    unsetenv("LONGSCAN_STRICT");
    unsetenv("LONGSCAN_NO_CLOBBER");
    REFUSED("score", "--no-bos=yes");
    REFUSED("score", "--no-model");
    REFUSED("score", "--bos=maybe");
}

static void unknown_options_are_refused(void **state) {
    (void)state;
    REFUSED("score", "--modle", "m");
    REFUSED("score", "-Z");
    REFUSED("score", "stray");
    REFUSED("score", "--", "stray");
    REFUSED("score", "--model"); // its value is missing
    REFUSED("score", "--model", "--input", "x");
    REFUSED("score", "--model", "");
    REFUSED("score", "--partitions", "3"); // another verb's
    REFUSED("nosuchverb", "--model", "m");
    assert_string_equal(option_nearest("modle", 5, VERB_SCORE), "model");
    assert_string_equal(option_nearest("bootstrap-servers", 17, VERB_READ), "brokers");
    assert_null(option_nearest("xyzzyxyzzy", 10, VERB_SCORE));
}

static void properties_add_up_with_the_strongest_last(void **state) {
    struct temp_folder folder;
    (void)state;
    temp_folder_make(&folder);
    temp_text(&folder, "a.conf", "property = a=file\nproperty = \"b=file # no comment\" # one\n");
    setenv("LONGSCAN_PROPERTY", "c=1,2\n\nd=env", 1);
    struct options *options = OPEN("read", "-X", "e=1", "-Xf=2", "-C", folder.name);
    const struct settings *settings = options_settings(options);
    const char *const expected[] = {"a=file", "b=file # no comment", "c=1,2", "d=env", "e=1",
                                    "f=2"};
    assert_int_equal(settings->property_count, 6);
    for (int i = 0; i < 6; i++) {
        assert_string_equal(settings->property[i], expected[i]);
    }
    options_close(options);
    unsetenv("LONGSCAN_PROPERTY");
    REFUSED("read", "-X", "novalue");
    REFUSED("read", "-X", "=novalue");
    const char *many[2 * PROPERTIES_MOST + 3];
    for (size_t i = 0; i <= PROPERTIES_MOST; i++) {
        many[2 * i] = "-X";
        many[2 * i + 1] = "a=b";
    }
    many[2 * PROPERTIES_MOST + 2] = NULL;
    assert_null(open_all("read", many, STATUS_USAGE));
    temp_folder_remove(&folder);
}

static void run_passes_on_what_follows_the_verb(void **state) {
    (void)state;
    struct options *options =
        OPEN("run", "-n", "4", "-q", "score", "--model", "m", "--nonsense", "-n", "9", "--", "x");
    const struct settings *settings = options_settings(options);
    assert_int_equal(settings->run_ranks, 4);
    assert_true(settings->quiet);
    assert_int_equal(settings->argument_count, 8);
    assert_string_equal(settings->arguments[0], "score");
    assert_string_equal(settings->arguments[3], "--nonsense");
    assert_string_equal(settings->arguments[7], "x");
    assert_int_equal(options_check(options), STATUS_OK);
    options_close(options);
    REFUSED("run", "-n", "0", "score");
    REFUSED("run", "--model", "m", "score");
}

static void files_are_read_as_documented(void **state) {
    static const struct {
        const char *text, *job; // NULL: refused
    } cases[] = {
        {"job = a",                            "a"       },
        {"job=a",                              "a"       },
        {"  job\t=\ta  \r\n",                  "a"       },
        {"job = a b # c",                      "a b"     },
        {"job = a#b",                          "a#b"     },
        {"job = \"a # b\"",                    "a # b"   },
        {"job = 'a\\b'",                       "a\\b"    },
        {"job = \"a\\\\\\\"b\"  # c",          "a\\\"b"  },
        {"\xef\xbb\xbfjob = a",                "a"       },
        {"log_level = warn\njob = a\n\n# x\n", "a"       },
        {"",                                   "longscan"},
        {"\n\n",                               "longscan"},
        {"job",                                NULL      },
        {"job =",                              NULL      },
        {"job = ",                             NULL      },
        {"= a",                                NULL      },
        {"job = \"a",                          NULL      },
        {"job = \"a\" b",                      NULL      },
        {"job = \"\\n\"",                      NULL      },
        {"job = a\njob = b",                   NULL      },
        {"jbo = a",                            NULL      },
        {"[job]",                              NULL      },
        {"--job = a",                          NULL      },
        {"config = x",                         NULL      },
        {"help = yes",                         NULL      },
        {"job = \xff\xfe",                     NULL      },
        {"until",                              NULL      },
        {"job = ''",                           NULL      },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct options *options = NULL;
        assert_int_equal(options_make("score", &options), STATUS_OK);
        const enum status status =
            options_read_text(options, "test.conf", cases[i].text, strlen(cases[i].text));
        if ((status == STATUS_OK) != (cases[i].job != NULL)) fail_msg("%s", cases[i].text);
        if (status == STATUS_OK) {
            assert_string_equal(options_settings(options)->job, cases[i].job);
        } else {
            assert_int_equal(status, STATUS_USAGE);
        }
        options_close(options);
    }
}

// What --show-config prints is a file that gives the same settings again; secrets excepted.
static void what_is_shown_can_be_read_again(void **state) {
    struct temp_folder folder;
    char shown[16384];
    char again[16384];
    (void)state;
    temp_folder_make(&folder);
    struct options *first = OPEN("score", "--model", "a \"b\\ #c", "--step-tokens", "3k",
                                 "--max-bad", "0.3%", "--commit-interval", "90s", "--bos", "-X",
                                 "sasl.password=hunter2", "-X", "linger.ms=5");
    FILE *out = fmemopen(shown, sizeof shown, "w");
    options_show(first, out);
    fclose(out);
    options_close(first);
    assert_null(strstr(shown, "hunter2"));
    assert_non_null(strstr(shown, "step-tokens = 3k  # command line"));
    assert_non_null(strstr(shown, "peer-timeout = 30s  # default"));
    temp_text(&folder, "again.conf", shown);
    struct options *second = OPEN("score", "--config", folder.name);
    const struct settings *settings = options_settings(second);
    assert_string_equal(settings->model, "a \"b\\ #c");
    assert_int_equal(settings->step_tokens, 3072);
    assert_int_equal(settings->commit_interval_ms, 90000);
    assert_true(settings->max_bad == 0.003 && settings->bos);
    out = fmemopen(again, sizeof again, "w");
    options_show(second, out);
    fclose(out);
    assert_non_null(strstr(again, ":"));
    assert_non_null(strstr(again, "again.conf:"));
    options_close(second);
    temp_folder_remove(&folder);
}

// However a secret is given.
static void secrets_are_not_shown(void **state) {
    static const char *const secrets[] = {"sasl.password",         "ssl.key.password",
                                          "ssl.keystore.password", "sasl.oauthbearer.client.secret",
                                          "SASL.Password",         "sasl.jaas.config",
                                          "ssl.key.pem",           "a.token"};
    struct temp_folder folder;
    char text[256], shown[16384], expected[128];
    (void)state;
    temp_folder_make(&folder);
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
        snprintf(text, sizeof text, "property = %s=from-file\n", secrets[i]);
        temp_text(&folder, "secret.conf", text);
        snprintf(text, sizeof text, "linger.ms=5\n%s=from-environment", secrets[i]);
        setenv("LONGSCAN_PROPERTY", text, 1);
        snprintf(text, sizeof text, "%s=from-arguments", secrets[i]);
        struct options *options = OPEN("score", "--config", folder.name, "-X", text);
        unsetenv("LONGSCAN_PROPERTY");
        FILE *out = fmemopen(shown, sizeof shown, "w");
        options_show(options, out);
        fclose(out);
        options_close(options);
        snprintf(expected, sizeof expected, "property = \"%s=***\"", secrets[i]);
        const char *at = shown;
        for (int origin = 0; origin < 3; origin++) {
            at = strstr(at, expected);
            assert_non_null(at);
            at++;
        }
        assert_non_null(strstr(shown, "property = \"linger.ms=5\""));
        assert_null(strstr(shown, "from-"));
    }
    temp_folder_remove(&folder);
}

static void what_a_verb_cannot_do_without_is_asked_for(void **state) {
    (void)state;
    static const struct {
        const char *verb, *arguments[8];
        enum status expected;
    } cases[] = {
        {"score",  {"--model", "m"},                                                 STATUS_USAGE},
        {"score",  {"--model", "m", "--input", "-"},                                 STATUS_OK   },
        {"score",  {"--model", "m", "--input", "kafka:t"},                           STATUS_USAGE},
        {"score",  {"--model", "m", "--input", "kafka:t", "--brokers", "h:1"},       STATUS_OK   },
        {"score",  {"--model", "m", "--input", "kafka:", "--brokers", "h:1"},        STATUS_USAGE},
        {"score",  {"--model=m", "--input=-", "--ranks", "4", "--group-size", "3"},  STATUS_USAGE},
        {"score",  {"--model=m", "--input=-", "--ranks", "4", "--group-size", "2"},  STATUS_OK   },
        {"score",  {"--model=m", "--input=-", "--ranks", "2", "--transport", "mpi"}, STATUS_USAGE},
        {"read",   {"--topic", "t"},                                                 STATUS_USAGE},
        {"read",   {"--topic", "t", "--brokers", "h:1"},                             STATUS_OK   },
        {"broker", {"--partitions", "2"},                                            STATUS_OK   },
        {"run",    {"-n", "2"},                                                      STATUS_USAGE},
        {"run",    {"score"},                                                        STATUS_USAGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct options *options = open_all(cases[i].verb, cases[i].arguments, STATUS_OK);
        if (options_check(options) != cases[i].expected) fail_msg("case %zu", i);
        options_close(options);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(defaults_are_those_of_the_table),
        cmocka_unit_test(flag_wins_over_environment_over_file_over_default),
        cmocka_unit_test(a_wrong_value_is_refused_wherever_it_stands),
        cmocka_unit_test(numbers_are_read_to_the_last_character),
        cmocka_unit_test(what_is_printed_is_read_back),
        cmocka_unit_test(shares_choices_and_ends),
        cmocka_unit_test(flags_are_switched_on_and_off),
        cmocka_unit_test(unknown_options_are_refused),
        cmocka_unit_test(properties_add_up_with_the_strongest_last),
        cmocka_unit_test(run_passes_on_what_follows_the_verb),
        cmocka_unit_test(files_are_read_as_documented),
        cmocka_unit_test(what_is_shown_can_be_read_again),
        cmocka_unit_test(secrets_are_not_shown),
        cmocka_unit_test(what_a_verb_cannot_do_without_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
