// The parts of a tokenizer.json around its tokens: each is one of the few kinds that are read, or
// refused by its name.
#include "pipeline/bpe_vocab_inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define GPT2_PATTERN \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

enum status vocab_members(const struct vocab_parsing *parsing, const char *where, const char *raw,
                          size_t bytes, struct vocab_member *member, int members) {
    struct json json;
    const char *key = NULL;
    size_t key_bytes = 0;
    json_open(&json, raw, bytes);
    json_object(&json);
    while (json_key(&json, &key, &key_bytes)) {
        struct vocab_member *found = NULL;
        for (int i = 0; i < members && found == NULL; i++) {
            if (json_is(key, key_bytes, member[i].name)) found = &member[i];
        }
        if (found == NULL) {
            json_skip(&json);
            continue;
        }
        if (found->raw != NULL) {
            return FAIL(MISMATCH, "%s: %s.%s is there twice", parsing->path, where, found->name);
        }
        json_raw(&json, &found->raw, &found->bytes);
    }
    if (json_end(&json)) return STATUS_OK;
    return FAIL(MISMATCH, "%s: %s is not a JSON object: %s at its byte %zu", parsing->path, where,
                json.wrong, json.wrong_at);
}

bool vocab_is_null(const struct vocab_member *member) {
    return member->raw == NULL || (member->bytes == 4 && memcmp(member->raw, "null", 4) == 0);
}

bool vocab_is_text(const struct vocab_member *member, const char *text) {
    return member->raw != NULL && member->bytes >= 2 && member->raw[0] == '"' &&
           json_is(member->raw + 1, member->bytes - 2, text);
}

int vocab_shown(const struct vocab_member *member) {
    return member->bytes < 80 ? (int)member->bytes : 80;
}

enum status vocab_flag(const struct vocab_parsing *parsing, const char *where,
                       const struct vocab_member *member, bool otherwise, bool *value) {
    struct json json;
    *value = otherwise;
    if (vocab_is_null(member)) return STATUS_OK;
    json_open(&json, member->raw, member->bytes);
    if (json_bool(&json, value)) return STATUS_OK;
    return FAIL(MISMATCH, "%s: %s.%s is %.*s, not true or false", parsing->path, where,
                member->name, vocab_shown(member), member->raw);
}

// The one flag must have the one value that is supported.
static enum status need_flag(const struct vocab_parsing *parsing, const char *where,
                             const struct vocab_member *member, bool otherwise, bool needed) {
    bool value = false;
    TRY(vocab_flag(parsing, where, member, otherwise, &value));
    if (value == needed) return STATUS_OK;
    return FAIL(MISMATCH, "%s: %s.%s is %s, which is not supported", parsing->path, where,
                member->name, value ? "true" : "false");
}

static enum status refuse(const struct vocab_parsing *parsing, const char *where,
                          const struct vocab_member *type, const char *supported) {
    return FAIL(MISMATCH, "%s: %s is %.*s, which is not supported; this version reads %s",
                parsing->path, where, type->raw == NULL ? 9 : vocab_shown(type),
                type->raw == NULL ? "not there" : type->raw, supported);
}

static enum status read_normalizer(const struct vocab_parsing *parsing,
                                   const struct vocab_member *normalizer) {
    struct vocab_member type = {.name = "type"};
    if (vocab_is_null(normalizer)) return STATUS_OK;
    TRY(vocab_members(parsing, "normalizer", normalizer->raw, normalizer->bytes, &type, 1));
    if (!vocab_is_text(&type, "NFC")) {
        return refuse(parsing, "normalizer.type", &type, "NFC, or no normalizer");
    }
    parsing->vocab->nfc = true;
    return STATUS_OK;
}

static enum status read_pattern(struct vocab_parsing *parsing, const struct vocab_member *split) {
    const char *const where = "pre_tokenizer.pretokenizers[0]";
    enum { TYPE, PATTERN, BEHAVIOR, INVERT, MEMBERS };
    struct vocab_member member[MEMBERS] = {
        {.name = "type"}, {.name = "pattern"}, {.name = "behavior"}, {.name = "invert"}};
    struct vocab_member regex = {.name = "Regex"};
    TRY(vocab_members(parsing, where, split->raw, split->bytes, member, MEMBERS));
    if (!vocab_is_text(&member[TYPE], "Split")) {
        return refuse(parsing, "pre_tokenizer.pretokenizers[0].type", &member[TYPE], "Split");
    }
    if (!vocab_is_text(&member[BEHAVIOR], "Isolated")) {
        return refuse(parsing, "pre_tokenizer.pretokenizers[0].behavior", &member[BEHAVIOR],
                      "Isolated");
    }
    TRY(need_flag(parsing, where, &member[INVERT], false, false));
    if (member[PATTERN].raw != NULL) {
        TRY(vocab_members(parsing, "pre_tokenizer.pretokenizers[0].pattern", member[PATTERN].raw,
                          member[PATTERN].bytes, &regex, 1));
    }
    if (regex.raw == NULL || regex.raw[0] != '"') {
        return refuse(parsing, "pre_tokenizer.pretokenizers[0].pattern", &member[PATTERN],
                      "a pattern that is a Regex");
    }
    if (regex.bytes > PATTERN_BYTES) {
        return FAIL(MISMATCH, "%s: %s.pattern has %zu bytes, more than %d", parsing->path, where,
                    regex.bytes, PATTERN_BYTES);
    }
    char *pattern = malloc(regex.bytes);
    if (pattern == NULL) return FAIL(NO_MEMORY, "a pattern");
    const size_t length = json_unescape(regex.raw + 1, regex.bytes - 2, pattern);
    pattern[length] = '\0';
    if (strlen(pattern) != length) {
        free(pattern);
        return FAIL(MISMATCH, "%s: %s.pattern has a NUL inside", parsing->path, where);
    }
    if (strcmp(pattern, GPT2_PATTERN) == 0) {
        free(pattern);
    } else {
        parsing->vocab->pattern = pattern;
    }
    return STATUS_OK;
}

// use_regex: what it must be here.
static enum status check_byte_level(const struct vocab_parsing *parsing, const char *where,
                                    const struct vocab_member *object, bool use_regex) {
    enum { TYPE, PREFIX, REGEX, MEMBERS };
    char name[96];
    struct vocab_member member[MEMBERS] = {
        {.name = "type"}, {.name = "add_prefix_space"}, {.name = "use_regex"}};
    TRY(vocab_members(parsing, where, object->raw, object->bytes, member, MEMBERS));
    if (!vocab_is_text(&member[TYPE], "ByteLevel")) {
        snprintf(name, sizeof name, "%s.type", where);
        return refuse(parsing, name, &member[TYPE],
                      "ByteLevel, or a Sequence of Split and ByteLevel");
    }
    TRY(need_flag(parsing, where, &member[PREFIX], true, false));
    return need_flag(parsing, where, &member[REGEX], true, use_regex);
}

// Split by a pattern of the file's own, then ByteLevel without one.
static enum status read_sequence(struct vocab_parsing *parsing, const struct vocab_member *list) {
    struct vocab_member step[2] = {{.name = NULL}, {.name = NULL}};
    struct json json;
    int steps = 0;
    json_open(&json, list->raw == NULL ? "" : list->raw, list->bytes);
    json_array(&json);
    while (json_item(&json)) {
        struct vocab_member more = {0};
        if (!json_raw(&json, &more.raw, &more.bytes)) break;
        if (steps < 2) step[steps] = more;
        steps++;
    }
    if (!json_end(&json) || steps != 2) {
        return FAIL(MISMATCH,
                    "%s: pre_tokenizer.pretokenizers has %d steps, which is not supported; this "
                    "version reads Split and ByteLevel",
                    parsing->path, steps);
    }
    TRY(read_pattern(parsing, &step[0]));
    return check_byte_level(parsing, "pre_tokenizer.pretokenizers[1]", &step[1], false);
}

static enum status read_pre_tokenizer(struct vocab_parsing *parsing,
                                      const struct vocab_member *pre_tokenizer) {
    enum { TYPE, STEPS, MEMBERS };
    struct vocab_member member[MEMBERS] = {{.name = "type"}, {.name = "pretokenizers"}};
    if (vocab_is_null(pre_tokenizer)) {
        return FAIL(MISMATCH,
                    "%s: pre_tokenizer is null or not there, which is not supported; this version "
                    "reads ByteLevel",
                    parsing->path);
    }
    TRY(vocab_members(parsing, "pre_tokenizer", pre_tokenizer->raw, pre_tokenizer->bytes, member,
                      MEMBERS));
    if (vocab_is_text(&member[TYPE], "Sequence")) return read_sequence(parsing, &member[STEPS]);
    return check_byte_level(parsing, "pre_tokenizer", pre_tokenizer, true);
}

static enum status check_decoder(const struct vocab_parsing *parsing,
                                 const struct vocab_member *part) {
    struct vocab_member type = {.name = "type"};
    if (vocab_is_null(part)) return STATUS_OK;
    TRY(vocab_members(parsing, "decoder", part->raw, part->bytes, &type, 1));
    if (vocab_is_text(&type, "ByteLevel")) return STATUS_OK;
    return refuse(parsing, "decoder.type", &type, "ByteLevel");
}

// What changes no id of the text: nothing, ByteLevel, a template of tokens around it, or these in
// turn. What a template adds is not added here: a warning says so.
static enum status check_post_processor(const struct vocab_parsing *parsing,
                                        const struct vocab_member *part, bool is_step) {
    enum { TYPE, STEPS, SPECIAL, MEMBERS };
    struct vocab_member member[MEMBERS] = {
        {.name = "type"}, {.name = "processors"}, {.name = "special_tokens"}};
    struct json json;
    if (vocab_is_null(part)) return STATUS_OK;
    TRY(vocab_members(parsing, "post_processor", part->raw, part->bytes, member, MEMBERS));
    if (vocab_is_text(&member[TYPE], "ByteLevel")) return STATUS_OK;
    if (vocab_is_text(&member[TYPE], "TemplateProcessing")) {
        const struct vocab_member *special = &member[SPECIAL];
        if (special->raw != NULL && memchr(special->raw, '"', special->bytes) != NULL) {
            LOG(WARN,
                "%s: post_processor puts tokens around a text; they are not added, --bos puts one "
                "before it",
                parsing->path);
        }
        return STATUS_OK;
    }
    if (!vocab_is_text(&member[TYPE], "Sequence") || is_step) {
        return refuse(parsing, "post_processor.type", &member[TYPE],
                      "ByteLevel, TemplateProcessing, or a Sequence of these");
    }
    json_open(&json, member[STEPS].raw == NULL ? "" : member[STEPS].raw, member[STEPS].bytes);
    json_array(&json);
    while (json_item(&json)) {
        struct vocab_member step = {.name = "post_processor"};
        if (!json_raw(&json, &step.raw, &step.bytes)) break;
        TRY(check_post_processor(parsing, &step, true));
    }
    if (json_end(&json)) return STATUS_OK;
    return FAIL(MISMATCH, "%s: post_processor.processors is not a list", parsing->path);
}

static enum status read_model(struct vocab_parsing *parsing, const struct vocab_member *model,
                              const struct vocab_member *added) {
    enum { TYPE, VOCAB, MERGES, DROPOUT, PREFIX, SUFFIX, FALLBACK, WHOLE, MEMBERS };
    struct vocab_member member[MEMBERS] = {{.name = "type"},
                                           {.name = "vocab"},
                                           {.name = "merges"},
                                           {.name = "dropout"},
                                           {.name = "continuing_subword_prefix"},
                                           {.name = "end_of_word_suffix"},
                                           {.name = "byte_fallback"},
                                           {.name = "ignore_merges"}};
    if (vocab_is_null(model)) return FAIL(MISMATCH, "%s has no model", parsing->path);
    TRY(vocab_members(parsing, "model", model->raw, model->bytes, member, MEMBERS));
    // older files do not name it
    if (!vocab_is_null(&member[TYPE]) && !vocab_is_text(&member[TYPE], "BPE")) {
        return refuse(parsing, "model.type", &member[TYPE], "BPE over bytes");
    }
    if (!vocab_is_null(&member[DROPOUT]) &&
        !(member[DROPOUT].raw[0] == '0' &&
          strspn(member[DROPOUT].raw, "0.") >= member[DROPOUT].bytes)) {
        return FAIL(MISMATCH, "%s: model.dropout is %.*s, which is not supported: it draws lots",
                    parsing->path, vocab_shown(&member[DROPOUT]), member[DROPOUT].raw);
    }
    for (int i = PREFIX; i <= SUFFIX; i++) {
        if (vocab_is_null(&member[i]) || vocab_is_text(&member[i], "")) continue;
        return FAIL(MISMATCH, "%s: model.%s is %.*s, which is not supported", parsing->path,
                    member[i].name, vocab_shown(&member[i]), member[i].raw);
    }
    TRY(need_flag(parsing, "model", &member[FALLBACK], false, false));
    TRY(vocab_flag(parsing, "model", &member[WHOLE], false, &parsing->vocab->ignore_merges));
    TRY(vocab_read_tokens(parsing, &member[VOCAB], added->bytes));
    TRY(vocab_read_merges(parsing, &member[MERGES]));
    TRY(vocab_read_added(parsing, added));
    return vocab_check_tokens(parsing);
}

static void hash_text(XXH3_state_t *state, const char *text, size_t bytes) {
    const uint64_t length = bytes;
    XXH3_64bits_update(state, &length, sizeof length);
    if (bytes > 0) XXH3_64bits_update(state, text, bytes);
}

// Over what was understood, so that a file that is only written differently is the same.
static enum status hash_vocab(struct vocab *vocab) {
    XXH3_state_t *state = XXH3_createState();
    if (state == NULL) return FAIL(NO_MEMORY, "a hash");
    const char flags[] = {
        'b', 'p', 'e', '1', vocab->nfc ? 'n' : '-', vocab->ignore_merges ? 'i' : '-'};
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, flags, sizeof flags);
    hash_text(state, vocab->pattern, vocab->pattern == NULL ? 0 : strlen(vocab->pattern));
    for (int32_t id = 0; id < vocab->ids; id++) {
        const struct vocab_token *token = &vocab->token[id];
        const char kind[] = {token->text != NULL ? 't' : '-', token->added ? 'a' : '-',
                             token->normalized ? 'n' : '-', token->of_merges ? 'm' : '-'};
        XXH3_64bits_update(state, kind, sizeof kind);
        hash_text(state, token->text, token->bytes);
    }
    uint64_t merges = 0; // a sum, for their places in the table say nothing
    for (size_t i = 0; i < vocab->merges.room; i++) {
        const struct merge *merge = &vocab->merges.merge[i];
        if (merge->pair != 0) merges += XXH3_64bits(merge, sizeof *merge);
    }
    XXH3_64bits_update(state, &merges, sizeof merges);
    vocab->hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return STATUS_OK;
}

static enum status parse(struct vocab_parsing *parsing, const char *text, size_t bytes) {
    enum { MODEL, ADDED, NORMALIZER, SPLIT, POST, DECODER, TRUNCATION, PADDING, MEMBERS };
    struct vocab_member member[MEMBERS] = {{.name = "model"},          {.name = "added_tokens"},
                                           {.name = "normalizer"},     {.name = "pre_tokenizer"},
                                           {.name = "post_processor"}, {.name = "decoder"},
                                           {.name = "truncation"},     {.name = "padding"}};
    TRY(vocab_members(parsing, "the file", text, bytes, member, MEMBERS));
    TRY(read_normalizer(parsing, &member[NORMALIZER]));
    TRY(read_pre_tokenizer(parsing, &member[SPLIT]));
    TRY(check_post_processor(parsing, &member[POST], false));
    TRY(check_decoder(parsing, &member[DECODER]));
    TRY(read_model(parsing, &member[MODEL], &member[ADDED]));
    for (int i = TRUNCATION; i <= PADDING; i++) {
        if (vocab_is_null(&member[i])) continue;
        LOG(WARN, "%s: %s is not followed: documents are taken whole", parsing->path,
            member[i].name);
    }
    return hash_vocab(parsing->vocab);
}

enum status vocab_parse(const char *path, const char *text, size_t bytes, struct vocab **parsed) {
    struct vocab_parsing parsing = {.path = path, .vocab = calloc(1, sizeof(struct vocab))};
    if (parsing.vocab == NULL) return FAIL(NO_MEMORY, "a tokenizer");
    const enum status status = parse(&parsing, text, bytes);
    free(parsing.name_text);
    free(parsing.name);
    free(parsing.slot);
    free(parsing.odd);
    if (status != STATUS_OK) {
        vocab_free(parsing.vocab);
        return status;
    }
    *parsed = parsing.vocab;
    return STATUS_OK;
}

void vocab_free(struct vocab *vocab) {
    if (vocab == NULL) return;
    merges_free(&vocab->merges);
    free(vocab->token);
    free(vocab->text);
    free(vocab->pattern);
    free(vocab);
}
