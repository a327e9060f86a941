// What the merged settings are, where each came from, and whether they fit each other.

#include "src/options_inner.h"

#include <inttypes.h>
#include <string.h>

static const void *member_of(const struct settings *settings, const struct option *option) {
    return (const char *)settings + option->offset;
}

static const char *text_of(const struct settings *settings, const struct option *option) {
    const char *text = NULL;
    memcpy(&text, member_of(settings, option), sizeof text);
    return text;
}

// Text as it stands between double quotes, so that the file reader gives back the same.
static void show_bytes(const char *text, size_t bytes, FILE *out) {
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '"' || text[i] == '\\') fputc('\\', out);
        fputc(text[i], out);
    }
}

static void show_text(const char *text, FILE *out) {
    fputc('"', out);
    show_bytes(text, strlen(text), out);
    fputc('"', out);
}

// A key that names a secret: its value must not end up in logs.
static bool is_secret(const char *property) {
    static const char *const words[] = {"password", "secret", "jaas", ".pem", "token", "key"};
    char key[128];
    size_t bytes = strcspn(property, "=");
    if (bytes >= sizeof key) return true;
    for (size_t i = 0; i < bytes; i++) {
        key[i] = property[i] >= 'A' && property[i] <= 'Z' ? (char)(property[i] + 32) : property[i];
    }
    key[bytes] = '\0';
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strstr(key, words[i]) != NULL) return true;
    }
    return false;
}

static void show_value(const struct settings *settings, const struct option *option, FILE *out) {
    char number[32];
    bool flag = false;
    int64_t integer = 0;
    double fraction = 0.0;
    switch (option->kind) {
    case OPTION_FLAG:
        memcpy(&flag, member_of(settings, option), sizeof flag);
        fputs(flag ? "yes" : "no", out);
        break;
    case OPTION_INTEGER:
    case OPTION_SIZE:
    case OPTION_DURATION:
        memcpy(&integer, member_of(settings, option), sizeof integer);
        option_print_number(option, integer, number, sizeof number);
        fputs(number, out);
        break;
    case OPTION_FRACTION:
        memcpy(&fraction, member_of(settings, option), sizeof fraction);
        fprintf(out, "%.12g", fraction);
        break;
    case OPTION_TEXT:
    case OPTION_CHOICE:
    case OPTION_UNTIL:
    case OPTION_LIST:
    case OPTION_SHORTHAND:
    default: show_text(text_of(settings, option), out); break;
    }
}

// What 0 stands for, out of the help: "; 0: eight steps". Returns the bytes of the meaning.
static size_t meaning_of_zero(const struct settings *settings, const struct option *option,
                              const char **meaning) {
    int64_t integer = 1;
    const char *at = strstr(option->help, "; 0: ");
    if (at == NULL) return 0;
    memcpy(&integer, member_of(settings, option), sizeof integer);
    *meaning = at + strlen("; 0: ");
    return integer == 0 ? strcspn(*meaning, ";") : 0;
}

static void show_origin(const struct options *options, enum origin origin, int64_t line,
                        const char *name, FILE *out) {
    switch (origin) {
    case ORIGIN_ARGUMENT: fputs("  # command line\n", out); break;
    case ORIGIN_ENVIRONMENT:
        fputs("  # LONGSCAN_", out);
        for (; *name != '\0'; name++) {
            fputc(*name == '-' ? '_' : *name >= 'a' && *name <= 'z' ? *name - 32 : *name, out);
        }
        fputc('\n', out);
        break;
    case ORIGIN_FILE:
        fprintf(out, "  # %s", options->file != NULL ? options->file : "file");
        if (line > 0) fprintf(out, ":%" PRId64, line);
        fputc('\n', out);
        break;
    case ORIGIN_DEFAULT:
    default: fputs("  # default\n", out); break;
    }
}

static void show_properties(const struct options *options, FILE *out) {
    for (int64_t i = 0; i < options->settings.property_count; i++) {
        const char *property = options->settings.property[i];
        fputs("property = ", out);
        if (is_secret(property)) {
            fputc('"', out);
            show_bytes(property, strcspn(property, "="), out);
            fputs("=***\"", out);
        } else {
            show_text(property, out);
        }
        show_origin(options, options->property_origin[i], 0, "property", out);
    }
}

// Has neither a default nor been given.
static bool is_missing(const struct settings *settings, const struct option *option) {
    int64_t integer = 0;
    if (option->fallback != NULL || option->kind == OPTION_FLAG) return false;
    if (option->kind == OPTION_TEXT) return text_of(settings, option) == NULL;
    memcpy(&integer, member_of(settings, option), sizeof integer);
    return integer == 0; // which is in no such option's range
}

void options_show(const struct options *options, FILE *out) {
    int count = 0;
    const struct option *rows = option_rows(&count);
    for (int i = 0; i < count; i++) {
        const struct option *option = &rows[i];
        if ((option->verbs & options->bit) == 0 || option->arguments_only) continue;
        if (option->kind == OPTION_SHORTHAND) continue;
        if (option->kind == OPTION_LIST) {
            show_properties(options, out);
            continue;
        }
        const bool comment = option->offset == offsetof(struct settings, config);
        if (is_missing(&options->settings, option)) {
            if (!comment) fprintf(out, "# %s is not set\n", option->name);
            continue;
        }
        // --config itself cannot stand in a file, so here it is a comment.
        fprintf(out, "%s%s = ", comment ? "# " : "", option->name);
        show_value(&options->settings, option, out);
        const char *meaning = NULL;
        const size_t bytes = meaning_of_zero(&options->settings, option, &meaning);
        if (bytes > 0) fprintf(out, "  # 0: %.*s", (int)bytes, meaning);
        show_origin(options, options->origin[i], options->line[i], option->name, out);
    }
}

static enum status check_kafka(const struct settings *settings) {
    const bool from = settings->input != NULL && strncmp(settings->input, "kafka:", 6) == 0;
    const bool to = settings->output != NULL && strncmp(settings->output, "kafka:", 6) == 0;
    if (!from && !to) return STATUS_OK;
    if (settings->brokers == NULL) {
        return FAIL(USAGE, "--%s %s needs --brokers HOST:PORT,...", from ? "input" : "output",
                    from ? settings->input : settings->output);
    }
    if ((from && settings->input[6] == '\0') || (to && settings->output[6] == '\0')) {
        return FAIL(USAGE, "--%s kafka: needs a topic, as in kafka:TOPIC",
                    from ? "input" : "output");
    }
    if (from && settings->resume) {
        return FAIL(USAGE, "--resume is for files; a topic goes on from its committed offsets");
    }
    return STATUS_OK;
}

enum status options_check(const struct options *options) {
    const struct settings *settings = &options->settings;
    int count = 0;
    const struct option *rows = option_rows(&count);
    for (int i = 0; i < count; i++) {
        if ((rows[i].needed & options->bit) == 0 || !is_missing(settings, &rows[i])) continue;
        return FAIL(USAGE, "%s needs --%s %s; see longscan %s --help", options->verb, rows[i].name,
                    option_value_text(&rows[i]), options->verb);
    }
    if (options->bit == VERB_SCORE) {
        TRY(check_kafka(settings));
        if (settings->group_size > 0 && settings->ranks > 1 &&
            settings->ranks % settings->group_size != 0) {
            return FAIL(USAGE, "--group-size %" PRId64 " does not divide --ranks %" PRId64,
                        settings->group_size, settings->ranks);
        }
        if (settings->ranks > 1 && strcmp(settings->transport, "mpi") == 0) {
            return FAIL(USAGE,
                        "--ranks are threads of one process, without MPI: for --transport "
                        "mpi use longscan run -n %" PRId64 " score ...",
                        settings->ranks);
        }
    }
    // A record on the wire holds 512 KiB, and a token takes at least two bytes.
    if (options->bit == VERB_PUBLISH && settings->record_tokens > INT64_C(1) << 18) {
        return FAIL(USAGE, "--record-tokens: a record in a topic holds at most 256k tokens");
    }
    if (options->bit == VERB_RUN && settings->argument_count == 0) {
        return FAIL(USAGE, "run needs a verb to start, as in longscan run -n 4 score --model DIR");
    }
    options_tell_unused(options);
    return STATUS_OK;
}
