// The JSON reader: what it takes, what it refuses and where, exact numbers, escapes both ways.

#include "ops/base/json.h"

#include "ops/base/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

// The whole text as one value, from memory without a byte to spare.
static bool reads(const char *text, size_t bytes) {
    char *exact = malloc(bytes > 0 ? bytes : 1);
    struct json json;
    assert_non_null(exact);
    memcpy(exact, text, bytes);
    json_open(&json, exact, bytes);
    const bool good = json_skip(&json) && json_end(&json);
    assert_true(good == (json.wrong == NULL));
    assert_true(json.wrong_at <= bytes && json.at <= bytes);
    free(exact);
    return good;
}

static void takes_what_the_grammar_has(void **state) {
    (void)state;
    static const char *const good[] = {
        "null",
        "true",
        " false ",
        "0",
        "-0",
        "12.5e-3",
        "1E+2",
        "\"\"",
        "\"a\\u00e9\\n\\\\\"",
        "[]",
        "{}",
        " [ 1 , 2 ] ",
        "{\"a\":{\"b\":[{},[],\"\"]}}",
        "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"",
        "\"\x7F\"",
        "[1,\t2,\r\n3]",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "123456789012345678901234567890",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!reads(good[i], strlen(good[i]))) fail_msg("refused: %s", good[i]);
    }
}

static void refuses_the_rest(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "nul",
        "truefalse",
        "01",
        "-",
        "-01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "+1",
        "0x10",
        "1 2",
        "NaN",
        "Infinity",
        "-Infinity",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[",
        "]",
        "[1",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:2}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "[1}",
        "{\"a\":1]",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"a\nb\"",
        "\"\t\"",
        "'a'",
        "nan",
        "\"\x80\"",
        "\"\xC0\x80\"",
        "\"\xE0\x80\x80\"",
        "\"\xED\xA0\x80\"",
        "\"\xF4\x90\x80\x80\"",
        "\"\xF5\x80\x80\x80\"",
        "\"\xE2\x82\"",
        "\"abcdefgh\x01\"",
        "[1]]",
        "\xEF\xBB\xBF[]",
        "// a\n1",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (reads(bad[i], strlen(bad[i]))) fail_msg("taken: %s", bad[i]);
    }
    assert_false(reads("\"a\0b\"", 5));
    assert_false(reads("\"\\\0\"", 4));
    assert_false(reads("1\0", 2));
}

static void every_prefix_is_refused(void **state) {
    (void)state;
    const char text[] = "{\"key\":[1,-2.5e7,\"s\\u00e9\xC3\xA9\",true,null,{\"x\":[]}]}";
    for (size_t bytes = 0; bytes < sizeof text - 1; bytes++) {
        if (reads(text, bytes)) fail_msg("taken: the first %zu bytes", bytes);
    }
    assert_true(reads(text, sizeof text - 1));
}

static void depth_has_a_limit(void **state) {
    (void)state;
    char text[2 * (JSON_DEPTH_MOST + 1)];
    for (size_t depth = JSON_DEPTH_MOST; depth <= JSON_DEPTH_MOST + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_true(reads(text, 2 * depth) == (depth == JSON_DEPTH_MOST));
    }
}

static bool one_int(const char *text, int64_t *value) {
    struct json json;
    json_open(&json, text, strlen(text));
    return json_int(&json, value) && json_end(&json);
}

static void integers_are_exact(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {
        {"0",                    0                 },
        {"-0",                   0                 },
        {"7",                    7                 },
        {" 50287 ",              50287             },
        {"12345678901234567",    12345678901234567 },
        {"123456789012345678",   123456789012345678},
        {"999999999999999999",   999999999999999999},
        {"9223372036854775807",  INT64_MAX         },
        {"-9223372036854775808", INT64_MIN         },
        {"9007199254740993",     9007199254740993  },
    };
    static const char *const bad[] = {
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "1.0",
        "1e3",
        "1E3",
        "00",
        "007",
        "123456789012345678.5",
        "\"1\"",
        "true",
        "NaN",
        "",
        "-",
        "1a",
        "99999999999999999999999",
    };
    int64_t value = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(one_int(good[i].text, &value));
        assert_true(value == good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (one_int(bad[i], &value)) fail_msg("taken as an integer: %s", bad[i]);
    }
}

static void numbers_round_as_strtod_does(void **state) {
    (void)state;
    static const char *const good[] = {
        "0",
        "-0.0",
        "1e-05",
        "3.0",
        "0.1",
        "2.2250738585072014e-308",
        "4.9e-324",
        "1e-400",
        "1e308",
        "1.7976931348623157e308",
        "9007199254740993",
        "123456.789e-3",
        "0.000001e6",
        "8.5e+0",
        "-12345678901234567890.125e-10",
    };
    struct json json;
    double value = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        json_open(&json, good[i], strlen(good[i]));
        assert_true(json_number(&json, &value) && json_end(&json));
        const double expected = strtod(good[i], NULL);
        assert_memory_equal(&value, &expected, sizeof value);
    }
    const char infinities[] = "[NaN, Infinity, -Infinity]";
    json_open(&json, infinities, sizeof infinities - 1);
    assert_true(json_array(&json) && json_item(&json) && json_number(&json, &value));
    assert_true(isnan(value));
    assert_true(json_item(&json) && json_number(&json, &value) && value == HUGE_VAL);
    assert_true(json_item(&json) && json_number(&json, &value) && value == -HUGE_VAL);
    assert_true(!json_item(&json) && json_end(&json));
    json_open(&json, infinities, sizeof infinities - 1);
    json.infinities = true;
    assert_true(json_skip(&json) && json_end(&json));
    json_open(&json, "1e999", 5);
    assert_false(json_number(&json, &value));
    json_open(&json, "infinity", 8);
    assert_false(json_number(&json, &value));
}

static void items_come_in_order(void **state) {
    (void)state;
    const char text[] =
        "{\"tokens\":[3, 1,2],\"skip\":[{\"x\":\"]\"}],\"t\\u0065xt\":\"a\\tb\",\"on\":true,"
        "\"none\":null,\"raw\": {\"k\":[1, 2]} }";
    struct json json;
    const char *key, *raw;
    size_t bytes, raw_bytes;
    int64_t value, sum = 0;
    int keys = 0;
    bool on = false;
    char out[16];
    json_open(&json, text, sizeof text - 1);
    assert_true(json_peek(&json) == JSON_OBJECT && json_object(&json));
    while (json_key(&json, &key, &bytes)) {
        keys++;
        if (json_is(key, bytes, "tokens")) {
            assert_true(json_array(&json));
            while (json_item(&json)) {
                assert_true(json_int(&json, &value));
                sum = sum * 10 + value;
            }
        } else if (json_is(key, bytes, "text")) {
            assert_true(json_string(&json, &raw, &raw_bytes));
            assert_int_equal(json_unescape(raw, raw_bytes, out), 3);
            assert_memory_equal(out, "a\tb", 3);
        } else if (json_is(key, bytes, "on")) {
            assert_true(json_bool(&json, &on));
        } else if (json_is(key, bytes, "none")) {
            assert_true(json_peek(&json) == JSON_NULL && json_null(&json));
        } else if (json_is(key, bytes, "raw")) {
            assert_true(json_raw(&json, &raw, &raw_bytes));
            assert_int_equal(raw_bytes, 12);
            assert_memory_equal(raw, "{\"k\":[1, 2]}", 12);
        } else {
            assert_true(json_is(key, bytes, "skip") && json_skip(&json));
        }
    }
    assert_true(json_end(&json));
    assert_int_equal(keys, 6);
    assert_int_equal(sum, 312);
    assert_true(on);
}

static void the_first_error_stays(void **state) {
    (void)state;
    struct json json;
    int64_t value = 42;
    bool truth;
    const char *raw;
    size_t bytes;
    json_open(&json, "[1,\"x\",2]", 9);
    assert_true(json_array(&json) && json_item(&json) && json_int(&json, &value));
    assert_true(json_item(&json));
    assert_false(json_int(&json, &value));
    assert_int_equal(value, 1);
    const char *wrong = json.wrong;
    assert_non_null(wrong);
    assert_int_equal(json.wrong_at, 3);
    assert_false(json_item(&json) || json_key(&json, &raw, &bytes) || json_skip(&json) ||
                 json_bool(&json, &truth) || json_string(&json, &raw, &bytes) || json_null(&json) ||
                 json_raw(&json, &raw, &bytes) || json_object(&json) || json_array(&json) ||
                 json_end(&json));
    assert_true(json_peek(&json) == JSON_BAD && json.wrong == wrong && json.wrong_at == 3);
    assert_false(json_is("a", 1, "ab") || json_is("ab", 2, "a") || json_is("\\u0061x", 7, "a"));
    assert_true(json_is("\\u0061", 6, "a") && json_is("", 0, ""));
}

static void escapes_go_both_ways(void **state) {
    (void)state;
    static const struct {
        const char *raw, *bytes;
    } undone[] = {
        {"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t"             },
        {"\\u00E9\\u20ac",             "\xC3\xA9\xE2\x82\xAC"        },
        {"\\ud83d\\ude00!",            "\xF0\x9F\x98\x80!"           },
        {"\\ud83dx",                   "\xEF\xBF\xBDx"               },
        {"\\ude00",                    "\xEF\xBF\xBD"                },
        {"\\ud83d\\ud83d\\ude00",      "\xEF\xBF\xBD\xF0\x9F\x98\x80"},
        {"\\ud83d\\n",                 "\xEF\xBF\xBD\n"              },
        {"plain",                      "plain"                       },
    };
    char out[64];
    for (size_t i = 0; i < sizeof undone / sizeof undone[0]; i++) {
        const size_t bytes = json_unescape(undone[i].raw, strlen(undone[i].raw), out);
        assert_int_equal(bytes, strlen(undone[i].bytes));
        assert_memory_equal(out, undone[i].bytes, bytes);
    }
    const char escaped[] = "\\\"\\\\\\n\\u0001\xC3\xA9\x7F/\xEF\xBF\xBD\xEF\xBF\xBD";
    const size_t bytes = json_escape("\"\\\n\x01\xC3\xA9\x7F/\xFF\xC3", 10, out);
    assert_int_equal(bytes, sizeof escaped - 1);
    assert_memory_equal(out, escaped, bytes);
    assert_int_equal(json_escape("\0", 1, out), 6);
    assert_memory_equal(out, "\\u0000", 6);
}

static void random_bytes_survive_a_round_trip(void **state) {
    (void)state;
    uint32_t seed = 1;
    for (int round = 0; round < 2000; round++) {
        char text[24], quoted[6 * sizeof text + 2], back[sizeof quoted];
        const size_t count = (size_t)(round % (int)sizeof text);
        for (size_t i = 0; i < count; i++) {
            seed = seed * 1664525 + 1013904223;
            text[i] = (char)((seed >> 24) % (round % 2 == 0 ? 128 : 256));
        }
        quoted[0] = '"';
        const size_t bytes = json_escape(text, count, quoted + 1);
        quoted[bytes + 1] = '"';
        assert_true(reads(quoted, bytes + 2));
        const size_t got = json_unescape(quoted + 1, bytes, back);
        if (utf8_valid(text, count)) {
            assert_int_equal(got, count);
            assert_memory_equal(back, text, count);
        }
        assert_true(utf8_valid(back, got));
    }
}

// Megabytes a second are printed with LONGSCAN_TIMES set; no test depends on them.
static void long_arrays_and_strings_are_read(void **state) {
    (void)state;
    const size_t bytes = (size_t)16 << 20;
    char *text = malloc(bytes + 16);
    struct json json;
    int64_t value, count = 0, ids = 0;
    size_t at = 1;
    assert_non_null(text);
    text[0] = '[';
    for (; at < bytes; count++) {
        at += (size_t)snprintf(text + at, 16, "%d,", (int)(count * 7919 % 50288));
    }
    text[at - 1] = ']';
    const int64_t begin = clock_ns();
    json_open(&json, text, at);
    assert_true(json_array(&json));
    while (json_item(&json)) {
        if (!json_int(&json, &value) || value != ids * 7919 % 50288) break;
        ids++;
    }
    assert_true(json_end(&json));
    assert_true(ids == count);
    const int64_t between = clock_ns();
    memset(text, 'a', bytes);
    text[0] = text[bytes - 1] = '"';
    assert_true(reads(text, bytes));
    const int64_t end = clock_ns();
    if (getenv("LONGSCAN_TIMES") != NULL) {
        print_message("ids %.0f MB/s, a long string %.0f MB/s\n",
                      (double)at * 1e3 / (double)(between - begin),
                      (double)bytes * 1e3 / (double)(end - between));
    }
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_the_grammar_has),
        cmocka_unit_test(refuses_the_rest),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(integers_are_exact),
        cmocka_unit_test(numbers_round_as_strtod_does),
        cmocka_unit_test(items_come_in_order),
        cmocka_unit_test(the_first_error_stays),
        cmocka_unit_test(escapes_go_both_ways),
        cmocka_unit_test(random_bytes_survive_a_round_trip),
        cmocka_unit_test(long_arrays_and_strings_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
