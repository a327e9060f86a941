// JSONL lines: what becomes a document, and what is refused and why.

#include "pipeline/jsonl.h"

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

// The line in memory of its own, without a byte to spare, so that sanitizers see a step too far.
struct parsed {
    struct jsonl jsonl;
    struct jsonl_document document;
    char *line;
    bool good;
};

static struct parsed *parse_bytes(const char *line, size_t bytes) {
    struct parsed *parsed = calloc(1, sizeof *parsed);
    assert_non_null(parsed);
    parsed->line = malloc(bytes > 0 ? bytes : 1);
    assert_non_null(parsed->line);
    memcpy(parsed->line, line, bytes);
    jsonl_open(&parsed->jsonl, "id", "text");
    parsed->good = jsonl_parse(&parsed->jsonl, parsed->line, bytes, &parsed->document);
    return parsed;
}

static void release(struct parsed *parsed) {
    free(parsed->line);
    free(parsed);
}

static void expect(const char *what, const char *bytes, size_t count) {
    assert_int_equal(count, strlen(what));
    assert_memory_equal(bytes, what, count);
}

static void expect_text(const char *line, const char *id, const char *text,
                        const char *attributes) {
    struct parsed *parsed = parse_bytes(line, strlen(line));
    if (!parsed->good) fail_msg("%s: %s", line, parsed->jsonl.wrong);
    if (id == NULL) {
        assert_null(parsed->document.id);
    } else {
        expect(id, parsed->document.id, parsed->document.id_bytes);
    }
    assert_non_null(parsed->document.text);
    expect(text, parsed->document.text, parsed->document.text_bytes);
    expect(attributes, parsed->document.attributes, parsed->document.attributes_bytes);
    release(parsed);
}

static void expect_wrong(const char *line, const char *why) {
    struct parsed *parsed = parse_bytes(line, strlen(line));
    if (parsed->good) fail_msg("taken: %s", line);
    if (strstr(parsed->jsonl.wrong, why) == NULL) {
        fail_msg("%s: \"%s\" does not say \"%s\"", line, parsed->jsonl.wrong, why);
    }
    release(parsed);
}

static void texts(void **state) {
    (void)state;
    expect_text("{\"id\":\"a\",\"text\":\"b c\"}", "a", "b c", "");
    expect_text(" {\t\"text\" : \"\" , \"id\" : \"a\" } \r", "a", "", "");
    expect_text("{\"id\":12.50e1,\"text\":\"x\"}", "12.50e1", "x", "");
    expect_text("{\"id\":-7,\"text\":\"x\"}", "-7", "x", "");
    expect_text("{\"text\":\"x\"}", NULL, "x", "");
    expect_text("{\"id\":null,\"text\":\"x\",\"tokens\":null}", NULL, "x", "");
    expect_text("{\"id\":\"\",\"text\":\"x\"}", NULL, "x", "");
    expect_text("{\"\\u0069d\":\"\\u00e4\\n\",\"te\\u0078t\":\"\\ud83d\\ude00\\\"\\ud800z\"}",
                "\xc3\xa4\n", "\xf0\x9f\x98\x80\"\xef\xbf\xbdz", "");
    expect_text("{\"z\":[1, {\"a\":\"\\n\"}],\"id\":\"a\",\"text\":\"t\",\"\\u0062\":null}", "a",
                "t", "\"z\":[1, {\"a\":\"\\n\"}],\"\\u0062\":null");
}

static void fields_of_another_name(void **state) {
    (void)state;
    char line[] = "{\"id\":1,\"url\":\"u\",\"raw\":\"r\",\"text\":\"t\"}";
    struct jsonl jsonl;
    struct jsonl_document document;
    jsonl_open(&jsonl, "url", "raw");
    assert_true(jsonl_parse(&jsonl, line, strlen(line), &document));
    expect("u", document.id, document.id_bytes);
    expect("r", document.text, document.text_bytes);
    expect("\"id\":1,\"text\":\"t\"", document.attributes, document.attributes_bytes);
}

static void tokens(void **state) {
    (void)state;
    const char line[] = "{\"tokens\":[ 0,1 ,\t2147483647, 50276],\"id\":\"t\"}";
    const int32_t wanted[] = {0, 1, 2147483647, 50276};
    for (int64_t most = 1; most <= 5; most++) {
        struct parsed *parsed = parse_bytes(line, strlen(line));
        int32_t token[4] = {0};
        int64_t count = 0, got = 0;
        assert_true(parsed->good);
        assert_null(parsed->document.text);
        assert_int_equal(parsed->document.tokens.left, 4);
        while ((got = jsonl_tokens_next(&parsed->document.tokens, token + count,
                                        most < 4 - count ? most : 4 - count)) > 0) {
            count += got;
        }
        assert_int_equal(count, 4);
        assert_memory_equal(token, wanted, sizeof wanted);
        release(parsed);
    }
    struct parsed *empty = parse_bytes("{\"tokens\":[ ]}", 14);
    assert_true(empty->good);
    assert_int_equal(empty->document.tokens.left, 0);
    assert_null(empty->document.text);
    release(empty);
}

static void wrong_lines(void **state) {
    (void)state;
    static const char *const lines[][2] = {
        {"",                                             "not a JSON object"              },
        {"[]",                                           "not a JSON object"              },
        {"null",                                         "not a JSON object"              },
        {"{\"id\":\"a\\u0000\",\"text\":\"b\"}",         "a NUL inside"                   },
        {"{\"id\":\"a\",\"text\":\"b\"",                 "not a JSON object"              },
        {"{\"id\":\"a\",\"text\":\"b\"}}",               "more after the end"             },
        {"{\"id\":\"a\",\"text\":\"b\"}{}",              "more after the end"             },
        {"{\"id\":\"a\",\"text\":\"b\",}",               "not a JSON object"              },
        {"{\"id\":\"a\",\"text\":\"b\x80\"}",            "UTF-8"                          },
        {"{\"id\":\"a\",\"text\":\"\xed\xa0\x80\"}",     "UTF-8"                          },
        {"{\"id\":\"a\",\"text\":\"\x01\"}",             "control character"              },
        {"{\"id\":\"a\",\"text\":\"\\x\"}",              "escape"                         },
        {"{\"id\":\"a\"}",                               "neither \"text\" nor \"tokens\""},
        {"{\"id\":\"a\",\"text\":null}",                 "neither"                        },
        {"{\"id\":\"a\",\"text\":\"\",\"tokens\":[]}",   "both \"text\" and \"tokens\""   },
        {"{\"id\":[1],\"text\":\"\"}",                   "neither a string nor a number"  },
        {"{\"id\":true,\"text\":\"\"}",                  "neither a string nor a number"  },
        {"{\"id\":1,\"text\":5}",                        "no string"                      },
        {"{\"id\":1,\"tokens\":\"5\"}",                  "no array"                       },
        {"{\"id\":1,\"tokens\":[1,-1]}",                 "token 1 is not an integer"      },
        {"{\"id\":1,\"tokens\":[1.0]}",                  "token 0 is not an integer"      },
        {"{\"id\":1,\"tokens\":[1,2,3e1]}",              "token 2 is not an integer"      },
        {"{\"id\":1,\"tokens\":[2147483648]}",           "token 0 is not an integer"      },
        {"{\"id\":1,\"tokens\":[99999999999999999999]}", "token 0 is not an integer"      },
        {"{\"id\":1,\"tokens\":[\"1\"]}",                "token 0 is not an integer"      },
        {"{\"id\":1,\"tokens\":[[1]]}",                  "token 0 is not an integer"      },
        {"{\"id\":1,\"tokens\":[null]}",                 "token 0 is not an integer"      },
        {"{\"id\":1,\"tokens\":[1 2]}",                  "not a JSON object"              },
        {"{\"id\":1,\"tokens\":[01]}",                   "not a JSON object"              },
        {"{\"id\":1,\"tokens\":[1,]}",                   "not a JSON object"              },
        {"{\"id\":1,\"id\":1,\"text\":\"\"}",            "\"id\" twice"                   },
        {"{\"text\":\"\",\"\\u0074ext\":\"\"}",          "\"text\" twice"                 },
        {"{\"tokens\":[],\"tokens\":[]}",                "\"tokens\" twice"               },
        {"{\"a\":1,\"text\":\"\",\"\\u0061\":2}",        "twice"                          },
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        expect_wrong(lines[i][0], lines[i][1]);
    }
    struct parsed *nul = parse_bytes("{\"text\":\"\0\"}", 12);
    assert_false(nul->good);
    release(nul);
}

// A line with one attribute of this many bytes, all told.
static struct parsed *with_attributes(size_t bytes) {
    const char before[] = "{\"text\":\"\",", after[] = "}";
    char *line = malloc(bytes + sizeof before + sizeof after);
    assert_non_null(line);
    size_t at = sizeof before - 1;
    memcpy(line, before, at);
    memset(line + at, 'k', bytes);
    memcpy(line + at, "\"k\":\"", 5);
    line[at + bytes - 1] = '"';
    memcpy(line + at + bytes, after, sizeof after);
    struct parsed *parsed = parse_bytes(line, at + bytes + 1);
    free(line);
    return parsed;
}

static void limits(void **state) {
    (void)state;
    struct parsed *most = with_attributes(ATTRIBUTES_BYTES_MOST);
    assert_true(most->good);
    assert_int_equal(most->document.attributes_bytes, ATTRIBUTES_BYTES_MOST);
    release(most);
    struct parsed *more = with_attributes(ATTRIBUTES_BYTES_MOST + 1);
    assert_false(more->good);
    assert_non_null(strstr(more->jsonl.wrong, "4096"));
    release(more);

    char line[2 * ID_BYTES_MOST + 64];
    for (int bytes = ID_BYTES_MOST; bytes <= ID_BYTES_MOST + 1; bytes++) {
        memset(line, 'i', sizeof line);
        memcpy(line, "{\"id\":\"", 7);
        memcpy(line + 7 + bytes, "\",\"text\":\"\"}", 12);
        struct parsed *parsed = parse_bytes(line, (size_t)bytes + 19);
        assert_int_equal(parsed->good, bytes == ID_BYTES_MOST);
        release(parsed);
    }
}

// The most keys there can be, all short: each is compared with all before it.
static void many_keys(void **state) {
    (void)state;
    char line[ATTRIBUTES_BYTES_MOST * 2];
    for (int repeat = 0; repeat < 2; repeat++) {
        int at = snprintf(line, sizeof line, "{\"text\":\"\"");
        int keys = 0;
        while (keys < 450) {
            at += snprintf(line + at, sizeof line - (size_t)at, ",\"%x\":0",
                           repeat == 1 && keys == 449 ? 5U : (unsigned)keys);
            keys++;
        }
        at += snprintf(line + at, sizeof line - (size_t)at, "}");
        struct parsed *parsed = parse_bytes(line, (size_t)at);
        assert_int_equal(parsed->good, repeat == 0);
        release(parsed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),  cmocka_unit_test(fields_of_another_name),
        cmocka_unit_test(tokens), cmocka_unit_test(wrong_lines),
        cmocka_unit_test(limits), cmocka_unit_test(many_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
