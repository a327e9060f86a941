// Results as JSON: the fields and their numbers, which are part of the interface.

#include "pipeline/result_json.h"

#include "ops/base/json.h"
#include "pipeline/number_text.h"

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

static const struct result_ids ids = {0x0123456789abcdef, 1, UINT64_MAX};

#define IDS                                                                       \
    "\"model\":\"xxh3:0123456789abcdef\",\"settings\":\"xxh3:0000000000000001\"," \
    "\"numerics\":\"xxh3:ffffffffffffffff\","

static void expect_score(const struct document_score *score, const char *wanted) {
    struct bytes out = {0};
    struct json json;
    assert_int_equal(result_json_score(score, &ids, &out), STATUS_OK);
    json_open(&json, out.data, out.count);
    assert_true(json_skip(&json) && json_end(&json));
    assert_int_equal(bytes_put(&out, "", 1), STATUS_OK);
    assert_string_equal(out.data, wanted);
    bytes_free(&out);
}

static void plain(void **state) {
    (void)state;
    struct document_score score = {.id = "a",
                                   .id_bytes = 1,
                                   .tokens = 5,
                                   .scored = 4,
                                   .nll = 2,
                                   .text_bytes = 8,
                                   .truncated = true};
    expect_score(&score, "{\"id\":\"a\",\"tokens\":5,\"scored\":4,\"nll\":2,\"nll_per_token\":0.5,"
                         "\"perplexity\":1.6487212707001282,"
                         "\"bits_per_byte\":0.36067376022224085," IDS "\"truncated\":true}");
    score.text_bytes = -1;
    score.truncated = false;
    expect_score(&score, "{\"id\":\"a\",\"tokens\":5,\"scored\":4,\"nll\":2,\"nll_per_token\":0.5,"
                         "\"perplexity\":1.6487212707001282," IDS "\"truncated\":false}");
}

static void nothing_scored(void **state) {
    (void)state;
    struct document_score score = {.id = "", .id_bytes = 0, .tokens = 1, .nll = 7, .text_bytes = 1};
    expect_score(&score, "{\"id\":\"\",\"tokens\":1,\"scored\":0,\"nll\":0,\"nll_per_token\":null,"
                         "\"perplexity\":null," IDS "\"truncated\":false}");
}

static void not_finite(void **state) {
    (void)state;
    float nll[] = {NAN, INFINITY, -INFINITY};
    struct document_score score = {.id = "x",
                                   .id_bytes = 1,
                                   .tokens = 4,
                                   .scored = 3,
                                   .nll = (double)NAN,
                                   .text_bytes = 4,
                                   .token_nll_first = 1,
                                   .token_nll = nll,
                                   .token_nll_count = 3};
    expect_score(&score,
                 "{\"id\":\"x\",\"tokens\":4,\"scored\":3,\"nll\":null,\"nll_per_token\":null,"
                 "\"perplexity\":null,\"bits_per_byte\":null,\"token_nll_first\":1,"
                 "\"token_nll\":[null,null,null]," IDS "\"truncated\":false}");
    score.nll = 3e6; // finite, its perplexity is not
    score.text_bytes = -1;
    score.token_nll = NULL;
    expect_score(
        &score, "{\"id\":\"x\",\"tokens\":4,\"scored\":3,\"nll\":3000000,\"nll_per_token\":1000000,"
                "\"perplexity\":null," IDS "\"truncated\":false}");
}

static void arrays_and_attributes(void **state) {
    (void)state;
    const struct window_score windows[] = {
        {0, 3, 0.1},
        {4, 4, 1  }
    };
    const float nll[] = {0, 1.5F, 0.1F};
    const char attributes[] =
        "\"lang\":\"de\",\"nll\":3,\"m\":{\"id\":1},\"i\\u0064\":9,\"n\":null";
    struct document_score score = {.id = "q\"\n\xff",
                                   .id_bytes = 4,
                                   .tokens = 8,
                                   .scored = 7,
                                   .text_bytes = -1,
                                   .windows = windows,
                                   .window_count = 2,
                                   .token_nll_first = 1,
                                   .token_nll = nll,
                                   .token_nll_count = 3,
                                   .attributes = attributes,
                                   .attributes_bytes = sizeof attributes - 1};
    const char wanted[] =
        "{\"id\":\"q\\\"\\n\xef\xbf\xbd\",\"tokens\":8,\"scored\":7,\"nll\":0,\"nll_per_token\":0,"
        "\"perplexity\":1,\"windows\":[{\"first\":0,\"scored\":3,\"nll\":0.10000000000000001},"
        "{\"first\":4,\"scored\":4,\"nll\":1}],\"token_nll_first\":1,\"token_nll\":[0,1.5,"
        "0.100000001],\"lang\":\"de\",\"m\":{\"id\":1},\"n\":null," IDS "\"truncated\":false}";
    expect_score(&score, wanted);
    score.windows = NULL; // went out before
    score.token_nll = NULL;
    score.attributes = "\"a\":1,}{"; // no members of an object: what is well formed stays
    score.attributes_bytes = strlen(score.attributes);
    expect_score(&score,
                 "{\"id\":\"q\\\"\\n\xef\xbf\xbd\",\"tokens\":8,\"scored\":7,\"nll\":0,"
                 "\"nll_per_token\":0,\"perplexity\":1,\"a\":1," IDS "\"truncated\":false}");
}

static void pieces(void **state) {
    (void)state;
    const float nll[] = {1, 2};
    const struct window_score window = {8, 8, 2};
    struct document_piece piece = {.id = "p",
                                   .id_bytes = 1,
                                   .token_nll_first = 1LL << 40,
                                   .token_nll = nll,
                                   .token_nll_count = 2};
    struct bytes out = {0};
    assert_int_equal(result_json_piece(&piece, &out), STATUS_OK);
    piece.token_nll = NULL;
    piece.windows = &window;
    piece.window_count = 1;
    assert_int_equal(result_json_piece(&piece, &out), STATUS_OK);
    assert_int_equal(bytes_put(&out, "", 1), STATUS_OK);
    assert_string_equal(out.data,
                        "{\"id\":\"p\",\"token_nll_first\":1099511627776,\"token_nll\":[1,2]}"
                        "{\"id\":\"p\",\"windows\":[{\"first\":8,\"scored\":8,\"nll\":2}]}");
    bytes_free(&out);
}

static void expect_float(float value) {
    char text[NUMBER_TEXT_BYTES + 1], wanted[NUMBER_TEXT_BYTES + 1];
    text[number_text_float(value, text)] = '\0';
    snprintf(wanted, sizeof wanted, "%.9g", (double)value);
    assert_string_equal(text, wanted);
}

// All kinds of floats against printf: random bits, and the neighbours of powers of ten and two.
static void floats(void **state) {
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 1000000; i++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        uint32_t bits = (uint32_t)(seed >> 32);
        // half of them of the sizes that scores have
        if (i % 2 == 0) bits = (bits & 0x87ffffff) | 0x38000000;
        float value;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value)) expect_float(value);
    }
    for (int e = -20; e <= 12; e++) {
        float base = (float)pow(10, e), half = base / 2;
        for (int i = 0; i < 50; i++) {
            expect_float(base);
            expect_float(-half);
            base = nextafterf(base, i < 25 ? 0 : 1e30F);
            half = nextafterf(half, i < 25 ? 0 : 1e30F);
        }
    }
    expect_float(0);
    expect_float(-0.0F);
    expect_float(16777216);
    expect_float(999999936);
    expect_float(0.0001F);
    expect_float(0.00001F);
}

static void exponentials(void **state) {
    (void)state;
    assert_true(number_exp(0) == 1);
    for (double x = -60; x < 60; x += 0.0137) {
        double wanted = exp(x);
        assert_true(fabs(number_exp(x) - wanted) <= 4e-16 * wanted);
    }
    assert_true(fabs(number_exp(709) / exp(709) - 1) < 1e-15);
    assert_true(isinf(number_exp(710)) && isinf(number_exp((double)INFINITY)));
    assert_true(number_exp(-800) == 0 && isnan(number_exp((double)NAN)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),        cmocka_unit_test(nothing_scored),
        cmocka_unit_test(not_finite),   cmocka_unit_test(arrays_and_attributes),
        cmocka_unit_test(pieces),       cmocka_unit_test(floats),
        cmocka_unit_test(exponentials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
