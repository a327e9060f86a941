// Options on the command line that the rest of it leaves without effect: whoever wrote them is told. In
// the environment and in files they may well serve other runs.

#include "src/kafka_options.h"
#include "src/launch.h"
#include "src/options_inner.h"

#include <stdlib.h>
#include <string.h>

static bool is_topic(const char *name) {
    return kafka_options_topic(name) != NULL;
}

static void tell(const struct options *options, const char *name, const char *why) {
    int count = 0;
    const struct option *option = option_by_name(name, strlen(name));
    const ptrdiff_t row = option - option_rows(&count);
    const bool listed =
        option->kind == OPTION_LIST && options->settings.property_count > 0 &&
        options->property_origin[options->settings.property_count - 1] == ORIGIN_ARGUMENT;
    if (!listed && options->origin[row] != ORIGIN_ARGUMENT) return;
    LOG(WARN, "--%s has no effect: %s", listed ? name : options->by[row]->name, why);
}

void options_tell_unused(const struct options *options) {
    static const char *const kafka[] = {"brokers", "property", "broker-timeout"};
    static const char *const topic_in[] = {"input-format", "until", "close-open"};
    static const char *const files_in[] = {"format", "max-line", "record-tokens"};
    const struct settings *settings = &options->settings;
    const bool in = is_topic(settings->input);
    const bool any = in || is_topic(settings->output) || is_topic(settings->dead_letters) ||
                     is_topic(settings->windows);
    // `longscan run` has told already, once
    if (options->bit != VERB_SCORE || getenv(LAUNCH_LAUNCHER) != NULL) return;
    for (size_t i = 0; !any && i < sizeof kafka / sizeof kafka[0]; i++) {
        tell(options, kafka[i], "no topic is read or written");
    }
    for (size_t i = 0; !in && i < sizeof topic_in / sizeof topic_in[0]; i++) {
        tell(options, topic_in[i], "the input is no topic");
    }
    for (size_t i = 0; in && i < sizeof files_in / sizeof files_in[0]; i++) {
        tell(options, files_in[i], "the input is a topic");
    }
    if (is_topic(settings->output)) {
        tell(options, "no-clobber", "results go to a topic, which is added to");
    } else if (strcmp(settings->output, "-") == 0) {
        tell(options, "no-clobber", "results go to standard output");
    }
    if (!is_topic(settings->output) && !is_topic(settings->dead_letters)) {
        tell(options, "encoding", "no topic is written; files and standard output hold JSON lines");
    }
    if (strcmp(settings->output, "-") != 0) {
        tell(options, "print", "results go to --output, not to standard output");
    } else if (strcmp(settings->print, "table") == 0) {
        tell(options, "token-nll", "a table has no room for it; use --print json");
        tell(options, "score-every", "a table has no room for it; use --print json");
    }
}
