// Lines of results.jsonl: their members, which are part of the interface, there and back.

#include "src/passkey_result.h"

#include "ops/base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define IDS                                                                       \
    "\"model\":\"xxh3:0123456789abcdef\",\"settings\":\"xxh3:0000000000000001\"," \
    "\"numerics\":\"xxh3:ffffffffffffffff\""
#define HEAD                                                          \
    "{\"id\":\"4096-7\",\"length\":4096,\"depth\":0.35,\"number\":7," \
    "\"position\":56,\"units\":162,\"key\":\"00417\",\"tokens\":4081,\"answer_tokens\":3,"

static const struct passkey_run run = {"\"style\":\"paper\",\"digits\":5", 0x0123456789abcdef, 1,
                                       UINT64_MAX};

static struct passkey_result example(void) {
    return (struct passkey_result){
        .sample = {.id = "4096-7",
                   .length = 4096,
                   .depth = 0.35,
                   .number = 7,
                   .position = 56,
                   .units = 162,
                   .key = "00417"},
        .tokens = 4081,
        .answer_tokens = 3,
        .answer_nll = 0.125,
        .margin = -2.5,
        .correct = true,
        .prediction = " 00417.",
        .prediction_bytes = 7
    };
}

static void expect_equal(const struct passkey_result *a, const struct passkey_result *b) {
    assert_string_equal(a->sample.id, b->sample.id);
    assert_string_equal(a->sample.key, b->sample.key);
    assert_int_equal(a->sample.length, b->sample.length);
    assert_int_equal(a->sample.number, b->sample.number);
    assert_int_equal(a->sample.position, b->sample.position);
    assert_int_equal(a->sample.units, b->sample.units);
    assert_true(a->sample.depth == b->sample.depth);
    assert_int_equal(a->tokens, b->tokens);
    assert_int_equal(a->answer_tokens, b->answer_tokens);
    assert_true(a->correct == b->correct && a->exact == b->exact);
    assert_true(a->answer_nll == b->answer_nll || (isnan(a->answer_nll) && isnan(b->answer_nll)));
    assert_true(a->margin == b->margin || (isnan(a->margin) && isnan(b->margin)));
    assert_int_equal(a->prediction_bytes, b->prediction_bytes);
    assert_memory_equal(a->prediction, b->prediction, a->prediction_bytes);
}

static void expect_line(const struct passkey_run *in, const struct passkey_result *result,
                        const char *wanted) {
    struct bytes out = {0};
    assert_int_equal(passkey_result_put(in, result, &out), STATUS_OK);
    assert_int_equal(bytes_put(&out, "", 1), STATUS_OK);
    assert_string_equal(out.data, wanted);
    bytes_free(&out);
}

static void fields(void **state) {
    (void)state;
    struct passkey_result result = example();
    struct passkey_run bare = run;
    expect_line(&run, &result,
                HEAD "\"prediction\":\" 00417.\",\"correct\":true,\"exact\":false,"
                     "\"answer_nll\":0.125,\"margin\":-2.5,\"style\":\"paper\",\"digits\":5," IDS
                     "}\n");
    result.answer_nll = (double)NAN;
    result.margin = (double)INFINITY;
    result.prediction_bytes = 0;
    bare.task = NULL;
    expect_line(&bare, &result,
                HEAD "\"prediction\":\"\",\"correct\":true,\"exact\":false,"
                     "\"answer_nll\":null,\"margin\":null," IDS "}\n");
    bare.task = "";
    expect_line(&bare, &result,
                HEAD "\"prediction\":\"\",\"correct\":true,\"exact\":false,"
                     "\"answer_nll\":null,\"margin\":null," IDS "}\n");
}

// Put, read, put again: the same line, and the hashes with it.
static void there_and_back(const struct passkey_result *result, struct passkey_result *back) {
    struct bytes once = {0}, twice = {0};
    struct passkey_run read = {.task = run.task};
    const char *wrong = NULL;
    assert_int_equal(passkey_result_put(&run, result, &once), STATUS_OK);
    assert_true(utf8_valid(once.data, once.count));
    assert_int_equal(passkey_result_read(once.data, once.count - 1, back, &read, &wrong),
                     STATUS_OK);
    assert_null(wrong);
    assert_true(read.model == run.model && read.settings == run.settings &&
                read.numerics == run.numerics);
    assert_int_equal(passkey_result_put(&read, back, &twice), STATUS_OK);
    if (back->prediction_bytes + 3 < PASSKEY_PREDICTION_MOST) {
        assert_int_equal(once.count, twice.count);
        assert_memory_equal(once.data, twice.data, once.count);
    }
    bytes_free(&once);
    bytes_free(&twice);
}

static void round_trip(void **state) {
    (void)state;
    struct passkey_result result = example(), back;
    there_and_back(&result, &back);
    expect_equal(&result, &back);
    result.sample.depth = 1.0 / 3;
    result.sample.length = INT64_MAX;
    result.answer_nll = 1e-300;
    result.margin = (double)NAN;
    result.exact = true;
    result.correct = false;
    memset(result.sample.id, 'x', PASSKEY_ID_MOST - 1);
    memset(result.sample.key, '"', PASSKEY_KEY_MOST - 1); // each of two bytes in the line
    there_and_back(&result, &back);
    expect_equal(&result, &back);
}

static void any_prediction(void **state) {
    (void)state;
    struct passkey_result result = example(), back;
    for (int i = 0; i < PASSKEY_PREDICTION_MOST / 2; i++) { // all of ASCII, controls and zero too
        result.prediction[i] = (char)i;
    }
    result.prediction_bytes = 128;
    there_and_back(&result, &back);
    expect_equal(&result, &back);
    memcpy(result.prediction, "\xff<\xe2\x82\xac\xc3", 6); // no UTF-8, the euro sign, half a letter
    result.prediction_bytes = 6;
    there_and_back(&result, &back);
    assert_int_equal(back.prediction_bytes, 10);
    assert_memory_equal(back.prediction, "\xef\xbf\xbd<\xe2\x82\xac\xef\xbf\xbd", 10);
    memset(result.prediction, '\xff', PASSKEY_PREDICTION_MOST); // three times as long: cut
    result.prediction_bytes = PASSKEY_PREDICTION_MOST;
    there_and_back(&result, &back);
    assert_int_equal(back.prediction_bytes, PASSKEY_PREDICTION_MOST / 3 * 3);
    assert_true(utf8_valid(back.prediction, back.prediction_bytes));
    memset(result.prediction, '\1', PASSKEY_PREDICTION_MOST); // six times as long in the line
    there_and_back(&result, &back);
    expect_equal(&result, &back);
}

#define TAIL                                                                                   \
    "\"prediction\":\"\\u00e9\",\"correct\":true,\"exact\":false,\"answer_nll\":1,\"margin\":" \
    "2," IDS "}"

static enum status read_text(const char *line, const char **wrong) {
    struct passkey_result result;
    struct passkey_run ids;
    return passkey_result_read(line, strlen(line), &result, &ids, wrong);
}

static void other_order(void **state) {
    (void)state;
    const char *wrong = NULL;
    assert_int_equal(read_text(HEAD TAIL, &wrong), STATUS_OK);
    assert_int_equal(
        read_text("{" IDS ",\"new\":{\"id\":[1,{}]},\"margin\":null,\"answer_nll\":3e-1,"
                  "\"exact\":true,\"correct\":true,\"prediction\":\"\",\"answer_tokens\":0,"
                  "\"tokens\":0,\"key\":\"a\\u0062\",\"units\":0,\"position\":0,\"number\":0,"
                  "\"depth\":1,\"length\":1,\"\\u0069d\":\"q\"} \n",
                  &wrong),
        STATUS_OK);
}

static void expect_refused(const char *line, const char *about) {
    const char *wrong = "";
    assert_int_equal(read_text(line, &wrong), STATUS_BAD_INPUT);
    assert_non_null(strstr(wrong, about));
}

static void refused(void **state) {
    (void)state;
    expect_refused("", "");
    expect_refused("[]", "object");
    expect_refused("{}", "\"id\"");
    expect_refused(HEAD TAIL "x", "after the end");
    expect_refused(HEAD, "");
    expect_refused(HEAD "\"correct\":1," TAIL, "\"correct\"");
    expect_refused(HEAD "\"length\":4096," TAIL, "\"length\"");
    expect_refused(HEAD "\"correct\":true}", "\"prediction\"");
    expect_refused("{\"depth\":1.5}", "\"depth\"");
    expect_refused("{\"depth\":NaN}", "\"depth\"");
    expect_refused("{\"length\":0}", "\"length\"");
    expect_refused("{\"number\":-1}", "\"number\"");
    expect_refused("{\"tokens\":1e3}", "\"tokens\"");
    expect_refused("{\"tokens\":9223372036854775808}", "\"tokens\"");
    expect_refused("{\"id\":\"a\\u0000b\"}", "\"id\"");
    expect_refused("{\"id\":\"\"}", "\"id\"");
    expect_refused("{\"key\":\"0123456789012345678901234567890123456789\"}", "\"key\"");
    expect_refused("{\"model\":\"xxh3:0123456789ABCDEF\"}", "\"model\"");
    expect_refused("{\"model\":\"xxh3:0123\"}", "\"model\"");
}

// Any part of a line is refused, and no part of it is read past its end.
static void cut(void **state) {
    (void)state;
    static const char line[] = HEAD TAIL;
    for (size_t bytes = 0; bytes < sizeof line - 1; bytes++) {
        struct passkey_result result = example();
        struct passkey_run ids = run;
        const char *wrong = NULL;
        char *exact = malloc(bytes + 1);
        memcpy(exact, line, bytes);
        assert_int_equal(passkey_result_read(exact, bytes, &result, &ids, &wrong),
                         STATUS_BAD_INPUT);
        assert_string_equal(result.sample.id, "4096-7"); // as it was
        assert_true(ids.numerics == UINT64_MAX);
        free(exact);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields),         cmocka_unit_test(round_trip),
        cmocka_unit_test(any_prediction), cmocka_unit_test(other_order),
        cmocka_unit_test(refused),        cmocka_unit_test(cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
