#include "src/help.h"

#include "pipeline/packing.h"
#include "src/option_table.h"

#include <string.h>

#ifndef LONGSCAN_VERSION
#    define LONGSCAN_VERSION "unknown"
#endif

#define HELP_COLUMN 32 // where the words about an option begin

static const char exit_codes[] = "  0    done\n"
                                 "  1    unexpected failure\n"
                                 "  2    wrong usage or configuration\n"
                                 "  3    more bad input than --max-bad\n"
                                 "  4    model, tokenizer, state or numerics do not fit\n"
                                 "  5    with --strict: done, but some documents were bad\n"
                                 "  130  ended at once by a second SIGTERM or SIGINT\n"
                                 "  140  broker unreachable past its deadline\n"
                                 "  141  fenced by another instance of the job\n"
                                 "  142  a rank or a device was lost\n"
                                 "  143  stopped by a signal, everything finished is committed\n";

static const char precedence[] =
    "Every option can also be given as LONGSCAN_<OPTION> in the environment, with _ for -, and as\n"
    "a line `option = value` of --config FILE. The command line wins over the environment, that\n"
    "over the file. Sizes read 4k, 64m, 1g (powers of two), times 200ms, 5s, 2m, 1h.\n";

void help_version(FILE *out) {
#ifdef LONGSCAN_WITH_MPI
    const char *mpi = "MPI";
#else
    const char *mpi = "no MPI";
#endif
#ifdef LONGSCAN_WITH_KAFKA
    const char *kafka = "librdkafka";
#else
    const char *kafka = "no librdkafka";
#endif
    fprintf(out, "longscan %s (%s, %s, %s)\n", LONGSCAN_VERSION, mpi, kafka, packing_versions());
}

void help_general(const struct verb *verbs, int count, FILE *out) {
    fputs("Usage: longscan VERB [options]\n\n"
          "Scores documents of any length with recurrent language models, over any number of\n"
          "ranks, from files or Kafka; the same bits however the work is cut.\n\nVerbs\n",
          out);
    for (int i = 0; i < count; i++) {
        fprintf(out, "  %-10s %s\n", verbs[i].name, verbs[i].summary);
    }
    fputs("\nlongscan VERB --help shows the options of a verb; longscan --version the version.\n\n"
          "Exit codes\n",
          out);
    fputs(exit_codes, out);
}

static void help_option(const struct option *option, FILE *out) {
    char name[96];
    const bool value = option_takes_value(option);
    snprintf(name, sizeof name, "%c%c%c --%s%s%s", option->letter != 0 ? '-' : ' ',
             option->letter != 0 ? option->letter : ' ', option->letter != 0 ? ',' : ' ',
             option->name, value ? " " : "", value ? option_value_text(option) : "");
    const int column = HELP_COLUMN - 4;
    if (strlen(name) > (size_t)column) {
        fprintf(out, "  %s\n  %*s", name, column, "");
    } else {
        fprintf(out, "  %-*s", column, name);
    }
    fprintf(out, "  %s", option->help);
    if (option->fallback != NULL && value && strcmp(option->fallback, "0") != 0) {
        fprintf(out, " (%s)", option->fallback);
    }
    fputc('\n', out);
}

// "--model DIR --input SRC ", as far as the verb needs them.
static void help_usage(unsigned bit, FILE *out) {
    int count = 0;
    const struct option *rows = option_rows(&count);
    for (int i = 0; i < count; i++) {
        if ((rows[i].needed & bit) == 0) continue;
        if (rows[i].letter != 0 && bit == VERB_RUN) {
            fprintf(out, "-%c %s ", rows[i].letter, option_value_text(&rows[i]));
        } else {
            fprintf(out, "--%s %s ", rows[i].name, option_value_text(&rows[i]));
        }
    }
    fputs("[options]", out);
    if (bit == VERB_RUN) fputs(" VERB [its options]", out);
}

void help_verb(const struct verb *verb, FILE *out) {
    const unsigned bit = option_verb_bit(verb->name);
    int count = 0;
    const struct option *rows = option_rows(&count);
    fprintf(out, "Usage: longscan %s ", verb->name);
    help_usage(bit, out);
    fprintf(out, "\n\n%s\n", verb->summary);
    for (int group = 0; group < GROUPS; group++) {
        bool titled = false;
        for (int i = 0; i < count; i++) {
            if ((rows[i].verbs & bit) == 0 || rows[i].group != (enum option_group)group) continue;
            if (!titled) fprintf(out, "\n%s\n", option_group_title((enum option_group)group));
            titled = true;
            help_option(&rows[i], out);
        }
    }
    fprintf(out, "\n%s", precedence);
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

static void man_option(const struct option *option, FILE *out) {
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
    man_text(option->help, out);
    if (option->fallback != NULL && option_takes_value(option)) {
        fputs(" (default: ", out);
        man_text(option->fallback, out);
        fputc(')', out);
    }
    fputc('\n', out);
}

void help_man(const struct verb *verb, FILE *out) {
    const unsigned bit = option_verb_bit(verb->name);
    int count = 0;
    const struct option *rows = option_rows(&count);
    fprintf(out,
            ".TH LONGSCAN\\-%s 1 \"\" \"longscan %s\" \"longscan\"\n.SH NAME\nlongscan\\-%s \\- ",
            verb->name, LONGSCAN_VERSION, verb->name);
    man_text(verb->summary, out);
    fprintf(out, "\n.SH SYNOPSIS\n.B longscan %s\n", verb->name);
    help_usage(bit, out);
    fputs("\n.SH OPTIONS\n", out);
    for (int group = 0; group < GROUPS; group++) {
        bool titled = false;
        for (int i = 0; i < count; i++) {
            if ((rows[i].verbs & bit) == 0 || rows[i].group != (enum option_group)group) continue;
            if (!titled) fprintf(out, ".SS %s\n", option_group_title((enum option_group)group));
            titled = true;
            man_option(&rows[i], out);
        }
    }
    fputs(".SH ENVIRONMENT AND CONFIGURATION\n", out);
    man_text(precedence, out);
    fputs(".SH EXIT STATUS\n.nf\n", out);
    man_text(exit_codes, out);
    fputs(".fi\n", out);
}
