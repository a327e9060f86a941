#include "ops/base/check.h"
#include "src/options_inner.h"

#include <stdlib.h>
#include <string.h>

extern char **environ;

#define PREFIX       "LONGSCAN_"
#define PREFIX_BYTES (sizeof PREFIX - 1)
#define NAME_MOST    64

enum status options_keep(struct options *options, const char *text, size_t bytes, char **kept) {
    struct kept_text *copy = malloc(sizeof *copy + bytes + 1);
    if (copy == NULL) return FAIL(NO_MEMORY, "options: %zu bytes of text", bytes);
    memcpy(copy->text, text, bytes);
    copy->text[bytes] = '\0';
    copy->next = options->kept;
    options->kept = copy;
    *kept = copy->text;
    return STATUS_OK;
}

const char *options_quote(const char *text, size_t bytes, char *quoted, size_t quoted_bytes) {
    size_t at = 0;
    for (; at < bytes && at + 4 < quoted_bytes; at++) {
        const unsigned char c = (unsigned char)text[at];
        quoted[at] = c < 0x20 || c == 0x7f ? '?' : text[at];
    }
    memcpy(quoted + at, at < bytes ? "..." : "", at < bytes ? 4 : 1);
    return quoted;
}

enum status options_refuse(const struct option *option, const char *text, const char *shown,
                           const char *wrong) {
    char quoted[80];
    if (option->kind == OPTION_LIST) return FAIL(USAGE, "%s: a property %s", shown, wrong);
    options_quote(text, strlen(text), quoted, sizeof quoted);
    return FAIL(USAGE, "%s: \"%s\" %s", shown, quoted, wrong);
}

// The row that holds the value: a shorthand's is that of the option it is short for.
static const struct option *target_of(const struct option *option) {
    int count = 0;
    const struct option *rows = option_rows(&count);
    if (option->kind != OPTION_SHORTHAND) return option;
    for (int i = 0; i < count; i++) {
        if (rows[i].offset == option->offset && rows[i].kind != OPTION_SHORTHAND) return &rows[i];
    }
    return option;
}

// Properties stand in rising order of strength, so that librdkafka, which takes the last, takes
// the strongest.
static enum status add_property(struct options *options, const char *text, enum origin origin,
                                const char *shown) {
    struct settings *settings = &options->settings;
    int64_t at = settings->property_count;
    if (at == PROPERTIES_MOST) {
        return FAIL(USAGE, "%s: more than %d properties", shown, PROPERTIES_MOST);
    }
    for (; at > 0 && options->property_origin[at - 1] > origin; at--) {
        settings->property[at] = settings->property[at - 1];
        options->property_origin[at] = options->property_origin[at - 1];
    }
    settings->property[at] = text;
    options->property_origin[at] = origin;
    settings->property_count++;
    return STATUS_OK;
}

static void store(struct settings *settings, const struct option *option,
                  const struct option_value *value) {
    char *member = (char *)settings + option->offset;
    switch (option->kind) {
    case OPTION_FLAG: memcpy(member, &value->flag, sizeof value->flag); break;
    case OPTION_TEXT:
    case OPTION_CHOICE:
    case OPTION_UNTIL: memcpy(member, &value->text, sizeof value->text); break;
    case OPTION_INTEGER:
    case OPTION_SIZE:
    case OPTION_DURATION: memcpy(member, &value->integer, sizeof value->integer); break;
    case OPTION_FRACTION: memcpy(member, &value->fraction, sizeof value->fraction); break;
    case OPTION_SHORTHAND:
        if (value->flag) memcpy(member, &option->fallback, sizeof option->fallback);
        break;
    case OPTION_LIST: // add_property does it
    default: break;
    }
}

// To take the last one without a word would drop the first.
static enum status given_twice(const struct option *option, const struct option *before,
                               const char *shown) {
    const bool input = option->offset == offsetof(struct settings, input);
    return FAIL(
        USAGE, "%s: --%s is given already%s", shown, before->name,
        input ? "; for several inputs give a folder, a glob in quotes, or @list, a file of names"
              : "");
}

enum status options_assign(struct options *options, const struct option *option, const char *text,
                           enum origin origin, int64_t line, const char *shown) {
    struct option_value value = {0};
    char wrong[160];
    int count = 0;
    if (!option_parse(option, text, &value, wrong, sizeof wrong)) {
        return options_refuse(option, text, shown, wrong);
    }
    if (option->kind == OPTION_LIST) return add_property(options, text, origin, shown);
    if (option->kind == OPTION_SHORTHAND && !value.flag) return STATUS_OK;
    const ptrdiff_t row = target_of(option) - option_rows(&count);
    CHECK(row >= 0 && row < OPTION_ROWS_MOST && row < count);
    if (origin < options->origin[row]) return STATUS_OK;
    if (origin == ORIGIN_ARGUMENT && options->origin[row] == ORIGIN_ARGUMENT &&
        option->kind != OPTION_FLAG) {
        return given_twice(option, options->by[row], shown);
    }
    store(&options->settings, option, &value);
    options->origin[row] = origin;
    options->line[row] = line;
    options->by[row] = option;
    return STATUS_OK;
}

enum status options_make(const char *verb, struct options **made) {
    enum status status = STATUS_OK;
    int count = 0;
    const struct option *rows = option_rows(&count);
    struct options *options = calloc(1, sizeof *options);
    if (options == NULL) return FAIL(NO_MEMORY, "options");
    options->verb = verb;
    options->bit = option_verb_bit(verb);
    if (options->bit == 0) {
        status = FAIL(USAGE, "%s is no verb; see longscan --help", verb);
        goto out;
    }
    for (int i = 0; i < count; i++) {
        if (rows[i].fallback == NULL || rows[i].kind == OPTION_SHORTHAND) continue;
        TRY_OUT(status, options_assign(options, &rows[i], rows[i].fallback, ORIGIN_DEFAULT, 0,
                                       rows[i].name));
    }
    *made = options;
    options = NULL;
out:
    options_close(options);
    return status;
}

static enum status unknown_argument(const struct options *options, const char *text, size_t bytes) {
    char quoted[80];
    options_quote(text, bytes, quoted, sizeof quoted);
    const char *name = text + strspn(text, "-");
    const size_t dashes = (size_t)(name - text);
    const char *nearest = option_nearest(name, bytes - dashes, options->bit);
    const struct option *elsewhere = option_by_name(name, bytes - dashes);
    if (elsewhere != NULL) {
        return FAIL(USAGE, "%s is not an option of %s; see longscan %s --help", quoted,
                    options->verb, options->verb);
    }
    if (nearest != NULL) {
        return FAIL(USAGE, "unknown option %s; did you mean --%s?", quoted, nearest);
    }
    return FAIL(USAGE, "unknown option %s; see longscan %s --help", quoted, options->verb);
}

// --name, --no-name or --clobber for --no-clobber. *negated: the flag is meant to be off.
static const struct option *long_option(const struct options *options, const char *name,
                                        size_t bytes, bool *negated) {
    char other[NAME_MOST + 4];
    const struct option *option = option_by_name(name, bytes);
    *negated = false;
    if (option == NULL && bytes < NAME_MOST) {
        *negated = true;
        if (bytes > 3 && memcmp(name, "no-", 3) == 0) {
            option = option_by_name(name + 3, bytes - 3);
        } else {
            snprintf(other, sizeof other, "no-%.*s", (int)bytes, name);
            option = option_by_name(other, bytes + 3);
        }
        if (option != NULL && option->kind != OPTION_FLAG) option = NULL;
    }
    return option != NULL && (option->verbs & options->bit) != 0 ? option : NULL;
}

// One option at arguments[*at], and its value; *at moves past them.
static enum status take_argument(struct options *options, int count, char *const *arguments,
                                 int *at) {
    const char *text = arguments[(*at)++];
    const bool is_long = text[1] == '-';
    const size_t bytes = is_long ? strcspn(text, "=") : 2;
    const char *value = text[bytes] == '\0' ? NULL : text + bytes + (is_long ? 1 : 0);
    bool negated = false;
    char shown[NAME_MOST + 8];
    const struct option *option =
        is_long ? long_option(options, text + 2, bytes - 2, &negated) : option_by_letter(text[1]);
    if (option == NULL || (option->verbs & options->bit) == 0) {
        return unknown_argument(options, text, bytes);
    }
    snprintf(shown, sizeof shown, "%.*s", (int)bytes, text);
    if (!option_takes_value(option)) {
        if (value != NULL && (negated || !is_long)) {
            return FAIL(USAGE, "%s takes no value", shown);
        }
        if (value == NULL) value = negated ? "no" : "yes";
    } else if (value == NULL) {
        const bool there = *at < count && strncmp(arguments[*at], "--", 2) != 0;
        if (!there) return FAIL(USAGE, "%s needs a value: %s", shown, option_value_text(option));
        value = arguments[(*at)++];
    }
    return options_assign(options, option, value, ORIGIN_ARGUMENT, 0, shown);
}

// What is no option belongs to `run` only: the verb to start, and all that follows, untouched.
static enum status take_rest(struct options *options, int count, char *const *arguments, int at) {
    struct settings *settings = &options->settings;
    char quoted[80];
    if (options->bit != VERB_RUN) {
        options_quote(arguments[at], strlen(arguments[at]), quoted, sizeof quoted);
        return FAIL(USAGE,
                    "unexpected argument \"%s\"; options begin with --, see longscan %s --help",
                    quoted, options->verb);
    }
    if (count - at > RUN_ARGUMENTS_MOST) {
        return FAIL(USAGE, "run: more than %d arguments", RUN_ARGUMENTS_MOST);
    }
    for (; at < count; at++) {
        settings->arguments[settings->argument_count++] = arguments[at];
    }
    return STATUS_OK;
}

static enum status read_arguments(struct options *options, int count, char *const *arguments) {
    int at = 0;
    while (at < count) {
        const char *text = arguments[at];
        if (text[0] != '-' || text[1] == '\0') return take_rest(options, count, arguments, at);
        if (strcmp(text, "--") == 0) {
            return at + 1 < count ? take_rest(options, count, arguments, at + 1) : STATUS_OK;
        }
        TRY(take_argument(options, count, arguments, &at));
    }
    return STATUS_OK;
}

// Properties in the environment stand one a line, for their values hold commas and spaces.
static enum status read_property_lines(struct options *options, const struct option *option,
                                       const char *text, const char *shown) {
    while (*text != '\0') {
        const size_t bytes = strcspn(text, "\n");
        char *line = NULL;
        if (bytes > 0) {
            TRY(options_keep(options, text, bytes, &line));
            TRY(options_assign(options, option, line, ORIGIN_ENVIRONMENT, 0, shown));
        }
        text += bytes + (text[bytes] == '\n');
    }
    return STATUS_OK;
}

// Variables with our prefix that are no options: what `run` and device.c read, and the tests.
static bool is_other_variable(const char *name, size_t bytes) {
    static const char *const others[] = {"world",  "plugin", "mpirun-args", "terminal", "launcher",
                                         "shared", "slow",   "build",       "source"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strlen(others[i]) == bytes && memcmp(others[i], name, bytes) == 0) return true;
    }
    return false;
}

// LONGSCAN_STEP_TOKENS=8k is --step-tokens 8k. What looks like a mistyped option is warned of;
// other variables with our prefix (Kubernetes makes some for a service named longscan) are not.
static enum status read_variable(struct options *options, const char *variable) {
    char name[NAME_MOST];
    char shown[NAME_MOST + PREFIX_BYTES];
    const char *value = strchr(variable, '=');
    size_t bytes = 0;
    if (value == NULL || value[1] == '\0') return STATUS_OK;
    for (const char *at = variable + PREFIX_BYTES; at < value; at++) {
        const char c = *at;
        if (bytes == NAME_MOST || (c >= 'a' && c <= 'z')) return STATUS_OK;
        name[bytes++] = c == '_' ? '-' : c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    snprintf(shown, sizeof shown, "%.*s", (int)(value - variable), variable);
    const struct option *option = option_by_name(name, bytes);
    if (option == NULL) {
        if (is_other_variable(name, bytes)) return STATUS_OK;
        const char *nearest = option_nearest(name, bytes, options->bit);
        if (nearest != NULL) LOG(WARN, "%s means nothing; is --%s meant?", shown, nearest);
        return STATUS_OK;
    }
    if (option->arguments_only || (option->verbs & options->bit) == 0) return STATUS_OK;
    if (option->kind == OPTION_LIST) return read_property_lines(options, option, value + 1, shown);
    return options_assign(options, option, value + 1, ORIGIN_ENVIRONMENT, 0, shown);
}

enum status options_open(const char *verb, int count, char *const *arguments,
                         struct options **opened) {
    enum status status = STATUS_OK;
    struct options *options = NULL;
    TRY_OUT(status, options_make(verb, &options));
    TRY_OUT(status, read_arguments(options, count, arguments));
    if (options->settings.help || options->settings.version) goto done;
    for (char **variable = environ; *variable != NULL; variable++) {
        if (strncmp(*variable, PREFIX, PREFIX_BYTES) == 0) {
            TRY_OUT(status, read_variable(options, *variable));
        }
    }
    if (options->settings.config != NULL) {
        TRY_OUT(status, options_read_file(options, options->settings.config));
    }
done: // whoever asks for help gets it, however wrong the rest is
    *opened = options;
    options = NULL;
out:
    options_close(options);
    return status;
}

const struct settings *options_settings(const struct options *options) {
    return &options->settings;
}

void options_close(struct options *options) {
    if (options == NULL) return;
    while (options->kept != NULL) {
        struct kept_text *next = options->kept->next;
        free(options->kept);
        options->kept = next;
    }
    free(options);
}
