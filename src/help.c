#include "src/help.h"

#include "src/option_table.h"

#include <string.h>

#define HELP_COLUMN  32 // where the words about an option begin
#define HELP_COLUMNS 80

static const char exit_codes[] = "  0    done\n"
                                 "  1    unexpected failure\n"
                                 "  2    wrong usage or configuration\n"
                                 "  3    more bad input than --max-bad\n"
                                 "  4    model, tokenizer, state or numerics do not fit\n"
                                 "  5    with --strict: done, but some documents were bad\n"
                                 "  6    verify: the model is not right on this machine\n"
                                 "  130  ended at once by a second SIGTERM or SIGINT\n"
                                 "  140  broker unreachable past its deadline\n"
                                 "  141  fenced by another instance (not in this version)\n"
                                 "  142  a rank or a device was lost\n"
                                 "  143  stopped by a signal, everything finished is committed\n";

static const char precedence[] =
    "Every option can also be given as LONGSCAN_<OPTION> in the environment, with _\n"
    "for -, and as a line `option = value` of --config FILE. The command line wins\n"
    "over the environment, that over the file. Sizes read 4k, 64m, 1g (powers of\n"
    "two), times 200ms, 5s, 2m, 1h.\n";

void help_general(const struct verb *verbs, int count, FILE *out) {
    fputs("Usage: longscan VERB [options]\n\n"
          "Scores documents of any length with recurrent language models, over any number\n"
          "of ranks, from files or Kafka; the same bits however the work is cut.\n\nVerbs\n",
          out);
    for (int i = 0; i < count; i++) {
        fprintf(out, "  %-10s %s\n", verbs[i].name, verbs[i].summary);
    }
    fputs("\nlongscan VERB --help shows a verb's options, longscan man VERB its manual page.\n"
          "longscan completion bash|zsh|fish prints what the shell completes with.\n\n"
          "Exit codes\n",
          out);
    fputs(exit_codes, out);
}

// Words from `column` on, broken before HELP_COLUMNS; further lines begin at `indent`. Returns the
// column where they end.
static size_t print_words(const char *text, size_t column, size_t indent, FILE *out) {
    while (*text != '\0') {
        const size_t bytes = strcspn(text, " ");
        const bool first = column <= indent;
        if (!first && column + 1 + bytes > HELP_COLUMNS) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (!first) {
            fputc(' ', out);
            column++;
        }
        fwrite(text, 1, bytes, out);
        column += bytes;
        text += bytes;
        text += strspn(text, " ");
    }
    return column;
}

static void help_option(const struct option *option, unsigned verb, FILE *out) {
    char name[96];
    const bool value = option_takes_value(option);
    snprintf(name, sizeof name, "%c%c%c --%s%s%s", option->letter != 0 ? '-' : ' ',
             option->letter != 0 ? option->letter : ' ', option->letter != 0 ? ',' : ' ',
             option->name, value ? " " : "", value ? option_value_text(option) : "");
    char words[256];
    const int column = HELP_COLUMN - 4;
    const bool shown = option->fallback != NULL && value && strcmp(option->fallback, "0") != 0;
    if (strlen(name) > (size_t)column) {
        fprintf(out, "  %s\n%*s", name, HELP_COLUMN, "");
    } else {
        fprintf(out, "  %-*s  ", column, name);
    }
    snprintf(words, sizeof words, "%s%s%s%s", option_help(option, verb), shown ? " (" : "",
             shown ? option->fallback : "", shown ? ")" : "");
    print_words(words, HELP_COLUMN, HELP_COLUMN, out);
    fputc('\n', out);
}

// "--model DIR --input SRC ", as far as the verb needs them.
static void help_usage(unsigned bit, char *text, size_t bytes) {
    int count = 0;
    size_t at = 0;
    const struct option *rows = option_rows(&count);
    for (int i = 0; i < count; i++) {
        if ((rows[i].needed & bit) == 0) continue;
        if (rows[i].letter != 0 && bit == VERB_RUN) {
            at += (size_t)snprintf(text + at, bytes - at, "-%c %s ", rows[i].letter,
                                   option_value_text(&rows[i]));
        } else {
            at += (size_t)snprintf(text + at, bytes - at, "--%s %s ", rows[i].name,
                                   option_value_text(&rows[i]));
        }
    }
    snprintf(text + at, bytes - at, "[options]%s", bit == VERB_RUN ? " VERB [its options]" : "");
}

void help_verb(const struct verb *verb, FILE *out) {
    const unsigned bit = option_verb_bit(verb->name);
    int count = 0;
    const struct option *rows = option_rows(&count);
    char usage[512];
    help_usage(bit, usage, sizeof usage);
    const int column = fprintf(out, "Usage: longscan %s", verb->name);
    print_words(usage, (size_t)column, strlen("Usage: longscan "), out);
    fprintf(out, "\n\n%s\n", verb->summary);
    for (int group = 0; group < GROUPS; group++) {
        bool titled = false;
        for (int i = 0; i < count; i++) {
            if ((rows[i].verbs & bit) == 0 || rows[i].group != (enum option_group)group) continue;
            if (!titled) fprintf(out, "\n%s\n", option_group_title((enum option_group)group));
            titled = true;
            help_option(&rows[i], bit, out);
        }
    }
    fprintf(out, "\n%s", precedence);
    if (verb->note != NULL) fprintf(out, "\n%s", verb->note);
}

// Text for roff: a - must not become a hyphen, and a line must not begin with a control character.
static void man_text(const char *text, FILE *out) {
    if (*text == '.' || *text == '\'') fputs("\\&", out);
    for (; *text != '\0'; text++) {
        if (*text == '-') {
            fputs("\\-", out);
        } else if (*text == '\\') {
            fputs("\\e", out);
        } else {
            fputc(*text, out);
        }
    }
}

static void man_option(const struct option *option, unsigned verb, FILE *out) {
    fputs(".TP\n", out);
    if (option->letter != 0) fprintf(out, "\\fB\\-%c\\fR, ", option->letter);
    fputs("\\fB\\-\\-", out);
    man_text(option->name, out);
    fputs("\\fR", out);
    if (option_takes_value(option)) {
        fputs(" \\fI", out);
        man_text(option_value_text(option), out);
        fputs("\\fR", out);
    }
    fputc('\n', out);
    man_text(option_help(option, verb), out);
    if (option->fallback != NULL && option_takes_value(option)) {
        fputs(" (default: ", out);
        man_text(option->fallback, out);
        fputc(')', out);
    }
    fputc('\n', out);
}

static void man_end(const char *note, FILE *out) {
    fputs(".SH ENVIRONMENT AND CONFIGURATION\n", out);
    man_text(precedence, out);
    if (note != NULL) {
        fputs(".SH NOTES\n", out);
        man_text(note, out);
    }
    fputs(".SH EXIT STATUS\n.nf\n", out);
    man_text(exit_codes, out);
    fputs(".fi\n", out);
}

void help_man(const struct verb *verb, FILE *out) {
    char usage[512];
    const unsigned bit = option_verb_bit(verb->name);
    int count = 0;
    const struct option *rows = option_rows(&count);
    fprintf(out,
            ".TH LONGSCAN\\-%s 1 \"\" \"longscan %s\" \"longscan\"\n.SH NAME\nlongscan\\-%s \\- ",
            verb->name, LONGSCAN_VERSION, verb->name);
    man_text(verb->summary, out);
    fprintf(out, "\n.SH SYNOPSIS\n.B longscan %s\n", verb->name);
    help_usage(bit, usage, sizeof usage);
    man_text(usage, out);
    fputs("\n.SH OPTIONS\n", out);
    for (int group = 0; group < GROUPS; group++) {
        bool titled = false;
        for (int i = 0; i < count; i++) {
            if ((rows[i].verbs & bit) == 0 || rows[i].group != (enum option_group)group) continue;
            if (!titled) fprintf(out, ".SS %s\n", option_group_title((enum option_group)group));
            titled = true;
            man_option(&rows[i], bit, out);
        }
    }
    man_end(verb->note, out);
    fputs(".SH SEE ALSO\n.BR longscan (1)\n", out);
}

void help_man_general(const struct verb *verbs, int count, FILE *out) {
    fputs(".TH LONGSCAN 1 \"\" \"longscan " LONGSCAN_VERSION "\" \"longscan\"\n"
          ".SH NAME\nlongscan \\- score documents of any length with recurrent language models\n"
          ".SH SYNOPSIS\n.B longscan\n.I VERB\n[options]\n"
          ".SH DESCRIPTION\n"
          "Documents come from files or Kafka and are spread over any number of ranks; a\n"
          "document's score is the same, bit for bit, however the work is cut.\n"
          ".SH VERBS\n",
          out);
    for (int i = 0; i < count; i++) {
        fprintf(out, ".TP\n.BR longscan\\-%s (1)\n", verbs[i].name);
        man_text(verbs[i].summary, out);
        fputc('\n', out);
    }
    fputs(".PP\n.B longscan completion bash|zsh|fish\n"
          "prints what a shell completes commands with.\n",
          out);
    man_end(NULL, out);
}
