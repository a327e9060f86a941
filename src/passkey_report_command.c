// What a report says of its task, and the command that runs it again.

#include "ops/base/json.h"
#include "src/option_table.h"
#include "src/passkey_report_html.h"

#include <inttypes.h>

#define NAME_MOST 64

// A member of the task: its name, and its value's text as a command line has it.
struct member {
    const char *name, *value; // value: JSON; of strings without quotes
    size_t name_bytes, value_bytes;
    enum json_type type;
};

static bool next_member(struct json *json, struct member *member) {
    if (!json_key(json, &member->name, &member->name_bytes)) return false;
    member->type = json_peek(json);
    return member->type == JSON_STRING ? json_string(json, &member->value, &member->value_bytes)
                                       : json_raw(json, &member->value, &member->value_bytes);
}

// Opens the members as one object. text: the caller's to free.
static bool open_members(const struct passkey_facts *facts, struct markup *text,
                         struct json *json) {
    markup(text, "{%s}", facts->task == NULL ? "" : facts->task);
    if (text->status != STATUS_OK) return false;
    json_open(json, text->out.data, text->out.count);
    return json_object(json);
}

// Each member to one of these.
static void put_members(const struct passkey_facts *facts,
                        void (*put)(const struct member *member, struct markup *out),
                        struct markup *out) {
    struct markup text = {0};
    struct json json;
    struct member member;
    if (open_members(facts, &text, &json)) {
        while (next_member(&json, &member)) {
            put(&member, out);
        }
    }
    if (text.status != STATUS_OK) out->status = text.status;
    bytes_free(&text.out);
}

static void put_described(const struct member *member, struct markup *out) {
    markup(out, "<dt>");
    markup_text(out, member->name, member->name_bytes);
    markup(out, "</dt><dd>");
    markup_text(out, member->value, member->value_bytes);
    markup(out, "</dd>\n");
}

void passkey_html_task(const struct passkey_facts *facts, struct markup *out) {
    put_members(facts, put_described, out);
}

// The option of a member's name, '-' for its '_'; NULL: there is none.
static const struct option *option_of(const struct member *member) {
    char name[NAME_MOST];
    if (member->name_bytes >= sizeof name) return NULL;
    for (size_t i = 0; i < member->name_bytes; i++) {
        name[i] = member->name[i] == '_' ? '-' : member->name[i];
    }
    const struct option *option = option_by_name(name, member->name_bytes);
    return option != NULL && (option->verbs & VERB_PASSKEY) != 0 ? option : NULL;
}

// In quotes where a shell asks for them.
static void put_word(struct markup *out, const char *text, size_t bytes) {
    size_t plain = 0;
    while (plain < bytes && text[plain] != '\0' &&
           strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./,:+=%",
                  text[plain]) != NULL) {
        plain++;
    }
    if (plain == bytes && bytes > 0) {
        markup_text(out, text, bytes);
        return;
    }
    markup_text(out, "'", 1);
    for (size_t i = 0, from = 0; i <= bytes; i++) {
        if (i < bytes && text[i] != '\'') continue;
        markup_text(out, text + from, i - from);
        if (i < bytes) markup_text(out, "'\\''", 4);
        from = i + 1;
    }
    markup_text(out, "'", 1);
}

static bool is_text(const struct member *member, const char *text) {
    return member->value_bytes == strlen(text) &&
           memcmp(member->value, text, member->value_bytes) == 0;
}

static bool is_hash(const struct member *member) {
    return member->type == JSON_STRING && member->value_bytes > 5 &&
           memcmp(member->value, "xxh3:", 5) == 0;
}

// Not what an option has by itself.
static void put_option(const struct member *member, struct markup *out) {
    const struct option *option = option_of(member);
    const char *value = member->value;
    size_t bytes = member->value_bytes;
    if (option == NULL || member->type == JSON_NULL || member->type == JSON_OBJECT) return;
    if (is_text(member, "false")) return;
    if (is_hash(member)) return; // what it is of stands by itself
    if (option->fallback != NULL && is_text(member, option->fallback)) return;
    markup(out, " --%s", option->name);
    if (!option_takes_value(option)) return;
    markup(out, " ");
    if (member->type == JSON_ARRAY) {
        put_word(out, value + 1, bytes - 2);
    } else {
        put_word(out, value, bytes);
    }
}

// Where all lengths have as many.
static void put_samples(const struct passkey_map *map, struct markup *out) {
    for (int64_t i = 1; i < map->lengths; i++) {
        if (map->column[i].tally.n != map->column[0].tally.n) return;
    }
    if (map->lengths > 0) markup(out, " --samples %" PRId64, map->column[0].tally.n);
}

static void put_given(struct markup *out, const char *option, const char *value) {
    if (value == NULL) return;
    markup(out, " --%s ", option);
    put_word(out, value, strlen(value));
}

void passkey_html_command(const struct passkey_report *report, const struct passkey_map *map,
                          struct markup *out) {
    const struct passkey_facts *facts = report->facts;
    const char *model = facts->model_option == NULL ? "DIR" : facts->model_option;
    markup(
        out,
        "<section class=\"card\"><h2>To run it again</h2>\n<pre><code>longscan passkey --model ");
    put_word(out, model, strlen(model));
    for (int64_t i = 0; i < map->lengths; i++) {
        char length[PASSKEY_LENGTH_TEXT];
        passkey_length_text(map->column[i].length, length);
        markup(out, "%s%s", i == 0 ? " --lengths " : ",", length);
    }
    put_samples(map, out);
    put_members(facts, put_option, out);
    put_given(out, "filler", facts->filler_option);
    put_given(out, "tokenizer", facts->tokenizer_option);
    put_given(out, "dtype", facts->dtype);
    if (!facts->branched) markup(out, " --unbranched");
    if (facts->trained_on > 0) {
        char length[PASSKEY_LENGTH_TEXT];
        passkey_length_text(facts->trained_on, length);
        markup(out, " --trained-on %s", length);
    }
    markup(out, " --output DIR</code></pre>\n</section>\n");
}
