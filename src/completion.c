#include "src/completion.h"

#include "src/option_table.h"

#include <string.h>

// What an option's value is, as far as a shell can complete it.
enum value_kind { VALUE_NONE, VALUE_ANY, VALUE_CHOICE, VALUE_FOLDER, VALUE_FILE };

static enum value_kind kind_of(const struct option *option) {
    static const char *const files[] = {"SRC", "DST", "FILE"};
    if (!option_takes_value(option)) return VALUE_NONE;
    if (option->choices != NULL) return VALUE_CHOICE;
    const char *value = option_value_text(option);
    if (strcmp(value, "DIR") == 0) return VALUE_FOLDER;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (strcmp(value, files[i]) == 0) return VALUE_FILE;
    }
    return VALUE_ANY;
}

// a|b|c with another mark between.
static void put_choices(const struct option *option, FILE *out) {
    for (const char *at = option->choices; *at != '\0'; at++) {
        fputc(*at == '|' ? ' ' : *at, out);
    }
}

// Between single quotes, for all three shells; `escaped` get a backslash.
static void put_quoted(const char *text, const char *escaped, FILE *out) {
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            fputs("'\\''", out);
            continue;
        }
        if (strchr(escaped, *text) != NULL) fputc('\\', out);
        fputc(*text, out);
    }
}

static void put_verbs(const struct verb *verbs, int count, const char *between, FILE *out) {
    for (int i = 0; i < count; i++) {
        fprintf(out, "%s%s", i > 0 ? between : "", verbs[i].name);
    }
}

// ---- bash

static void bash_values(FILE *out) {
    int count = 0;
    const struct option *rows = option_rows(&count);
    fputs("    case $prev in\n", out);
    for (int i = 0; i < count; i++) {
        const enum value_kind kind = kind_of(&rows[i]);
        if (kind == VALUE_NONE) continue;
        fprintf(out, "    --%s", rows[i].name);
        if (rows[i].letter != 0) fprintf(out, " | -%c", rows[i].letter);
        fputs(") ", out);
        if (kind == VALUE_CHOICE) {
            fputs("COMPREPLY=($(compgen -W '", out);
            put_choices(&rows[i], out);
            fputs("' -- \"$cur\")); ", out);
        } else if (kind != VALUE_ANY) {
            fprintf(out,
                    "compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -%c -- \"$cur\")); ",
                    kind == VALUE_FOLDER ? 'd' : 'f');
        }
        fputs("return ;;\n", out);
    }
    fputs("    esac\n", out);
}

static void bash_options(const struct verb *verb, FILE *out) {
    int count = 0;
    const struct option *rows = option_rows(&count);
    fprintf(out, "    %s) words='", verb->name);
    for (int i = 0; i < count; i++) {
        if ((rows[i].verbs & option_verb_bit(verb->name)) == 0) continue;
        fprintf(out, "--%s ", rows[i].name);
    }
    fputs("' ;;\n", out);
}

static void say_bash(const struct verb *verbs, int count, FILE *out) {
    fputs("# longscan: completion for bash, made by `longscan completion bash`\n"
          "_longscan() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb='' "
          "words='' i\n"
          "    COMPREPLY=()\n"
          "    for ((i = 1; i < COMP_CWORD; i++)); do # that of `run` is followed by another\n"
          "        case $verb,${COMP_WORDS[i]} in\n        ",
          out);
    for (int i = 0; i < count; i++) {
        fprintf(out, "%s,%s | run,%s", i > 0 ? " | " : "", verbs[i].name, verbs[i].name);
    }
    fputs(") verb=${COMP_WORDS[i]} ;;\n        esac\n    done\n", out);
    bash_values(out);
    fputs("    case $verb in\n", out);
    for (int i = 0; i < count; i++) {
        bash_options(&verbs[i], out);
    }
    fputs("    esac\n"
          "    if [[ $verb == '' || ($verb == run && $cur != -*) ]]; then words='",
          out);
    put_verbs(verbs, count, " ", out);
    fputs(" man completion --help --version'; fi\n"
          "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
          "}\n"
          "complete -F _longscan longscan\n",
          out);
}

// ---- zsh

static void zsh_option(const struct option *option, unsigned verb, FILE *out) {
    const enum value_kind kind = kind_of(option);
    const bool again = option->kind == OPTION_LIST;
    for (int form = option->letter != 0 ? 0 : 1; form < 2; form++) {
        fputs(" \\\n        '", out);
        if (again) fputc('*', out);
        if (form == 0) {
            fprintf(out, "-%c[", option->letter);
        } else {
            fprintf(out, "--%s[", option->name);
        }
        put_quoted(option_help(option, verb), "[]:\\", out);
        fputc(']', out);
        if (kind != VALUE_NONE) {
            fputc(':', out);
            put_quoted(kind == VALUE_CHOICE ? option->name : option_value_text(option), "[]:\\",
                       out);
            fputc(':', out);
        }
        if (kind == VALUE_CHOICE) {
            fputc('(', out);
            put_choices(option, out);
            fputc(')', out);
        } else if (kind == VALUE_FOLDER || kind == VALUE_FILE) {
            fputs(kind == VALUE_FOLDER ? "_files -/" : "_files", out);
        }
        fputc('\'', out);
    }
}

static void say_zsh(const struct verb *verbs, int count, FILE *out) {
    int options = 0;
    const struct option *rows = option_rows(&options);
    fputs("#compdef longscan\n"
          "# longscan: completion for zsh, made by `longscan completion zsh`\n"
          "_longscan() {\n"
          "    local -a verbs\n    verbs=(",
          out);
    for (int i = 0; i < count; i++) {
        fprintf(out, "\n        '%s:", verbs[i].name);
        put_quoted(verbs[i].summary, ":\\", out);
        fputc('\'', out);
    }
    fputs("\n    )\n"
          "    if ((CURRENT == 2)); then\n        _describe verb verbs\n        return\n    fi\n"
          "    shift words\n    ((CURRENT--))\n"
          "    case $words[1] in\n",
          out);
    for (int i = 0; i < count; i++) {
        const unsigned bit = option_verb_bit(verbs[i].name);
        fprintf(out, "    %s) _arguments -s", verbs[i].name);
        for (int row = 0; row < options; row++) {
            if ((rows[row].verbs & bit) != 0) zsh_option(&rows[row], bit, out);
        }
        // What follows the verb that `run` starts is completed as if `run` had not been there.
        if (bit == VERB_RUN) fputs(" \\\n        '*:: :_longscan_inner'", out);
        fputs(" ;;\n", out);
    }
    fputs("    esac\n}\n"
          "_longscan_inner() {\n"
          "    words=(longscan $words)\n    ((CURRENT++))\n    _longscan\n}\n"
          "_longscan \"$@\"\n",
          out);
}

// ---- fish

static void fish_option(const struct option *option, const struct verb *verb, FILE *out) {
    const enum value_kind kind = kind_of(option);
    fprintf(out, "complete -c longscan -n '__fish_seen_subcommand_from %s' -l %s", verb->name,
            option->name);
    if (option->letter != 0) fprintf(out, " -s %c", option->letter);
    if (kind != VALUE_NONE) fputs(" -r", out);
    if (kind == VALUE_FILE || kind == VALUE_FOLDER) fputs(" -F", out);
    if (kind == VALUE_CHOICE) {
        fputs(" -f -a '", out);
        put_choices(option, out);
        fputc('\'', out);
    }
    fputs(" -d '", out);
    for (const char *at = option_help(option, option_verb_bit(verb->name)); *at != '\0'; at++) {
        if (*at == '\'' || *at == '\\') fputc('\\', out); // fish's own way
        fputc(*at, out);
    }
    fputs("'\n", out);
}

static void say_fish(const struct verb *verbs, int count, FILE *out) {
    int options = 0;
    const struct option *rows = option_rows(&options);
    fputs("# longscan: completion for fish, made by `longscan completion fish`\n"
          "complete -c longscan -f\n",
          out);
    for (int i = 0; i < count; i++) {
        // a verb comes first, or behind `run`
        fprintf(out, "complete -c longscan -n 'not __fish_seen_subcommand_from ");
        for (int other = 0; other < count; other++) {
            if (option_verb_bit(verbs[other].name) != VERB_RUN)
                fprintf(out, "%s ", verbs[other].name);
        }
        fprintf(out, "' -a %s -d '", verbs[i].name);
        for (const char *at = verbs[i].summary; *at != '\0'; at++) {
            if (*at == '\'' || *at == '\\') fputc('\\', out);
            fputc(*at, out);
        }
        fputs("'\n", out);
    }
    for (int i = 0; i < count; i++) {
        const unsigned bit = option_verb_bit(verbs[i].name);
        for (int row = 0; row < options; row++) {
            if ((rows[row].verbs & bit) != 0) fish_option(&rows[row], &verbs[i], out);
        }
    }
}

enum status completion_say(const char *shell, const struct verb *verbs, int count, FILE *out) {
    if (strcmp(shell, "bash") == 0) {
        say_bash(verbs, count, out);
    } else if (strcmp(shell, "zsh") == 0) {
        say_zsh(verbs, count, out);
    } else if (strcmp(shell, "fish") == 0) {
        say_fish(verbs, count, out);
    } else {
        return FAIL(USAGE, "completion: not bash, zsh or fish");
    }
    return STATUS_OK;
}
