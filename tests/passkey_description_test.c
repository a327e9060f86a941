// Descriptions of samples as messages bring them: good ones, lines of results, and hostile ones.

#include "src/passkey_description.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TASK                                                                                      \
    "{\"style\":\"paper\",\"digits\":5,\"seed\":7,\"bos\":null,\"filler\":\"xxh3:00\",\"share\":" \
    "0.5}"

// Every text is read from a block of exactly its size, so that a sanitizer sees what reads beyond.
static bool read_bytes(const char *text, size_t bytes, struct passkey_description *description,
                       struct passkey_wrong *wrong) {
    char *copy = malloc(bytes + (bytes == 0));
    assert_non_null(copy);
    memcpy(copy, text, bytes);
    const bool good = passkey_description_read(copy, bytes, TASK, 7, description, wrong);
    free(copy);
    return good;
}

static void good(const char *text, struct passkey_description *description) {
    struct passkey_wrong wrong;
    memset(description, 0x55, sizeof *description);
    if (!read_bytes(text, strlen(text), description, &wrong)) {
        fail_msg("%s: %s", text, wrong.text);
    }
}

static void plain_ones(void **state) {
    struct passkey_description read;
    (void)state;
    good("{\"id\":\"a\",\"length\":4096,\"depth\":0.25,\"key\":\"12345\",\"seed\":3}", &read);
    assert_string_equal(read.id, "a");
    assert_int_equal(read.length, 4096);
    assert_true(read.depth >= 0.25 && read.depth <= 0.25);
    assert_string_equal(read.key, "12345");
    assert_int_equal(read.seed, 3);
    assert_int_equal(read.place.partition, 0x55555555); // left alone
    good(" { \"depth\" : 1 , \"length\" : 1 , \"\\u0069d\" : \"\\u00e9\\\"\" } ", &read);
    assert_string_equal(read.id, "\xC3\xA9\"");
    assert_string_equal(read.key, "");
    assert_int_equal(read.seed, 7); // the job's
    good("{\"id\":\"a\",\"length\":1,\"depth\":0,\"key\":null,\"seed\":null}", &read);
    assert_int_equal(read.seed, 7);
}

// As `longscan passkey` writes it, and with what a later version may add.
static void result_lines(void **state) {
    struct passkey_description read;
    (void)state;
    good("{\"id\":\"4096-0.25-17\",\"length\":4096,\"depth\":0.25,\"number\":17,\"position\":3,"
         "\"key\":\"90210\",\"prediction\":\"9\\ud83d\\ude00\",\"correct\":false,\"tokens\":4090,"
         "\"answer_nll\":1.5e-7,\"later\":{\"a\":[1,{}]},\"style\":\"paper\",\"digits\":5,\"seed\":"
         "7,"
         "\"bos\":null,\"filler\":\"xxh3:00\",\"share\":5e-1,\"model\":\"xxh3:0123456789abcdef\"}",
         &read);
    assert_string_equal(read.id, "4096-0.25-17");
    assert_string_equal(read.key, "90210");
}

static void hostile_ones(void **state) {
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"",                                                                 "not a JSON object" },
        {"[]",                                                               "not a JSON object" },
        {"\"id\"",                                                           "not a JSON object" },
        {"{",                                                                "ends"              },
        {"{}",                                                               "no id"             },
        {"{\"id\":\"a\",\"depth\":0}",                                       "no length"         },
        {"{\"id\":\"a\",\"length\":1}",                                      "no depth"          },
        {"{\"id\":\"a\",\"length\":1,\"depth\":0}x",                         "not JSON"          },
        {"{\"id\":\"a\",\"length\":1,\"depth\":0}{}",                        "not JSON"          },
        {"{\"id\":\"a\",\"length\":1,\"depth\":0,}",                         "not JSON"          },
        {"{\"id\":\"a\",\"id\":\"b\",\"length\":1,\"depth\":0}",             "id stands twice"   },
        {"{\"id\":\"a\",\"\\u0069d\":\"b\",\"length\":1,\"depth\":0}",       "id stands twice"   },
        {"{\"id\":\"\",\"length\":1,\"depth\":0}",                           "id has not"        },
        {"{\"id\":5,\"length\":1,\"depth\":0}",                              "id is no string"   },
        {"{\"id\":null,\"length\":1,\"depth\":0}",                           "id is no string"   },
        {"{\"id\":\"a\\u0000b\",\"length\":1,\"depth\":0}",                  "control character" },
        {"{\"id\":\"a\\n\",\"length\":1,\"depth\":0}",                       "control character" },
        {"{\"id\":\"\xff\",\"length\":1,\"depth\":0}",                       "id is no string"   },
        {"{\"id\":\"a\",\"length\":0,\"depth\":0}",                          "length is no"      },
        {"{\"id\":\"a\",\"length\":-1,\"depth\":0}",                         "length is no"      },
        {"{\"id\":\"a\",\"length\":1.5,\"depth\":0}",                        "length is no"      },
        {"{\"id\":\"a\",\"length\":\"4k\",\"depth\":0}",                     "length is no"      },
        {"{\"id\":\"a\",\"length\":9223372036854775808,\"depth\":0}",        "length is no"      },
        {"{\"id\":\"a\",\"length\":9223372036854775807,\"depth\":0}",        "length is no"      },
        {"{\"id\":\"a\",\"length\":1,\"depth\":1.0001}",                     "depth is no"       },
        {"{\"id\":\"a\",\"length\":1,\"depth\":-0.1}",                       "depth is no"       },
        {"{\"id\":\"a\",\"length\":1,\"depth\":NaN}",                        "depth is no"       },
        {"{\"id\":\"a\",\"length\":1,\"depth\":Infinity}",                   "depth is no"       },
        {"{\"id\":\"a\",\"length\":1,\"depth\":1e999}",                      "depth is no"       },
        {"{\"id\":\"a\",\"length\":1,\"depth\":\"0\"}",                      "depth is no"       },
        {"{\"id\":\"a\",\"length\":1,\"depth\":0,\"seed\":-1}",              "seed is no"        },
        {"{\"id\":\"a\",\"length\":1,\"depth\":0,\"seed\":1.5}",             "seed is no"        },
        {"{\"id\":\"a\",\"length\":1,\"depth\":0,\"key\":\"\"}",             "key has not"       },
        {"{\"id\":\"a\",\"length\":1,\"depth\":0,\"key\":12345}",            "key is no string"  },
        {"{\"id\":\"a\",\"length\":1,\"depth\":0,\"style\":\"niah\"}",       "style is \"niah\"" },
        {"{\"id\":\"a\",\"length\":1,\"depth\":0,\"st\\u0079le\":\"niah\"}", "another task"      },
        {"{\"id\":\"a\",\"length\":1,\"depth\":0,\"digits\":6}",             "digits is 6, and 5"},
        {"{\"id\":\"a\",\"length\":1,\"depth\":0,\"digits\":\"5\"}",         "another task"      },
        {"{\"id\":\"a\",\"length\":1,\"depth\":0,\"bos\":0}",                "bos is 0, and null"},
        {"{\"id\":\"a\",\"length\":1,\"depth\":0,\"x\":{\"a\":}}",           "not JSON"          },
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct passkey_description read = {.length = 77};
        struct passkey_wrong wrong;
        assert_false(read_bytes(bad[i].text, strlen(bad[i].text), &read, &wrong));
        if (strstr(wrong.text, bad[i].why) == NULL) fail_msg("%s: %s", bad[i].text, wrong.text);
        assert_int_equal(read.length, 77); // as it was
    }
}

static void long_ones(void **state) {
    static char text[PASSKEY_MESSAGE_MOST + 1];
    struct passkey_description read;
    struct passkey_wrong wrong;
    (void)state;
    for (int bytes = 1; bytes < 500; bytes++) { // an id of so many, plain and as escapes
        for (int escaped = 0; escaped < 2; escaped++) {
            size_t at = (size_t)snprintf(text, sizeof text, "{\"id\":\"");
            for (int i = 0; i < bytes; i++) {
                at +=
                    (size_t)snprintf(text + at, sizeof text - at, "%s", escaped ? "\\u0061" : "a");
            }
            at += (size_t)snprintf(text + at, sizeof text - at, "\",\"length\":1,\"depth\":0}");
            assert_int_equal(read_bytes(text, at, &read, &wrong), bytes < PASSKEY_ID_MOST);
        }
    }
    memset(text, ' ', sizeof text);
    memcpy(text, "{\"id\":\"a\",\"length\":1,\"depth\":0}", 31);
    assert_true(read_bytes(text, sizeof text - 1, &read, &wrong));
    assert_false(read_bytes(text, sizeof text, &read, &wrong));
    memset(text, '[', sizeof text); // deeper than anybody means
    memcpy(text, "{\"x\":", 5);
    assert_false(read_bytes(text, sizeof text - 1, &read, &wrong));
}

// Cut short or with one byte changed it is refused or read, and nothing else.
static void damaged_ones(void **state) {
    static const char text[] = "{\"id\":\"ab\\u00e9\",\"length\":4096,\"depth\":0.25,\"key\":\"1\","
                               "\"digits\":5,\"x\":[{}]}";
    struct passkey_description read;
    struct passkey_wrong wrong;
    char changed[sizeof text];
    (void)state;
    for (size_t bytes = 0; bytes < sizeof text - 1; bytes++) {
        assert_false(read_bytes(text, bytes, &read, &wrong));
        for (int c = 0; c < 256; c++) {
            memcpy(changed, text, sizeof text);
            changed[bytes] = (char)c;
            if (read_bytes(changed, sizeof text - 1, &read, &wrong)) continue;
            assert_true(wrong.text[0] != '\0');
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_ones),   cmocka_unit_test(result_lines),
        cmocka_unit_test(hostile_ones), cmocka_unit_test(long_ones),
        cmocka_unit_test(damaged_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
