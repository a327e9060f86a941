// The passkey task: which keys there are, what is found and described, what is right, what is refused.

#include "tests/passkey_case.h"

static double chi_square(const int64_t *count, int64_t bins, int64_t draws) {
    const double expected = (double)draws / (double)bins;
    double sum = 0.0;
    for (int64_t i = 0; i < bins; i++) {
        const double off = (double)count[i] - expected;
        sum += off * off / expected;
    }
    return sum;
}

// Over all keys, and over pairs of keys that follow one another, in hundreds: within five deviations.
static void keys_are_uniform(void **state) {
    static const char *const styles[] = {"paper", "niah"};
    struct tokenizer *tokenizer = bytes_tokenizer();
    (void)state;
    for (int style = 0; style < 2; style++) {
        struct settings settings = settings_of("1k");
        const int64_t bins = style == 0 ? 100000 : 90000, draws = 3000000;
        int64_t *all = calloc(100000, sizeof *all), *pairs = calloc(100 * 100, sizeof *pairs);
        int64_t before = 0;
        settings.samples = draws;
        settings.style = styles[style];
        settings.digits = 5;
        if (all == NULL || pairs == NULL) abort();
        struct passkey_task *task = open_task(&settings, tokenizer, -1);
        for (int64_t i = 0; i < draws; i++) {
            struct passkey_sample sample;
            passkey_task_sample(task, i, &sample);
            const int64_t key = strtoll(sample.key, NULL, 10) - (100000 - bins);
            assert_true(strlen(sample.key) == 5 && key >= 0);
            all[key]++;
            pairs[before % 100 * 100 + key % 100]++;
            before = key;
        }
        const double one = chi_square(all, bins, draws), two = chi_square(pairs, 10000, draws);
        assert_in_range((int64_t)one, bins - 5 * 447, bins + 5 * 447); // sqrt(2 * 100000)
        assert_in_range((int64_t)two, 10000 - 5 * 142, 10000 + 5 * 142);
        free(all);
        free(pairs);
        passkey_task_close(task);
    }
    tokenizer->close(tokenizer);
}

static void samples_are_found_by_name(void **state) {
    static const char *const none[] = {"",
                                       "x",
                                       "1024",
                                       "1024-d0.05-1",
                                       "1000-d0-0",
                                       "-",
                                       "1024-d0.05-0x",
                                       "1024-d0.05-10",
                                       "1024-d0.05--1",
                                       "1k-d0.05-0",
                                       "1024-d0.05-99999999999999999999"};
    struct settings settings = settings_of("1k,3k");
    struct tokenizer *tokenizer = bytes_tokenizer();
    struct passkey_sample sample, found;
    (void)state;
    struct passkey_task *task = open_task(&settings, tokenizer, -1);
    for (int64_t i = 0; i < passkey_task_count(task); i++) {
        passkey_task_sample(task, i, &sample);
        assert_int_equal(passkey_task_find(task, sample.id, &found), STATUS_OK);
        assert_memory_equal(&found, &sample, sizeof sample);
    }
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_int_equal(passkey_task_find(task, none[i], &found), STATUS_USAGE);
    }
    passkey_task_close(task);
    tokenizer->close(tokenizer);
}

static enum status describe(const struct passkey_task *task, struct passkey_wish wish,
                            struct passkey_sample *sample) {
    const char *wrong = NULL;
    return passkey_task_describe(task, &wish, sample, &wrong);
}

static void samples_are_described(void **state) {
    struct settings settings = settings_of("no length");
    struct tokenizer *tokenizer = bytes_tokenizer();
    struct passkey_sample sample, again;
    const char *wrong = NULL;
    char long_id[PASSKEY_ID_MOST + 1];
    (void)state;
    memset(long_id, 'x', sizeof long_id - 1);
    long_id[sizeof long_id - 1] = '\0';
    settings.input = "kafka:tasks";
    struct passkey_task *task = open_task(&settings, tokenizer, -1);
    assert_int_equal(passkey_task_count(task), 0);
    assert_int_equal(passkey_task_find(task, "1024-d0-0", &sample), STATUS_USAGE);
    assert_int_equal(describe(task, (struct passkey_wish){"a/b", 1024, 1.0, "00042", 1}, &sample),
                     0);
    assert_string_equal(sample.key, "00042");
    assert_int_equal(sample.units, 9); // as of 1k in golden.txt
    assert_int_equal(sample.position, 8);
    assert_int_equal(describe(task, (struct passkey_wish){"a", 5000, 0.5, NULL, 1}, &sample), 0);
    assert_int_equal(describe(task, (struct passkey_wish){"a", 5000, 0.5, NULL, 1}, &again), 0);
    assert_string_equal(sample.key, again.key);
    assert_int_equal(describe(task, (struct passkey_wish){"a", 5000, 0.5, NULL, 2}, &again), 0);
    assert_string_not_equal(sample.key, again.key);
    const struct passkey_wish bad[] = {
        {"",      1024,      0.5,       NULL,     1},
        {long_id, 1024,      0.5,       NULL,     1},
        {"a",     0,         0.5,       NULL,     1},
        {"a",     -5,        0.5,       NULL,     1},
        {"a",     INT64_MAX, 0.5,       NULL,     1},
        {"a",     200,       0.5,       NULL,     1},
        {"a",     1024,      -0.1,      NULL,     1},
        {"a",     1024,      1.5,       NULL,     1},
        {"a",     1024,      0.0 / 0.0, NULL,     1},
        {"a",     1024,      0.5,       "1234",   1},
        {"a",     1024,      0.5,       "123456", 1},
        {"a",     1024,      0.5,       "12a45",  1},
        {"a",     1024,      0.5,
         "\xff\xfe"
         "123",                                   1},
        {"a",     1024,      0.5,       "",       1}
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        wrong = NULL;
        assert_int_equal(passkey_task_describe(task, &bad[i], &sample, &wrong), STATUS_BAD_INPUT);
        assert_non_null(wrong);
    }
    passkey_task_close(task);
    tokenizer->close(tokenizer);
}

static void answers_are_judged_as_the_style_says(void **state) {
    static const struct {
        const char *style, *text;
        bool correct;
    } cases[] = {
        {"paper",         " 00042.",     true },
        {"paper",         " 1000421",    true },
        {"paper",         "0004",        false},
        {"paper",         "",            false},
        {"niah",          "it is 00042", true },
        {"infinitebench", " 00042.",     true },
        {"infinitebench", "00042",       true },
        {"infinitebench", " 000421",     false},
        {"infinitebench", " 1 00042",    false},
        {"infinitebench", " none",       false},
        {"infinitebench", " 42",         false},
    };
    struct tokenizer *tokenizer = bytes_tokenizer();
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct settings settings = settings_of("2k");
        struct passkey_sample sample = {.key = "00042"};
        settings.style = cases[i].style;
        struct passkey_task *task = open_task(&settings, tokenizer, -1);
        assert_int_equal(passkey_task_correct(task, &sample, cases[i].text, strlen(cases[i].text)),
                         cases[i].correct);
        assert_int_equal(passkey_task_stops(task), strcmp(cases[i].style, "infinitebench") != 0);
        assert_int_equal(passkey_task_new_tokens(task),
                         strcmp(cases[i].style, "niah") == 0 ? 128 : 6);
        passkey_task_close(task);
    }
    tokenizer->close(tokenizer);
}

static void expect_refused(struct settings settings, struct tokenizer *tokenizer, enum status why) {
    struct passkey_task *task = NULL;
    if (passkey_task_open(&settings, tokenizer, -1, &task) == why) return;
    passkey_task_close(task);
    fail_msg("taken, or refused for another reason: --lengths %s --depths %s --positions %s "
             "--filler %s",
             settings.lengths, settings.depths, settings.positions, settings.filler);
}

static void what_cannot_be_is_refused(void **state) {
    static const char *const lengths[] = {"",     "0",   "1k,,2k", "1k,", ",1k",    "1k,1024",
                                          "many", "-1k", "2048g",  "64",  "1k,100", "1k 2k"};
    static const char *const depths[] = {"",       "0",     "even:0",  "even:",        "evenly",
                                         "1.5",    "0,0.0", "0.5,nan", "even:2000000", "-1",
                                         "0.1,,1", "10 "};
    static const char *const positions[] = {"", "1k,1k", "x", "-1", "5000", "1k,"};
    struct tokenizer *tokenizer = bytes_tokenizer();
    struct settings settings;
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        expect_refused(settings_of(lengths[i]), tokenizer, STATUS_USAGE);
    }
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
        settings = settings_of("4k");
        settings.depths = depths[i];
        expect_refused(settings, tokenizer, STATUS_USAGE);
    }
    for (size_t i = 0; i < sizeof positions / sizeof positions[0]; i++) {
        settings = settings_of("4k,8k");
        settings.positions = positions[i];
        expect_refused(settings, tokenizer, STATUS_USAGE);
    }
    settings = settings_of("4k");
    settings.filler = TESTS_FOLDER "/passkey/there is none";
    expect_refused(settings, tokenizer, STATUS_USAGE);
    settings.filler = "/dev/null";
    expect_refused(settings, tokenizer, STATUS_USAGE);
    settings.filler = TESTS_FOLDER;
    expect_refused(settings, tokenizer, STATUS_IO);
    settings.filler = NULL;
    settings.add_prefix = 46; // 4140 tokens
    expect_refused(settings, tokenizer, STATUS_USAGE);
    settings.add_prefix = 0;
    settings.style = "other";
    expect_refused(settings, tokenizer, STATUS_USAGE);
    tokenizer->close(tokenizer);
}

// The least length that is taken holds a prompt with one unit of filler; one less is refused.
static void the_least_length_will_do(void **state) {
    static const struct {
        const char *style, *filler, *length, *less;
    } cases[] = {
        {"paper",         NULL,                               "310", "309"}, // 93 + 2 * 90 + 37
        {"infinitebench", NULL,                               "337", "336"},
        {"niah",          NULL,                               "575", "574"},
        {"paper",         TESTS_FOLDER "/passkey/filler.txt", "219", "218"}
    };
    struct tokenizer *tokenizer = bytes_tokenizer();
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct settings settings = settings_of(cases[i].less);
        struct passkey_sample sample;
        struct passkey_prompt prompt = {0};
        settings.style = cases[i].style;
        settings.filler = cases[i].filler;
        expect_refused(settings, tokenizer, STATUS_USAGE);
        settings.lengths = cases[i].length;
        struct passkey_task *task = open_task(&settings, tokenizer, -1);
        passkey_task_sample(task, 0, &sample);
        assert_int_equal(sample.units, 2);
        assert_int_equal(passkey_task_prompt(task, &sample, &prompt), STATUS_OK);
        assert_true(prompt.tokens <= sample.length);
        passkey_prompt_free(&prompt);
        passkey_task_close(task);
    }
    tokenizer->close(tokenizer);
}

static void equal_tasks_have_equal_json(void **state) {
    struct settings settings = settings_of("1k");
    struct tokenizer *tokenizer = bytes_tokenizer();
    struct bytes json = {0};
    (void)state;
    settings.depths = "even";
    settings.filler = TESTS_FOLDER "/passkey/filler.txt";
    struct passkey_task *task = open_task(&settings, tokenizer, 3);
    assert_int_equal(passkey_task_json(task, &json), STATUS_OK);
    assert_int_equal(bytes_put(&json, "", 1), STATUS_OK);
    assert_non_null(strstr(json.data, "\"style\":\"paper\",\"digits\":5,\"seed\":1,\"depths\":"
                                      "\"even:10\",\"bos\":3,\"add_prefix\":0,\"filler\":\"xxh3:"));
    bytes_free(&json);
    passkey_task_close(task);
    tokenizer->close(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_uniform),
        cmocka_unit_test(samples_are_found_by_name),
        cmocka_unit_test(samples_are_described),
        cmocka_unit_test(answers_are_judged_as_the_style_says),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(the_least_length_will_do),
        cmocka_unit_test(equal_tasks_have_equal_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
