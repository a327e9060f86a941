#include "src/option_value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit size_units[] = {
    {"g",  INT64_C(1) << 30},
    {"m",  INT64_C(1) << 20},
    {"k",  INT64_C(1) << 10},
    {NULL, 0               }
};
static const struct unit duration_units[] = {
    {"h",  INT64_C(3600000)},
    {"m",  60000           },
    {"s",  1000            },
    {"ms", 1               },
    {NULL, 0               }
};

static const struct unit *units_of(const struct option *option) {
    if (option->kind == OPTION_SIZE) return size_units;
    if (option->kind == OPTION_DURATION || option->kind == OPTION_UNTIL) return duration_units;
    return NULL;
}

static bool unit_factor(const struct unit *units, const char *name, int64_t *factor) {
    for (; units->name != NULL; units++) {
        if (strcmp(units->name, name) == 0) {
            *factor = units->factor;
            return true;
        }
    }
    return false;
}

void option_print_number(const struct option *option, int64_t number, char *text, size_t bytes) {
    const struct unit *unit = units_of(option);
    for (; number != 0 && unit != NULL && unit->name != NULL; unit++) {
        if (number % unit->factor == 0) {
            snprintf(text, bytes, "%" PRId64 "%s", number / unit->factor, unit->name);
            return;
        }
    }
    snprintf(text, bytes, "%" PRId64, number);
}

// A whole number, then the unit: digits are read by hand, for strtoll takes spaces and signs.
static bool parse_number(const char *text, const struct unit *units, bool unit_needed,
                         int64_t *number, char *wrong, size_t wrong_bytes) {
    int64_t value = 0;
    int64_t factor = 1;
    const char *at = text + (*text == '-');
    bool large = false;
    if (*at < '0' || *at > '9') {
        snprintf(wrong, wrong_bytes, "is not a whole number");
        return false;
    }
    for (; *at >= '0' && *at <= '9'; at++) {
        large = large || __builtin_mul_overflow(value, 10, &value) ||
                __builtin_add_overflow(value, *at - '0', &value);
    }
    if (*at != '\0' && (units == NULL || !unit_factor(units, at, &factor))) {
        snprintf(wrong, wrong_bytes,
                 units == NULL         ? "is not a whole number"
                 : units == size_units ? "is not a number such as 4096, 4k, 64m or 1g"
                                       : "is not a time such as 200ms, 5s, 2m or 1h");
        return false;
    }
    if (*at == '\0' && unit_needed && value != 0) {
        snprintf(wrong, wrong_bytes, "has no unit: ms, s, m or h");
        return false;
    }
    if (large || __builtin_mul_overflow(value, *text == '-' ? -factor : factor, &value)) {
        snprintf(wrong, wrong_bytes, "is too large a number");
        return false;
    }
    *number = value;
    return true;
}

static bool in_range(const struct option *option, int64_t number, char *wrong, size_t wrong_bytes) {
    char least[32];
    char most[32];
    if (number >= option->least && number <= option->most) return true;
    if (number == 0 && option->or_zero) return true;
    option_print_number(option, option->least, least, sizeof least);
    option_print_number(option, option->most, most, sizeof most);
    if (option->most == INT64_MAX) {
        snprintf(wrong, wrong_bytes, "is less than %s", least);
    } else {
        snprintf(wrong, wrong_bytes, "is not %sfrom %s to %s", option->or_zero ? "0 or " : "",
                 least, most);
    }
    return false;
}

static bool parse_flag(const char *text, bool *flag) {
    static const char *const words[] = {"false", "true", "no", "yes", "0", "1", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(words[i], text) == 0) {
            *flag = i % 2 == 1;
            return true;
        }
    }
    return false;
}

static bool parse_fraction(const char *text, double *fraction) {
    char *end = NULL;
    // strtod also takes spaces, signs, hexadecimal, infinity and NaN; nobody means those.
    if (strspn(text, "0123456789.e-%") != strlen(text) || *text == '-') return false;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || errno != 0) return false;
    if (*end == '%') {
        value /= 100.0;
        end++;
    }
    if (*end != '\0' || !(value >= 0.0 && value <= 1.0)) return false;
    *fraction = value;
    return true;
}

static bool is_choice(const char *choices, const char *text) {
    const size_t bytes = strlen(text);
    for (const char *at = choices;; at++) {
        const size_t word = strcspn(at, "|");
        if (word == bytes && memcmp(at, text, bytes) == 0) return true;
        at += word;
        if (*at == '\0') return false;
    }
}

static bool parse_until(const char *text, char *wrong, size_t wrong_bytes) {
    int64_t idle_ms = 0;
    if (strcmp(text, "end") == 0 || strcmp(text, "follow") == 0) return true;
    if (strncmp(text, "idle:", 5) == 0) {
        if (!parse_number(text + 5, duration_units, true, &idle_ms, wrong, wrong_bytes)) {
            return false;
        }
        if (idle_ms > 0) return true;
    }
    snprintf(wrong, wrong_bytes, "is not end, follow or idle:TIME, as in idle:30s");
    return false;
}

// The key of a property is what librdkafka looks up; it checks the value.
static bool parse_property(const char *text, char *wrong, size_t wrong_bytes) {
    const char *equals = strchr(text, '=');
    if (equals != NULL && equals != text) return true;
    snprintf(wrong, wrong_bytes, "is not key=value");
    return false;
}

bool option_parse(const struct option *option, const char *text, struct option_value *value,
                  char *wrong, size_t wrong_bytes) {
    value->text = text;
    if (option_takes_value(option) && *text == '\0') {
        snprintf(wrong, wrong_bytes, "is empty");
        return false;
    }
    switch (option->kind) {
    case OPTION_FLAG:
    case OPTION_SHORTHAND:
        if (parse_flag(text, &value->flag)) return true;
        snprintf(wrong, wrong_bytes, "is neither yes nor no");
        return false;
    case OPTION_TEXT: return true;
    case OPTION_CHOICE:
        if (is_choice(option->choices, text)) return true;
        snprintf(wrong, wrong_bytes, "is not one of %s", option->choices);
        return false;
    case OPTION_UNTIL: return parse_until(text, wrong, wrong_bytes);
    case OPTION_LIST: return parse_property(text, wrong, wrong_bytes);
    case OPTION_INTEGER:
    case OPTION_SIZE:
    case OPTION_DURATION:
        return parse_number(text, units_of(option), option->kind == OPTION_DURATION,
                            &value->integer, wrong, wrong_bytes) &&
               in_range(option, value->integer, wrong, wrong_bytes);
    case OPTION_FRACTION:
        if (parse_fraction(text, &value->fraction)) return true;
        snprintf(wrong, wrong_bytes, "is not a share such as 1%% or 0.01");
        return false;
    default: return false;
    }
}
