// What a report reckons: intervals, grids, last-k shares, rounding, and what it writes of nothing.

#include "ops/base/json.h"
#include "src/passkey_report_inner.h"
#include "src/passkey_svg.h"

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

#define MOST 4096

// A report of results that are made one by one.
struct made {
    struct passkey_facts facts;
    struct passkey_result *results;
    struct passkey_report report;
};

static int begin(void **state) {
    struct made *made = calloc(1, sizeof *made);
    made->facts = (struct passkey_facts){.model_name = "m", .task = "\"style\":\"paper\""};
    made->results = calloc(MOST, sizeof *made->results);
    made->report = (struct passkey_report){&made->facts, made->results, 0};
    *state = made;
    return 0;
}

static int end(void **state) {
    struct made *made = *state;
    free(made->results);
    free(made);
    return 0;
}

static struct passkey_result *add(struct made *made, int64_t length, double depth, bool correct) {
    struct passkey_result *result = &made->results[made->report.count++];
    assert_true(made->report.count <= MOST);
    *result = (struct passkey_result){.tokens = length, .correct = correct, .exact = correct};
    snprintf(result->sample.id, sizeof result->sample.id, "%lld", (long long)made->report.count);
    snprintf(result->sample.key, sizeof result->sample.key, "12345");
    result->sample.length = length;
    result->sample.depth = depth;
    return result;
}

static void near(double value, double wanted, double most) {
    if (!(fabs(value - wanted) <= most)) fail_msg("%.17g is not %.17g", value, wanted);
}

// Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29, there to four digits; the others
// from the formula, by hand.
static void wilson(void **state) {
    static const struct {
        int64_t correct, n;
        double low, high;
    } known[] = {
        {81, 263, 0.2553, 0.3662},
        {15, 148, 0.0624, 0.1605},
        {0,  20,  0,      0.1611},
        {1,  29,  0.0061, 0.1718},
        {1,  1,   0.2065, 1     },
        {0,  1,   0,      0.7935},
        {50, 100, 0.4038, 0.5962},
    };
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const struct passkey_interval interval =
            passkey_wilson((struct passkey_tally){known[i].n, known[i].correct});
        near(interval.low, known[i].low, 5.1e-5);
        near(interval.high, known[i].high, 5.1e-5);
    }
    const struct passkey_interval all = passkey_wilson((struct passkey_tally){7, 7}),
                                  none = passkey_wilson((struct passkey_tally){7, 0}),
                                  unknown = passkey_wilson((struct passkey_tally){0, 0});
    assert_true(all.high == 1 && none.low == 0 && unknown.low == 0 && unknown.high == 1);
    near(all.low, 1 - none.high, 1e-15);
}

static void percents(void **state) {
    (void)state;
    assert_int_equal(passkey_percent((struct passkey_tally){1, 1}), 100);
    assert_int_equal(passkey_percent((struct passkey_tally){1000, 999}), 99);
    assert_int_equal(passkey_percent((struct passkey_tally){1000, 1}), 1);
    assert_int_equal(passkey_percent((struct passkey_tally){1000, 0}), 0);
    assert_int_equal(passkey_percent((struct passkey_tally){200, 125}), 63);
    assert_true(isnan(passkey_accuracy((struct passkey_tally){0, 0})));
}

static void expect_length(int64_t length, const char *wanted) {
    char text[PASSKEY_LENGTH_TEXT];
    passkey_length_text(length, text);
    assert_string_equal(text, wanted);
}

static void length_texts(void **state) {
    (void)state;
    expect_length(1, "1");
    expect_length(664, "664");
    expect_length(1024, "1k");
    expect_length(1536, "1536");
    expect_length(262144, "256k");
    expect_length(INT64_C(3) << 20, "3m");
    expect_length(INT64_C(1) << 62, "4194304t");
    expect_length(INT64_MAX, "9223372036854775807");
}

static void expect_cell(const struct passkey_map *map, int64_t column, int64_t row, int64_t n,
                        int64_t correct) {
    const struct passkey_tally cell = passkey_map_cell(map, column, row);
    assert_int_equal(cell.n, n);
    assert_int_equal(cell.correct, correct);
}

static void shared_depths(void **state) {
    struct made *made = *state;
    struct passkey_map map;
    for (int number = 0; number < 8; number++) { // four depths, two each
        add(made, 1024, (number % 4 + 0.5) / 4, number < 6)->margin = number;
    }
    for (int number = 0; number < 3; number++) { // stopped on the way: a depth is missing
        struct passkey_result *result = add(made, 4096, (number % 4 + 0.5) / 4, number == 1);
        result->answer_nll = number == 0 ? (double)NAN : number;
        result->margin = number == 2 ? -(double)INFINITY : -number;
        result->exact = false;
    }
    assert_int_equal(passkey_map_build(&made->report, PASSKEY_ROWS_MOST, &map), STATUS_OK);
    assert_false(map.parts);
    assert_int_equal(map.lengths, 2);
    assert_int_equal(map.rows, 4);
    assert_true(map.depth[3] == 0.875);
    expect_cell(&map, 0, 1, 2, 2);
    expect_cell(&map, 0, 2, 2, 1);
    expect_cell(&map, 1, 1, 1, 1);
    expect_cell(&map, 1, 2, 1, 0);
    expect_cell(&map, 1, 3, 0, 0);
    assert_int_equal(map.column[0].tally.correct, 6);
    assert_int_equal(map.column[1].first, 8);
    assert_int_equal(map.column[1].exact, 0);
    assert_true(map.column[0].margin == 3.5);
    assert_true(map.column[1].margin == -0.5 && map.column[1].answer_nll == 1.5);
    assert_int_equal(map.all.tally.n, 11);
    assert_int_equal(map.all.tally.correct, 7);
    passkey_map_free(&map);

    int64_t length = 0;
    near(passkey_report_lowest(&made->report, &length), 1.0 / 3, 1e-15);
    assert_int_equal(length, 4096);
}

// --positions: no length has another's depths.
static void depths_of_their_own(void **state) {
    struct made *made = *state;
    struct passkey_map map;
    for (int64_t length = 1024; length <= 8192; length *= 2) {
        add(made, length, 500.0 / (double)length, true);
        add(made, length, 1000.0 / (double)length, false);
    }
    add(made, 9000, 1, true); // the end belongs to the last part
    assert_int_equal(passkey_map_build(&made->report, PASSKEY_ROWS_MOST, &map), STATUS_OK);
    assert_true(map.parts);
    assert_int_equal(map.rows, 10);
    near(map.depth[9], 0.95, 1e-15);
    expect_cell(&map, 0, 4, 1, 1);
    expect_cell(&map, 0, 9, 1, 0);
    expect_cell(&map, 3, 0, 1, 1);
    expect_cell(&map, 3, 1, 1, 0);
    expect_cell(&map, 4, 9, 1, 1);
    passkey_map_free(&map);
}

// The same with several samples a place, so that cells are fewer than samples, but most are empty.
static void places_with_samples(void **state) {
    struct made *made = *state;
    struct passkey_map map;
    for (int64_t length = 1024; length <= 4096; length *= 2) {
        for (int i = 0; i < 20; i++) {
            add(made, length, 250.0 * (1 + i % 4) / (double)length, i < 10);
        }
    }
    assert_int_equal(passkey_map_build(&made->report, PASSKEY_ROWS_MOST, &map), STATUS_OK);
    assert_false(map.parts); // 250 of 1024 is 500 of 2048: 8 depths for 12 places
    passkey_map_free(&map);
    for (int i = 0; i < 60; i++) {
        made->results[i].sample.depth += (double)made->results[i].sample.length * 1e-6;
    }
    assert_int_equal(passkey_map_build(&made->report, PASSKEY_ROWS_MOST, &map), STATUS_OK);
    assert_true(map.parts); // 12 depths, a third of the cells
    expect_cell(&map, 0, 2, 5, 3);
    passkey_map_free(&map);
}

static void too_many_depths(void **state) {
    struct made *made = *state;
    struct passkey_map map;
    for (int i = 0; i < 200; i++) {
        add(made, 1000, (i + 0.5) / 200, i % 2 == 0);
    }
    assert_int_equal(passkey_map_build(&made->report, PASSKEY_ROWS_MOST, &map), STATUS_OK);
    assert_int_equal(map.rows, 10);
    expect_cell(&map, 0, 7, 20, 10);
    passkey_map_free(&map);
    assert_int_equal(passkey_map_build(&made->report, 200, &map), STATUS_OK);
    assert_int_equal(map.rows, 200);
    passkey_map_free(&map);
}

static void expect_last(const struct passkey_map *map, int64_t k, int64_t column, int64_t n,
                        int64_t correct) {
    struct passkey_tally share;
    assert_true(passkey_last_k(map, k, column, &share));
    assert_int_equal(share.n, n);
    assert_int_equal(share.correct, correct);
}

// Ten rows a length; the shallower half is lost, but for the shortest length.
static void last_k(void **state) {
    struct made *made = *state;
    struct passkey_map map;
    struct passkey_tally share;
    int64_t k[PASSKEY_KS_MOST];
    for (int64_t length = 1024; length <= 16384; length *= 4) {
        for (int i = 0; i < 10; i++) {
            add(made, length, (i + 0.5) / 10, length == 1024 || i >= 5);
        }
    }
    assert_int_equal(passkey_map_build(&made->report, PASSKEY_ROWS_MOST, &map), STATUS_OK);
    expect_last(&map, 1024, 0, 10, 10); // all of it
    expect_last(&map, 512, 0, 5, 5);
    expect_last(&map, 1024, 1, 2, 2); // int(0.25 * 10) rows
    expect_last(&map, 2048, 2, 1, 1);
    expect_last(&map, 4096, 1, 10, 5);
    assert_false(passkey_last_k(&map, 1024, 2, &share)); // less than a row
    assert_false(passkey_last_k(&map, 2048, 0, &share)); // longer than the prompt
    assert_int_equal(passkey_last_ks(&map, k), 4);
    assert_int_equal(k[0], 512); // of 1k and 4k
    assert_int_equal(k[1], 1024);
    assert_int_equal(k[2], 2048); // of 4k and 16k
    assert_int_equal(k[3], 4096); // 8192 of 16k alone
    passkey_map_free(&map);
}

static void hostile_text(void **state) {
    struct markup out = {0};
    (void)state;
    static const char text[] = "<b a=\"1\" c='2'>&amp;%s\n\x7f\xff\xef\xbf\xbf\xc2\x85\xe2\x82\xac";
    markup_text(&out, text, sizeof text); // with the zero at its end
    assert_int_equal(out.status, STATUS_OK);
    assert_int_equal(bytes_put(&out.out, "", 1), STATUS_OK);
    assert_string_equal(out.out.data,
                        "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;%s\xe2\x90\x8a\xe2\x90\xa1"
                        "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xe2\x82\xac\xe2\x90\x80");
    bytes_free(&out.out);
}

// What stands upon a colour can be read: WCAG asks for 4.5. The ends differ in more than one way.
static void colours(void **state) {
    (void)state;
    for (int i = 0; i <= 100; i++) {
        const struct colour colour = colour_of(i / 100.0);
        assert_true(colour_contrast(colour, colour_upon(colour)) >= 4.5);
    }
    const struct colour none = colour_of(0), all = colour_of(1);
    assert_true(none.red > none.green + 100 && all.green > all.red + 60);
    assert_true(all.blue > none.blue + 60 && colour_contrast(all, none) > 3);
}

static void expect_json(const struct passkey_report *report) {
    struct passkey_map map;
    struct bytes out = {0};
    struct json json;
    assert_int_equal(passkey_map_build(report, PASSKEY_ROWS_MOST, &map), STATUS_OK);
    assert_int_equal(passkey_report_json(report, &map, &out), STATUS_OK);
    json_open(&json, out.data, out.count);
    if (!json_skip(&json) || !json_end(&json)) fail_msg("%s", json.wrong);
    passkey_map_free(&map);
    bytes_free(&out);
}

static void next_to_nothing(void **state) {
    struct made *made = *state;
    struct passkey_map map;
    int64_t length = 7;
    expect_json(&made->report);
    assert_true(passkey_report_lowest(&made->report, &length) == 1);
    assert_int_equal(length, 0);
    add(made, 64, 0, false);
    expect_json(&made->report);
    assert_int_equal(passkey_map_build(&made->report, PASSKEY_ROWS_MOST, &map), STATUS_OK);
    assert_int_equal(map.lengths * map.rows, 1);
    passkey_map_free(&map);
    made->facts = (struct passkey_facts){0};
    expect_json(&made->report);
}

static void csv(void **state) {
    struct made *made = *state;
    struct passkey_map map;
    struct bytes out = {0};
    add(made, 64, 0.25, true);
    add(made, 64, 0.75, true);
    add(made, 128, 0.25, false);
    assert_int_equal(passkey_map_build(&made->report, PASSKEY_ROWS_MOST, &map), STATUS_OK);
    assert_int_equal(passkey_report_csv(&map, &out), STATUS_OK);
    assert_int_equal(bytes_put(&out, "", 1), STATUS_OK);
    assert_string_equal(out.data, "length,depth,n,correct,accuracy,low,high\n"
                                  "64,0.25,1,1,1,0.20654931437723745,1\n"
                                  "64,0.75,1,1,1,0.20654931437723745,1\n"
                                  "128,0.25,1,0,0,0,0.79345068562276255\n"
                                  "128,0.75,0,0,,,\n");
    passkey_map_free(&map);
    bytes_free(&out);
}

static void expect_table(const struct passkey_report *report, bool colours, const char *wanted) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_int_equal(passkey_report_table(report, colours, out), STATUS_OK);
    fclose(out);
    assert_string_equal(text, wanted);
    free(text);
}

static void table(void **state) {
    struct made *made = *state;
    expect_table(&made->report, false, "");
    add(made, 1024, 0.25, true);
    add(made, 1024, 0.625, true);
    add(made, 262126, 0.25, false);
    expect_table(&made->report, false,
                 " depth      1k  262126 \n"
                 "   25%     100       0 \n"
                 " 62.5%     100       - \n"
                 "   all     100       0 \n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(wilson, begin, end),
        cmocka_unit_test_setup_teardown(percents, begin, end),
        cmocka_unit_test_setup_teardown(length_texts, begin, end),
        cmocka_unit_test_setup_teardown(shared_depths, begin, end),
        cmocka_unit_test_setup_teardown(depths_of_their_own, begin, end),
        cmocka_unit_test_setup_teardown(places_with_samples, begin, end),
        cmocka_unit_test_setup_teardown(too_many_depths, begin, end),
        cmocka_unit_test_setup_teardown(last_k, begin, end),
        cmocka_unit_test_setup_teardown(hostile_text, begin, end),
        cmocka_unit_test_setup_teardown(colours, begin, end),
        cmocka_unit_test_setup_teardown(next_to_nothing, begin, end),
        cmocka_unit_test_setup_teardown(csv, begin, end),
        cmocka_unit_test_setup_teardown(table, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
