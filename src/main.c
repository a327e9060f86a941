// The program: which verb, which settings, and what the shell hears of the end.

#include "ops/base/log.h"
#include "src/completion.h"
#include "src/help.h"
#include "src/launch.h"
#include "src/option_table.h"
#include "src/options.h"
#include "src/settings.h"
#include "src/stop.h"
#include "src/version.h"

#include <stdio.h>
#include <string.h>

static const char doctor_codes[] =
    "Exit codes: 0, also with warnings; 2 if --backend cuda, --transport nccl or the\n"
    "ranks that the launcher promised are not there, or brokers do not let us in;\n"
    "4 if ranks have different versions; 140 if --brokers are not reached within\n"
    "--broker-timeout; 142 if a rank is lost.\n";

static const char passkey_codes[] =
    "Exit codes: those of score, and 6 if --fail-below is given and a length's accuracy is\n"
    "lower. --output DIR gets results.jsonl, summary.json, summary.csv, heatmap.svg and\n"
    "report.html; without it results go to standard output.\n";

static const struct verb verbs[] = {
    {"score",    "score documents from files or a topic",                  NULL,          verb_score   },
    {"passkey",  "find out how far back a model finds a hidden key",       passkey_codes, verb_passkey },
    {"run",      "start a verb on several ranks through mpirun",           NULL,          verb_run     },
    {"publish",  "write documents into a topic of token records",          NULL,          verb_publish },
    {"read",     "print a topic's results, dead letters or token records", NULL,          verb_read    },
    {"info",     "what a model is: sizes, state, work, what it can hold",  NULL,          verb_info    },
    {"bench",    "measure a model's speed against the machine's limits",   NULL,          verb_bench   },
    {"verify",   "check a model on this machine against exact arithmetic", NULL,          verb_verify  },
    {"doctor",   "what is found on this machine, and what is amiss",       doctor_codes,  verb_doctor  },
    {"tokenize", "turn text into a model's token ids, or back",            NULL,          verb_tokenize},
    {"broker",   "serve an in-memory Kafka broker for trying things out",  NULL,          verb_broker  },
};
#define VERBS ((int)(sizeof verbs / sizeof verbs[0]))

static const struct verb *find_verb(const char *name) {
    for (int i = 0; i < VERBS; i++) {
        if (strcmp(verbs[i].name, name) == 0) return &verbs[i];
    }
    return NULL;
}

static enum status unknown_verb(const char *name) {
    char quoted[80];
    const char *nearest = option_nearest_verb(name);
    options_quote(name, strlen(name), quoted, sizeof quoted);
    if (*name == '-') {
        return FAIL(USAGE,
                    "%s: a verb comes first, as in longscan score --model DIR; see longscan "
                    "--help",
                    quoted);
    }
    if (nearest != NULL) {
        return FAIL(USAGE, "there is no verb \"%s\"; did you mean %s?", quoted, nearest);
    }
    return FAIL(USAGE, "there is no verb \"%s\"; see longscan --help", quoted);
}

// Before a command-line error is said, nothing is known of --log-format.
static void setup_log(const struct settings *settings) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    enum log_level level = LOG_INFO;
    for (int i = 0; i < 4; i++) {
        if (strcmp(names[i], settings->log_level) == 0) level = (enum log_level)i;
    }
    if (settings->quiet && level > LOG_WARN) level = LOG_WARN;
    log_setup(level, strcmp(settings->log_format, "json") == 0 ? LOG_JSON : LOG_TEXT);
}

// Then it looks at dry_run itself.
static bool checks_more(const struct verb *verb) {
    return verb->run == verb_score || verb->run == verb_run || verb->run == verb_bench ||
           verb->run == verb_verify || verb->run == verb_info || verb->run == verb_passkey;
}

static enum status run_with(const struct verb *verb, const struct options *options,
                            int *exit_code) {
    const struct settings *settings = options_settings(options);
    if (settings->help) {
        help_verb(verb, stdout);
        return STATUS_OK;
    }
    if (settings->version) {
        version_say(stdout);
        return STATUS_OK;
    }
    setup_log(settings);
    if (settings->show_config) {
        options_show(options, stdout);
        return STATUS_OK;
    }
    TRY(options_check(options));
    if (settings->dry_run && !checks_more(verb)) {
        LOG(INFO, "dry run: the settings of %s are in order", verb->name);
        return STATUS_OK;
    }
    stop_install();
    return verb->run(settings, exit_code);
}

static enum status run_verb(int count, char *const *arguments, int *exit_code) {
    struct options *options = NULL;
    const struct verb *verb = find_verb(arguments[1]);
    if (verb == NULL) return unknown_verb(arguments[1]);
    TRY(options_open(verb->name, count - 2, arguments + 2, &options));
    const enum status status = run_with(verb, options, exit_code);
    options_close(options);
    return status;
}

// What is asked of the program itself: help, version, manual pages, completion. *done: it was.
static enum status answer(int count, char *const *arguments, bool *done) {
    const char *first = count > 1 ? arguments[1] : "--help";
    const struct verb *about = count > 2 ? find_verb(arguments[2]) : NULL;
    *done = true;
    if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0 ||
        strcmp(first, "version") == 0) {
        version_say(stdout);
        return STATUS_OK;
    }
    if (strcmp(first, "completion") == 0) {
        return completion_say(count > 2 ? arguments[2] : "", verbs, VERBS, stdout);
    }
    const bool man = strcmp(first, "man") == 0;
    if ((man || strcmp(first, "help") == 0) && count > 2) {
        if (about == NULL) return unknown_verb(arguments[2]);
        if (man) {
            help_man(about, stdout);
        } else {
            help_verb(about, stdout);
        }
        return STATUS_OK;
    }
    if (man) {
        help_man_general(verbs, VERBS, stdout);
        return STATUS_OK;
    }
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0 || strcmp(first, "help") == 0) {
        help_general(verbs, VERBS, count > 1 ? stdout : stderr);
        return count > 1 ? STATUS_OK : STATUS_USAGE;
    }
    *done = false;
    return STATUS_OK;
}

int main(int count, char **arguments) {
    bool answered = false;
    int exit_code = -1; // none given
    enum status status = answer(count, arguments, &answered);
    if (!answered) status = run_verb(count, arguments, &exit_code);
    // A full disk shows when the last bytes are written.
    if (fflush(stdout) != 0 && status == STATUS_OK && exit_code <= 0) {
        status = FAIL(IO, "cannot write to standard output");
        exit_code = -1;
    }
    return launch_exit_code(exit_code >= 0 ? exit_code : status_exit_code(status));
}
