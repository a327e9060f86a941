// Numbers as text. Floats are by far the most: one a token. Nine digits of one are found with a
// single product in double; the rare value too close to a rounding border is left to printf.
#include "pipeline/number_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define DIGITS 9

// Powers of ten that a double holds exactly.
static const double power_of_ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                      1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                      1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static size_t put(char *text, const char *what) {
    size_t bytes = strlen(what);
    memcpy(text, what, bytes);
    return bytes;
}

size_t number_text_int(int64_t value, char *text) {
    return (size_t)snprintf(text, NUMBER_TEXT_BYTES, "%" PRId64, value);
}

size_t number_text_double(double value, char *text) {
    if (!isfinite(value)) return put(text, "null");
    return (size_t)snprintf(text, NUMBER_TEXT_BYTES, "%.17g", value);
}

// The decimal exponent of a value in [1e-13, 1e9): the largest e with 10^e <= value, or one off
// where value lies within a rounding error of a power of ten, which nine_digits notices.
static int decimal_exponent(double value) {
    int exponent = 0;
    if (value >= 1) {
        while (value >= power_of_ten[exponent + 1])
            exponent++;
        return exponent;
    }
    do {
        exponent--;
    } while (value * power_of_ten[-exponent] < 1);
    return exponent;
}

// value = digits * 10^(exponent - 8), rounded to nine digits. False: too close to call.
static bool nine_digits(double value, uint32_t *digits, int *exponent) {
    *exponent = decimal_exponent(value);
    double scaled = value * power_of_ten[DIGITS - 1 - *exponent]; // off by less than 2e-7
    uint32_t whole = (uint32_t)scaled;
    double rest = scaled - (double)whole;
    if (fabs(rest - 0.5) < 1e-6) return false;
    *digits = whole + (rest > 0.5);
    return *digits >= 100000000 && *digits < 1000000000;
}

// digit[0].digit[1..]e-XX, or 0.000digits, or digits with the point inside, as %g chooses.
static size_t place_point(const char *digit, int count, int exponent, char *text) {
    char *at = text;
    if (exponent < -4) {
        *at++ = digit[0];
        if (count > 1) {
            *at++ = '.';
            memcpy(at, digit + 1, (size_t)count - 1);
            at += count - 1;
        }
        *at++ = 'e';
        *at++ = '-';
        *at++ = (char)('0' + -exponent / 10);
        *at++ = (char)('0' + -exponent % 10);
    } else if (exponent < 0) {
        memcpy(at, "0.000", (size_t)(1 - exponent));
        at += 1 - exponent;
        memcpy(at, digit, (size_t)count);
        at += count;
    } else {
        for (int i = 0; i < count || i <= exponent; i++) {
            if (i == exponent + 1) *at++ = '.';
            *at++ = i < count ? digit[i] : '0';
        }
    }
    return (size_t)(at - text);
}

size_t number_text_float(float value, char *text) {
    if (!isfinite(value)) return put(text, "null");
    double size = fabs((double)value);
    uint32_t digits = 0;
    int exponent = 0;
    if (!(size >= 1e-13 && size < 1e9) || !nine_digits(size, &digits, &exponent)) {
        return (size_t)snprintf(text, NUMBER_TEXT_BYTES, "%.9g", (double)value);
    }
    char digit[DIGITS];
    for (int i = DIGITS - 1; i >= 0; i--) {
        digit[i] = (char)('0' + digits % 10);
        digits /= 10;
    }
    int count = DIGITS;
    while (count > 1 && digit[count - 1] == '0')
        count--;
    size_t sign = value < 0;
    text[0] = '-';
    return sign + place_point(digit, count, exponent, text + sign);
}

// exp(x) = 2^k * exp(r), r = x - k * ln 2 in two parts, |r| <= ln 2 / 2: 14 terms of the series
// leave less than 1e-17 of it.
double number_exp(double x) {
    const double ln2_high = 0x1.62e42fee00000p-1, ln2_low = 0x1.a39ef35793c76p-33;
    if (!(x < 709.78)) return x > 0 ? (double)INFINITY : x;
    if (x < -745.0) return 0;
    double k = floor(x * 0x1.71547652b82fep+0 + 0.5);
    double r = (x - k * ln2_high) - k * ln2_low;
    double sum = 1;
    for (int term = 14; term >= 1; term--) {
        sum = 1 + sum * r / term;
    }
    return ldexp(sum, (int)k);
}
