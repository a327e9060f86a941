// Numbers of the JSON reader: exact 64-bit integers, and doubles rounded rightly.

#include "ops/base/json_inner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NUMBER_DIGITS_MOST 1024 // longer numbers are refused; exact doubles need fewer than 800

// Reads [0-9]+ from at on; false: there is none.
static bool skip_digits(const struct json *json, size_t *at) {
    const size_t first = *at;
    while (*at < json->bytes && is_digit((unsigned char)json->text[*at])) {
        (*at)++;
    }
    return *at > first;
}

static bool at_char(const struct json *json, size_t at, char c) {
    return at < json->bytes && json->text[at] == c;
}

// One number as the grammar has it: where its digits lie.
struct number {
    bool negative, integer;
    size_t first, point, end; // digits [first, point), then perhaps a point and more, up to end
    int exponent;             // saturated at +-100000, far beyond any double's
};

static bool scan_exponent(struct json *json, size_t *at, struct number *number) {
    (*at)++;
    const bool minus = at_char(json, *at, '-');
    if (minus || at_char(json, *at, '+')) (*at)++;
    size_t digit = *at;
    if (!skip_digits(json, at)) return json_refuse(json, "a number's exponent has no digits");
    for (; digit < *at; digit++) {
        number->exponent = number->exponent * 10 + (json->text[digit] - '0');
        if (number->exponent > 100000) number->exponent = 100000;
    }
    if (minus) number->exponent = -number->exponent;
    return true;
}

static bool scan_number(struct json *json, struct number *number) {
    *number = (struct number){.integer = true};
    json_next_char(json);
    size_t at = json->at;
    number->negative = at_char(json, at, '-');
    if (number->negative) at++;
    number->first = at;
    if (!skip_digits(json, &at)) return json_refuse(json, "expected a number");
    if (json->text[number->first] == '0' && at - number->first > 1) {
        return json_refuse(json, "a number with a leading zero");
    }
    number->point = number->end = at;
    if (at_char(json, at, '.')) {
        at++;
        if (!skip_digits(json, &at)) return json_refuse(json, "a number ends with a point");
        number->end = at;
        number->integer = false;
    }
    if (at_char(json, at, 'e') || at_char(json, at, 'E')) {
        if (!scan_exponent(json, &at, number)) return false;
        number->integer = false;
    }
    json->at = at;
    return true;
}

// Ids, the bulk of any token stream: up to 18 digits cannot overflow. Leaves all else alone.
static bool take_small(struct json *json, int64_t *value) {
    const char *text = json->text + json->at;
    const size_t left = json->bytes - json->at;
    int64_t small = 0;
    size_t digits = 0;
    while (digits < left && digits < 18 && is_digit((unsigned char)text[digits])) {
        small = small * 10 + (text[digits++] - '0');
    }
    if (digits == 0 || digits == 18 || (digits > 1 && text[0] == '0')) return false;
    if (digits < left && (text[digits] == '.' || (text[digits] | 0x20) == 'e')) return false;
    json->at += digits;
    json->begun = true;
    *value = small;
    return true;
}

bool json_int(struct json *json, int64_t *value) {
    if (json->wrong != NULL) return false;
    json_next_char(json);
    if (take_small(json, value)) return true;
    struct number number;
    if (!scan_number(json, &number)) return false;
    if (!number.integer) return json_refuse(json, "expected an integer");
    int64_t whole = 0;
    for (size_t at = number.first; at < number.end; at++) {
        const int digit = json->text[at] - '0';
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            (number.negative ? __builtin_sub_overflow(whole, digit, &whole)
                             : __builtin_add_overflow(whole, digit, &whole))) {
            return json_refuse(json, "an integer beyond 64 bits");
        }
    }
    json->begun = true;
    *value = whole;
    return true;
}

static bool take_infinity(struct json *json, double *value) {
    static const struct {
        const char *word;
        double value;
    } words[] = {
        {"NaN",       (double)NAN},
        {"Infinity",  HUGE_VAL   },
        {"-Infinity", -HUGE_VAL  }
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (!json_take_word(json, words[i].word)) continue;
        *value = words[i].value;
        return true;
    }
    return false;
}

// The digits without their point and the exponent moved instead: strtod then rounds rightly in
// every locale.
static bool convert(struct json *json, const struct number *number, double *value) {
    char digits[NUMBER_DIGITS_MOST + 32];
    const size_t whole = number->point - number->first;
    const size_t part = number->end > number->point ? number->end - number->point - 1 : 0;
    if (whole + part > NUMBER_DIGITS_MOST) return json_refuse(json, "a number of over 1024 digits");
    memcpy(digits, json->text + number->first, whole);
    memcpy(digits + whole, json->text + number->end - part, part);
    snprintf(digits + whole + part, 32, "e%d", number->exponent - (int)part);
    const double size = strtod(digits, NULL);
    if (!isfinite(size)) return json_refuse(json, "a number beyond a double");
    *value = number->negative ? -size : size;
    return true;
}

bool json_number(struct json *json, double *value) {
    if (json->wrong != NULL) return false;
    json_next_char(json);
    if (take_infinity(json, value)) return true;
    struct number number;
    if (!scan_number(json, &number)) return false;
    if (!convert(json, &number, value)) return false;
    json->begun = true;
    return true;
}

bool json_skip_number(struct json *json) {
    double infinity;
    struct number number;
    if (json->infinities && take_infinity(json, &infinity)) return true;
    if (!scan_number(json, &number)) return false;
    json->begun = true;
    return true;
}
